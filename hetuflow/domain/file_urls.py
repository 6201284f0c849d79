"""Paths of the server at which files are: what `files` of a job may name, and what agents may ask for."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from attrs import frozen

_KEPT_PATTERN = "/api/v1/files/([0-9a-f]{64})"
_ID_PATTERN = "[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_ARTIFACT_PATTERN = rf"/api/v1/task-instances/item/({_ID_PATTERN})/artifacts/((?:[^\s%]|%[0-9A-Fa-f]{{2}})+)"
FILE_URL_PATTERN = f"{_KEPT_PATTERN}|{_ARTIFACT_PATTERN}"
"""What is percent-encoded must be UTF-8, too."""

_KEPT, _ARTIFACT = re.compile(_KEPT_PATTERN), re.compile(_ARTIFACT_PATTERN)

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
        path = _unquoted(found[2])
        return ArtifactUrl(found[1].lower(), path) if path else None
    return None


def _unquoted(quoted: str) -> str:
    """ "" where that is no text."""
    try:
        path = unquote(quoted, errors="strict")
    except UnicodeDecodeError:
        return ""
    return "" if "\0" in path else path
