"""A client's files, served beside the API (`server.static_dir`). Read once at the start: a file that changes needs a
restart, and no request touches the disk."""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping, Sequence
from pathlib import Path

from attrs import frozen

from hetuflow.api.errors import ApiError

TOTAL_BYTES_MAX = 256 * 1024 * 1024


@frozen(slots=True)
class StaticFiles:
    files: Mapping[str, tuple[bytes, bytes]]

    @classmethod
    def load(cls, directory: str) -> StaticFiles:
        """Raises `ValueError` when it holds more than `TOTAL_BYTES_MAX`, `OSError` when it cannot be read."""
        root, total = Path(directory), 0
        files: dict[str, tuple[bytes, bytes]] = {}
        for path in sorted(root.rglob("*")):
            if not path.is_file():
                continue
            total += path.stat().st_size
            if total > TOTAL_BYTES_MAX:
                raise ValueError(f"server.static_dir: {directory} holds more than {TOTAL_BYTES_MAX} bytes")
            kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
            files[path.relative_to(root).as_posix()] = (kind.encode(), path.read_bytes())
        return cls(files)

    def find(self, segments: Sequence[str]) -> tuple[bytes, bytes]:
        """Media type and content of that file, else of `index.html`."""
        found = self.files.get("/".join(segments)) or self.files.get("index.html")
        if found is None:
            raise ApiError(404, f"there is nothing at /{'/'.join(segments)}")
        return found
