"""Which arguments of a command line are not data but code: a shell's script, an interpreter's program.

A shell's script may have expressions in it, since a value can be handed to it beside the script (`shell`). Other code may
not: a value in it would be part of the program.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

SHELLS = frozenset({"sh", "bash", "dash", "ash", "ksh", "mksh", "zsh", "rbash"})
"""Shells of the POSIX family: they read `"${NAME?}"` alike."""

_WITH_VALUE = frozenset({"--rcfile", "--init-file"})

_CODE: Mapping[str, tuple[str, ...]] = {
    "python": ("-c",),
    "pypy": ("-c",),
    "perl": ("-e", "-E"),
    "ruby": ("-e",),
    "node": ("-e", "-p", "--eval", "--print"),
    "nodejs": ("-e", "-p", "--eval", "--print"),
    "bun": ("-e", "-p", "--eval", "--print"),
    "php": ("-r", "-B", "-R", "-E"),
    "lua": ("-e",),
    "Rscript": ("-e",),
    "R": ("-e",),
    "fish": ("-c", "-C", "--command", "--init-command"),
    "csh": ("-c",),
    "tcsh": ("-c",),
    "nu": ("-c", "--commands"),
    "pwsh": ("-c", "-Command", "-command"),
    "powershell": ("-c", "-Command", "-command"),
    "psql": ("-c", "--command"),
    "mysql": ("-e", "--execute"),
    "mariadb": ("-e", "--execute"),
    "su": ("-c", "--command"),
    "runuser": ("-c", "--command"),
    "flock": ("-c", "--command"),
    "script": ("-c", "--command"),
    "xonsh": ("-c",),
    "elvish": ("-c",),
    "env": ("-S", "--split-string"),
}
_TAKE_WORDS_FIRST = frozenset({"psql", "mysql", "mariadb", "su", "runuser", "flock", "script", "env"})
"""Their options may follow other words; with the rest, a first word that is no option is a program's file, which ends them."""

_ALL_CODE = frozenset(
    {"ssh", "rsh", "mosh", "eval", "parallel", "watch", "tmux", "screen", "entr", "at", "batch", "sqlite3"}
)
"""Every word of theirs may end up in a shell, on this machine or another, or as a statement."""
_WRAPPERS = frozenset(
    {"env", "sudo", "doas", "nice", "ionice", "nohup", "timeout", "setsid", "stdbuf", "time", "chrt", "taskset"}
    | {"unshare", "nsenter", "chroot", "xargs", "flock", "systemd-run", "docker", "podman", "kubectl", "busybox"}
)
"""Behind these another program is named. Elsewhere a word such as `batch` is only a word."""
_FIRST_IS_CODE: Mapping[str, frozenset[str]] = {
    name: frozenset({"-F", "-v", "-f", "--assign", "--field-separator", "--file"})
    for name in ("awk", "gawk", "mawk", "nawk")
}
"""The first word that is no option is the program; these options take the next word."""

_VERSION = re.compile(r"[0-9.]+$")


def scripts(words: Sequence[str]) -> frozenset[int]:
    """Indexes of the words that a shell reads as its script (`bash -c SCRIPT`), wherever the shell stands."""
    return frozenset(
        index for at, word in enumerate(words) if _name(word) in SHELLS for index in _script(words, at + 1)
    )


def _script(words: Sequence[str], start: int) -> Iterator[int]:
    """The first word that is no option, when one of the options is `c`."""
    has_c, skip = False, 0
    for index in range(start, len(words)):
        word = words[index]
        if skip:
            skip -= 1
        elif word in ("-", "--"):
            if has_c and index + 1 < len(words):
                yield index + 1
            return
        elif word.startswith("--"):
            skip = word in _WITH_VALUE
        elif word[:1] in ("-", "+") and len(word) > 1:
            has_c = has_c or (word[0] == "-" and "c" in word)
            skip = word.count("o") + word.count("O")
        else:
            if has_c:
                yield index
            return


def code(words: Sequence[str]) -> Mapping[int, str]:
    """Indexes of the words that an interpreter other than those shells reads as code, and the interpreter's name."""
    found: dict[int, str] = {}
    is_wrapped = _name(words[0]) in _WRAPPERS
    for at, word in enumerate(words):
        name = _name(word)
        rest = range(at + 1, len(words))
        if name in _ALL_CODE and (at == 0 or is_wrapped):
            found |= dict.fromkeys(rest, name)
        elif name in _FIRST_IS_CODE:
            found |= dict.fromkeys(_first(words, at + 1, _FIRST_IS_CODE[name]), name)
        elif (options := _CODE.get(name) or _CODE.get(_VERSION.sub("", name))) and (
            name in _TAKE_WORDS_FIRST or (words[at + 1 : at + 2] and words[at + 1].startswith("-"))
        ):
            found |= {index: name for index in rest if _is_code(words[index - 1], words[index], options)}
    return found


def _first(words: Sequence[str], start: int, with_value: frozenset[str]) -> Iterator[int]:
    index = start
    while index < len(words):
        if words[index] in with_value:
            index += 2
        elif words[index].startswith("-"):
            index += 1
        else:
            yield index
            return


def _is_code(before: str, word: str, options: Sequence[str]) -> bool:
    """After the option (alone, or last of a cluster: `-lne`), or written together with it (`-eCODE`, `--eval=CODE`)."""
    for option in options:
        if option.startswith("--"):
            if before == option or word.startswith(option + "="):
                return True
        elif (before.startswith("-") and not before.startswith("--") and before.endswith(option[1:])) or (
            word.startswith("-") and not word.startswith("--") and option[1:] in word
        ):
            return True
    return False


def _name(word: str) -> str:
    return word.rsplit("/", 1)[-1]
