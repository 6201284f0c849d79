"""Where the expressions of a text are. Only `{{ … }}` means anything: `{%`, `{#` and a lone `}}` are text, verbatim.

A shell's `${#list[@]}` or awk's `{%s}` therefore stay what they are. A literal `{{` is written `{{ '{{' }}`.
"""

from __future__ import annotations

from attrs import frozen

OPENING, CLOSING = "{{", "}}"
EXPRESSION_LENGTH_MAX = 500
"""Characters of one expression: bounds the depth of what is parsed."""


class TemplateError(ValueError):
    """The template is wrong, or its value cannot be had. `position` counts characters from 0; None: not of one place."""

    def __init__(self, message: str, position: int | None = None, suggestion: str | None = None) -> None:
        self.message, self.position, self.suggestion = message, position, suggestion
        super().__init__(message)


@frozen(slots=True)
class Expression:
    """`source` between the braces; `at`: where they open."""

    source: str
    at: int


Part = str | Expression


def parts(text: str) -> list[Part]:
    """The text in order: literals, which are not empty, and expressions.

    Raises:
      TemplateError: an expression that does not end, is empty, or is too long.
    """
    found: list[Part] = []
    start = 0
    while (at := text.find(OPENING, start)) >= 0:
        if at > start:
            found.append(text[start:at])
        end = _end(text, at + len(OPENING))
        source = text[at + len(OPENING) : end].strip()
        if not source:
            raise TemplateError("is empty", at)
        found.append(Expression(source, at))
        start = end + len(CLOSING)
    if start < len(text):
        found.append(text[start:])
    return found


def _end(text: str, start: int) -> int:
    """Where the expression closes; braces in its strings do not count."""
    quote = ""
    position = start
    while position < len(text):
        character = text[position]
        if position - start > EXPRESSION_LENGTH_MAX:
            raise TemplateError(f"is longer than {EXPRESSION_LENGTH_MAX} characters", start - len(OPENING))
        if quote:
            if character == "\\":
                position += 1
            elif character == quote:
                quote = ""
        elif character in "'\"":
            quote = character
        elif text.startswith(CLOSING, position):
            return position
        position += 1
    raise TemplateError("does not end: }} is missing (a literal {{ is written {{ '{{' }})", start - len(OPENING))
