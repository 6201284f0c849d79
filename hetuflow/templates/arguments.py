"""The arguments of a job as templates: checked when they are written, rendered when a task is made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

from attrs import frozen

from hetuflow.templates.expressions import compiled
from hetuflow.templates.filters import VALUE_LENGTH_MAX, FilterError, as_text
from hetuflow.templates.programs import code, scripts
from hetuflow.templates.shell import referring
from hetuflow.templates.text import OPENING, Expression, Part, TemplateError, parts

VARIABLE = "HETUFLOW_ARG_"
"""Variables that hold the values of a shell's script, numbered from 1 over all arguments."""

RENDERED_LENGTH_MAX = 200_000
"""Characters of all that is rendered: an event holds at most 256 KiB."""
EXPRESSIONS_MAX = 200


@frozen(slots=True)
class Fault:
    """What is wrong with one argument. `index` of the argument; `position` in it, from 1; None: of the whole."""

    index: int
    message: str
    suggestion: str | None = None


@frozen(slots=True)
class Rendered:
    """What the program is given. `variables`: the values that a shell's script refers to."""

    args: tuple[str, ...]
    variables: Mapping[str, str]


def has_templates(args: Iterable[str]) -> bool:
    return any(OPENING in arg for arg in args)


def faults(cmd: str, args: Sequence[str], names: Mapping[str, Sequence[str]]) -> list[Fault]:
    """What is wrong with the templates, all of it.

    Args:
      names: root -> the members that it has; those of `params` are the declared parameters.
    """
    found: list[Fault] = []
    kinds = _Kinds.of(cmd, args)
    count = 0
    for index, arg in enumerate(args):
        if OPENING not in arg:
            continue
        try:
            split = parts(arg)
            expressions = [part for part in split if isinstance(part, Expression)]
            count += len(expressions)
            for expression in expressions:
                _check(expression, names)
            _placed(kinds, index, split, [VARIABLE] * len(expressions))
        except TemplateError as wrong:
            found.append(_fault(index, wrong))
    if count > EXPRESSIONS_MAX:
        found.append(Fault(0, f"has, with the others, more than {EXPRESSIONS_MAX} expressions"))
    return found


def _check(expression: Expression, names: Mapping[str, Sequence[str]]) -> None:
    try:
        references = compiled(expression.source).references
    except TemplateError as wrong:
        raise TemplateError(wrong.message, expression.at) from None
    for reference in references:
        if reference.root not in names:
            raise _unknown("there is no", reference.root, list(names), expression.at)
        members = names[reference.root]
        if reference.member is not None and reference.member not in members:
            what = "no parameter is declared as" if reference.root == "params" else f"{reference.root} has no"
            raise _unknown(what, reference.member, members, expression.at)


def _unknown(what: str, name: str, known: Sequence[str], at: int) -> TemplateError:
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"; the nearest is {near[0]!r}" if near else f"; there are: {', '.join(known) or 'none'}"
    return TemplateError(f"{what} {name!r}{hint}", at, near[0] if near else None)


def _fault(index: int, wrong: TemplateError) -> Fault:
    where = "" if wrong.position is None else f"the expression at position {wrong.position + 1}: "
    return Fault(index, where + wrong.message, wrong.suggestion)


def render(cmd: str, args: Sequence[str], context: Mapping[str, Mapping[str, Any]]) -> Rendered:
    """The arguments with their values. `cmd` and `args` have no `faults`.

    Raises:
      TemplateError: a value is missing, cannot be computed, is too long, or would make another argument code.
    """
    plan = _plan(cmd, tuple(args))
    rendered = list(args)
    variables: dict[str, str] = {}
    length = 0
    for one in plan.templated:
        values = [_value(one.index, expression, context) for expression in one.expressions]
        length += sum(map(len, values))
        if length > RENDERED_LENGTH_MAX:
            raise TemplateError(
                f"args[{one.index}]: all values together have more than {RENDERED_LENGTH_MAX} characters"
            )
        if one.script is None:
            rendered[one.index] = _joined(one.parts, values)
        else:
            rendered[one.index] = one.script
            variables.update(zip(one.variables, values, strict=True))
    if plan.has_values_in_words and _Kinds.of(cmd, rendered) != plan.kinds:
        raise TemplateError("a value would make an argument the code of a shell or an interpreter")
    return Rendered(tuple(rendered), variables)


@frozen(slots=True)
class _Templated:
    """One argument with expressions in it. `script`: as a shell is given it, with its `variables`; None: it is a word."""

    index: int
    parts: Sequence[Part]
    expressions: Sequence[Expression]
    script: str | None = None
    variables: Sequence[str] = ()


@frozen(slots=True)
class _Plan:
    kinds: _Kinds
    templated: Sequence[_Templated]

    @property
    def has_values_in_words(self) -> bool:
        return any(one.script is None for one in self.templated)


@lru_cache(maxsize=512)
def _plan(cmd: str, args: tuple[str, ...]) -> _Plan:
    """All that does not depend on the values: a job's tasks share it."""
    kinds = _Kinds.of(cmd, args)
    templated: list[_Templated] = []
    count = 0
    for index, arg in enumerate(args):
        if OPENING not in arg:
            continue
        split = parts(arg)
        expressions = [part for part in split if isinstance(part, Expression)]
        names = [f"{VARIABLE}{count + number}" for number in range(1, len(expressions) + 1)]
        text = _placed(kinds, index, split, names)
        if index in kinds.scripts:
            count += len(names)
            templated.append(_Templated(index, split, expressions, text, names))
        else:
            templated.append(_Templated(index, split, expressions))
    return _Plan(kinds, templated)


@frozen(slots=True)
class _Kinds:
    """Which arguments are code, by index."""

    scripts: frozenset[int]
    code: Mapping[int, str]

    @classmethod
    def of(cls, cmd: str, args: Sequence[str]) -> _Kinds:
        words = [cmd, *args]
        return cls(
            frozenset(index - 1 for index in scripts(words)),
            {index - 1: name for index, name in code(words).items()},
        )


def _placed(kinds: _Kinds, index: int, split: Sequence[Part], texts: Sequence[str]) -> str:
    """The argument with these texts for its expressions: values, or in a script the names of variables."""
    if index in kinds.code:
        name = kinds.code[index]
        first = next(part.at for part in split if isinstance(part, Expression))
        raise TemplateError(
            f"would be part of the code that {name} runs: give the value as an argument of its own, or let the program read"
            " HETUFLOW_PARAM_…",
            first,
        )
    return referring(split, texts) if index in kinds.scripts else _joined(split, texts)


def _joined(split: Sequence[Part], texts: Sequence[str]) -> str:
    left = iter(texts)
    return "".join(part if isinstance(part, str) else next(left) for part in split)


def _value(index: int, expression: Expression, context: Mapping[str, Any]) -> str:
    try:
        text = as_text(compiled(expression.source).value(context))
    except (TemplateError, FilterError) as wrong:
        raise TemplateError(f"args[{index}]: the expression at position {expression.at + 1}: {wrong}") from None
    if len(text.encode(errors="replace")) > VALUE_LENGTH_MAX:
        raise TemplateError(
            f"args[{index}]: the expression at position {expression.at + 1}: has more than {VALUE_LENGTH_MAX} bytes"
        )
    if "\0" in text:
        raise TemplateError(f"args[{index}]: the expression at position {expression.at + 1}: has a NUL character")
    return text
