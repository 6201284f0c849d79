"""docs/guide/what-happened-last-night.md: its commands, on a real night, tell what the page says they tell."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import trio

from tests.support.incident import PAGE, incident, page_commands, run_page

VARYING = re.compile(
    r"[0-9a-f]{8}(-[0-9a-f]{1,12})*"  # ids
    r"|\b\d+(\.\d+)? (ms|s|min|h|d)\b|\b(ms|s|min|h|d|ago|in)\b"  # distances
    r"|left out.*|\(scheduler\)|\(projections\)"  # what the width, or a busy machine, makes of it
)


def words(lines: list[str]) -> set[str]:
    """The words of an output that are the same every night."""
    plain = " ".join(VARYING.sub(" ", line) for line in lines)
    return set(re.findall(r"[A-Za-z][A-Za-z_]+", plain))


@pytest.mark.slow
async def test_the_page_tells_what_happened(tmp_path: Path) -> None:
    page = PAGE.read_text()
    wanted = list(page_commands(page))
    assert len(wanted) > 15 and all(output for command, output in wanted if ">" not in command)
    with trio.fail_after(230):
        async with incident(tmp_path / "data") as cluster:
            shown = await trio.to_thread.run_sync(lambda: list(run_page(page, cluster.http_url, tmp_path)))
    for (command, output), done in zip(wanted, shown, strict=True):
        assert done.status == 0, (command, done.lines)
        missing = words(output) - words(done.lines)
        assert not missing, (command, missing, done.lines)
