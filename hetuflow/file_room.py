"""The gateway's port for files, over the stores of artifacts and kept files."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager

from attrs import frozen

from eventstore.errors import SqlError, StoreClosed, StoreTimeout, StoreUnavailable
from hetuflow.api.endings import InstanceEnd
from hetuflow.domain.file_urls import FILE_URL_RULE, ArtifactUrl, KeptFileUrl, parse_file_url
from hetuflow.gateway.intake import StorageUnavailable
from hetuflow.protocol.messages import ArtifactPart, ArtifactStored, FilePart
from projections.artifacts import ArtifactStore, InvalidArtifact
from projections.kept_files import FileStore

log = logging.getLogger(__name__)

EndOf = Callable[[str], Awaitable[InstanceEnd | None]]
"""How the instance of this id ended; None: it has not, or there is none."""


@frozen(slots=True)
class StoredFiles:
    """See `hetuflow.gateway.files.FileRoom`."""

    artifacts: ArtifactStore
    files: FileStore
    end_of: EndOf

    async def keep(self, parts: Sequence[ArtifactPart]) -> Sequence[ArtifactStored]:
        """What can never be kept is refused, alone: sent again for ever, it would hold up all others."""
        with _translated():
            try:
                stored = await self.artifacts.store(parts)
            except InvalidArtifact as exc:
                if len(parts) > 1:
                    return [told for part in parts for told in await self.keep([part])]
                log.error("an artifact is refused: %s", exc)
                return [_told(parts[0], 0, str(exc))]
        return [_told(part, each.end) for part, each in zip(parts, stored, strict=True)]

    async def part(self, url: str, offset: int, length: int) -> FilePart:
        named = parse_file_url(url)
        with _translated():
            match named:
                case KeptFileUrl(sha256=sha256):
                    return await self._kept(sha256, offset, length)
                case ArtifactUrl():
                    return await self._artifact(named, offset, length)
                case None:
                    return FilePart(token=0, problem=f"{url!r} is no file of the server: {FILE_URL_RULE}")

    async def _kept(self, sha256: str, offset: int, length: int) -> FilePart:
        kept = await self.files.find(sha256)
        if kept is None:
            return FilePart(token=0, problem=f"there is no file {sha256}")
        data = await self.files.read(sha256, offset, length)
        return FilePart(token=0, offset=offset, bytes_total=kept.bytes_total, sha256=sha256, data=data)

    async def _artifact(self, named: ArtifactUrl, offset: int, length: int) -> FilePart:
        found = await self.artifacts.find(named.instance_id, named.path)
        if found is None:
            return await self._why_not(named)
        if offset >= found.stored and not found.is_complete:
            problem = f"{found.stored} of {found.bytes_total} bytes of {named.path!r} have arrived"
            return FilePart(token=0, problem=problem, is_coming=True)
        data = await self.artifacts.read(named.instance_id, found, offset, length)
        return FilePart(token=0, offset=offset, bytes_total=found.bytes_total, sha256=found.sha256, data=data)

    async def _why_not(self, named: ArtifactUrl) -> FilePart:
        end = await self.end_of(named.instance_id)
        what = f"instance {named.instance_id} has no artifact {named.path!r}"
        horizon = await self.artifacts.dropped_before()
        if end is not None and horizon is not None and end.ended_at < horizon:
            return FilePart(token=0, problem=f"{what}: it was dropped by retention")
        if end is not None and end.artifact(named.path) is not None:
            return FilePart(token=0, problem=f"{what} yet", is_coming=True)
        return FilePart(token=0, problem=what if end is not None else f"{what}: it has not ended, or does not exist")


def _told(part: ArtifactPart, end: int, problem: str = "") -> ArtifactStored:
    return ArtifactStored(
        instance_id=part.instance_id, epoch=part.epoch, path=part.path, offset_end=end, problem=problem
    )


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (StoreUnavailable, StoreTimeout, StoreClosed, SqlError) as exc:
        raise StorageUnavailable(str(exc)) from exc
