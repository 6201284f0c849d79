"""Paths of the server at which files are: what `files` of a job may name, and what agents may ask for."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from attrs import frozen

_KEPT = re.compile(r"/api/v1/files/([0-9a-f]{64})")
_ARTIFACT = re.compile(
    r"/api/v1/task-instances/item/([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})/artifacts/(.+)"
)

FILE_URL_RULE = "/api/v1/files/<id>, or /api/v1/task-instances/item/<id>/artifacts/<path>"


@frozen(slots=True)
class KeptFileUrl:
    """A file that somebody uploaded, by its digest."""

    sha256: str

    def __str__(self) -> str:
        return f"/api/v1/files/{self.sha256}"


@frozen(slots=True)
class ArtifactUrl:
    """A file that an instance left behind."""

    instance_id: str
    path: str

    def __str__(self) -> str:
        return f"/api/v1/task-instances/item/{self.instance_id}/artifacts/{quote(self.path)}"


def parse_file_url(url: str) -> KeptFileUrl | ArtifactUrl | None:
    """What the path names; None when it is no path of a file. A path of an artifact is percent-decoded once."""
    if found := _KEPT.fullmatch(url):
        return KeptFileUrl(found[1])
    if found := _ARTIFACT.fullmatch(url):
        path = unquote(found[2], errors="strict") if _is_utf8(found[2]) else ""
        return ArtifactUrl(found[1].lower(), path) if path else None
    return None


def _is_utf8(quoted: str) -> bool:
    try:
        unquote(quoted, errors="strict")
    except UnicodeDecodeError:
        return False
    return True
