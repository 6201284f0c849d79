"""Values in a shell's script: they never become part of its text.

What is put in the place of an expression is a reference to a variable of the environment, which holds the value: a shell does
not read the value of a variable as code, whatever is in it. So safety does not rest on how the script was read here. What
does is that the value arrives as one word: unquoted the reference is written `"${NAME?}"`, inside double quotes `${NAME?}`,
inside single ones `'"${NAME?}"'`. Where this reading of the script cannot tell (a here-document, backticks, arithmetic, a
comment), the expression is refused.

`?`: a wrapper that empties the environment (sudo, say) makes the script fail, not go on with nothing in the value's place.

Source of the quoting rules: POSIX.1-2024, Shell Command Language, 2.2 and 2.3.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from attrs import define, field

from hetuflow.templates.text import Part, TemplateError

_SIMPLE_EXPANSION = re.compile(r"""\$\{[^'"\\`${}]*\}""")
_CASE = re.compile(r"case\b")
_WORD_BREAK = frozenset(" \t\n;&|()<>")


@define
class _Reader:
    """Where in the script we are. `stack`: `(` for each open `$(`, with its own parentheses counted; `"` for double quotes."""

    stack: list[list[str]] = field(factory=lambda: [["("]])
    mode: str = ""  # "", "'" single quotes, "$'" the C-like ones, "#" a comment
    is_word_start: bool = True
    lost: str | None = None
    is_escaped: bool = False
    after_dollar: bool = False

    @property
    def is_double(self) -> bool:
        return self.stack[-1][0] == '"'

    def read(self, text: str) -> None:
        index = 0
        self.is_escaped = self.after_dollar = False
        while index < len(text) and self.lost is None:
            index += self._step(text, index)

    def _step(self, text: str, index: int) -> int:
        """Read on from there; how many characters it took."""
        character = text[index]
        if self.mode:
            return self._in_mode(text, index)
        if character == "\\":
            self.is_escaped = index + 1 == len(text)
            self.is_word_start = False
            return 2
        if character == "`":
            self.lost = "after backticks, whose quoting differs: write $(…) instead"
        elif character == "$":
            return self._dollar(text, index)
        elif character == '"':
            if self.is_double:
                self.stack.pop()
            else:
                self.stack.append(['"'])
            self.is_word_start = False
        elif not self.is_double:
            return self._unquoted(text, index)
        return 1

    def _in_mode(self, text: str, index: int) -> int:
        character = text[index]
        if self.mode == "#":
            if character == "\n":
                self.mode, self.is_word_start = "", True
        elif character == "\\" and self.mode == "$'":
            self.is_escaped = index + 1 == len(text)
            return 2
        elif character == "'":
            self.mode = ""
        return 1

    def _dollar(self, text: str, index: int) -> int:
        self.is_word_start = False
        if text.startswith("$((", index):
            self.lost = (
                "after arithmetic $((…)), in which a shell computes what it is given: compute it in a variable first"
            )
        elif text.startswith("$(", index):
            self.stack.append(["("])
            self.is_word_start = True
            return 2
        elif text.startswith("${", index):
            found = _SIMPLE_EXPANSION.match(text, index)
            if found is None:
                self.lost = "after ${…} with quotes or expansions in it: assign it to a variable on a line above"
                return 1
            return found.end() - index
        elif text.startswith("$'", index) and not self.is_double:
            self.mode = "$'"
            return 2
        self.after_dollar = index + 1 == len(text)
        return 1

    def _unquoted(self, text: str, index: int) -> int:
        character = text[index]
        was_word_start, self.is_word_start = self.is_word_start, character in _WORD_BREAK
        if character == "'":
            self.mode = "'"
        elif character == "#" and was_word_start:
            self.mode = "#"
        elif text.startswith("<<<", index):
            return 3
        elif text.startswith("<<", index):
            self.lost = "after a here-document: use <<< or printf, or a variable"
        elif text.startswith("((", index):
            self.lost = (
                "after arithmetic ((…)), in which a shell computes what it is given: compute it in a variable first"
            )
        elif character == "(":
            self.stack[-1].append("(")
        elif character == ")":
            self._close()
        elif was_word_start and len(self.stack) > 1 and _CASE.match(text, index):
            self.lost = "after a case inside $(…): write it on a line of its own"
        return 1

    def _close(self) -> None:
        if len(self.stack[-1]) > 1:
            self.stack[-1].pop()
        elif len(self.stack) > 1:
            self.stack.pop()
            self.is_word_start = False

    def reference(self, name: str) -> str:
        """What stands for the variable here.

        Raises:
          TemplateError: no value can stand here.
        """
        where = self.lost
        if self.mode == "#":
            where = "in a comment"
        elif self.mode == "$'":
            where = "inside $'…': end the quotes before it"
        elif self.is_escaped:
            where = "after a backslash"
        elif self.after_dollar:
            where = "after a $"
        if where is not None:
            raise TemplateError(f"cannot stand {where}")
        self.is_word_start = False
        if self.mode == "'":
            return f"'\"${{{name}?}}\"'"
        return f"${{{name}?}}" if self.is_double else f'"${{{name}?}}"'


def referring(parts: Sequence[Part], names: Sequence[str]) -> str:
    """The script with references to these variables, one for each expression in order.

    Raises:
      TemplateError: an expression stands where no value can; `position` is its own.
    """
    reader, written, left = _Reader(), [], iter(names)
    for part in parts:
        if isinstance(part, str):
            reader.read(part)
            written.append(part)
            continue
        try:
            written.append(reader.reference(next(left)))
        except TemplateError as wrong:
            raise TemplateError(wrong.message, part.at) from None
        reader.is_escaped = reader.after_dollar = False
    return "".join(written)
