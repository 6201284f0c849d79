"""Pictures of terminals for the documentation, from what programs really wrote. SVG without fonts from elsewhere."""

from __future__ import annotations

import io
import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from tests.support.terminal import hetuflow_command, terminal

if TYPE_CHECKING:
    from tests.support.incident import Shown

FONTS = re.compile(r"@font-face\s*\{.*?\}", re.DOTALL)


def draw(directory: Path, shown: Sequence[Shown], url: str) -> None:
    """`last-night.svg`: the first commands of the page; `top.svg`: the live view."""
    directory.mkdir(exist_ok=True)
    lines: list[Text] = []
    for one in shown[:3]:
        lines += [Text.assemble(("$ ", "bold green"), (one.command, "bold")), *one.pictures, Text("")]
    save(directory / "last-night.svg", lines, 100, "what happened last night")
    for command in (
        "job run cleanup",
        "job run nightly-backup",
        "job run cleanup",
        "agents labels agent-01 gpu-",
        "job run train",
    ):
        subprocess.run(hetuflow_command(*command.split()), check=True, env=os.environ | {"HETUFLOW_SERVER": url})
    with terminal(hetuflow_command("top", "--interval", "0.5"), environ={"HETUFLOW_SERVER": url}) as top:
        top.until(lambda text: "/s)" in text and "running 3" in text)
        save(directory / "top.svg", top.styled_lines(), 80, "hetuflow top")
        top.press("q")
        top.until_end()


def save(file: Path, lines: Sequence[Text], width: int, title: str) -> None:
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    for line in lines:
        console.print(line, no_wrap=True, overflow="crop", highlight=False)
    svg = console.export_svg(title=title, theme=MONOKAI, unique_id=file.stem)
    svg = FONTS.sub("", svg).replace("Fira Code", "DejaVu Sans Mono, Menlo, Consolas")
    file.write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n")
