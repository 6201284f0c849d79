"""What an expression may be, and its value.

Jinja2 reads and computes it, in its immutable sandbox with strict undefined values and no loader. The sandbox is not what
safety rests on (it has had its holes): before anything is compiled the syntax tree is held against a list. Names, members,
constants, comparisons, conditions, `~` and our own filters are on it; calls, arithmetic, loops, statements are not, so that
nothing runs, and nothing grows. And members are looked up in objects and arrays only, never among Python's attributes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from attrs import frozen
from jinja2 import StrictUndefined, TemplateSyntaxError, Undefined, nodes
from jinja2.exceptions import TemplateError as JinjaError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from hetuflow.templates.filters import FILTERS, FilterError
from hetuflow.templates.text import TemplateError

TESTS = ("defined", "none", "undefined")
DEPTH_MAX = 40

_ALLOWED: tuple[type[nodes.Node], ...] = (
    nodes.Name,
    nodes.Getattr,
    nodes.Getitem,
    nodes.Const,
    nodes.Filter,
    nodes.Test,
    nodes.Compare,
    nodes.Operand,
    nodes.And,
    nodes.Or,
    nodes.Not,
    nodes.CondExpr,
    nodes.Concat,
)
_WORDS: Mapping[type[nodes.Node], str] = {
    nodes.Call: "a call",
    nodes.Add: "arithmetic",
    nodes.Sub: "arithmetic (a name with - in it is written params['a-b'])",
    nodes.Mul: "arithmetic",
    nodes.Div: "arithmetic",
    nodes.FloorDiv: "arithmetic",
    nodes.Mod: "arithmetic",
    nodes.Pow: "arithmetic",
    nodes.Neg: "arithmetic",
    nodes.Pos: "arithmetic",
    nodes.List: "a list",
    nodes.Tuple: "a tuple",
    nodes.Dict: "an object",
    nodes.Slice: "a slice",
}


class _Sandbox(ImmutableSandboxedEnvironment):
    def getattr(self, obj: Any, attribute: str) -> Any:
        return self.getitem(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        if isinstance(obj, Mapping) and isinstance(argument, str):
            if argument in obj:
                return obj[argument]
        elif isinstance(obj, list) and isinstance(argument, int) and -len(obj) <= argument < len(obj):
            return obj[argument]
        elif isinstance(obj, Undefined):
            return obj
        return self.undefined(name=str(argument))


def _environment() -> _Sandbox:
    sandbox = _Sandbox(undefined=StrictUndefined, autoescape=False, cache_size=0)
    sandbox.globals.clear()
    sandbox.filters = dict(FILTERS)
    sandbox.tests = {name: sandbox.tests[name] for name in TESTS}
    return sandbox


_SANDBOX = _environment()


@frozen(slots=True)
class Reference:
    """A name that an expression uses: `params.day` is ("params", "day"); the whole of it, ("params", None)."""

    root: str
    member: str | None


@frozen(slots=True)
class Compiled:
    references: tuple[Reference, ...]
    _compute: Callable[..., Any]

    def value(self, context: Mapping[str, Any]) -> Any:
        """The value, perhaps an `Undefined`.

        Raises:
          TemplateError: it has none.
        """
        try:
            return self._compute(dict(context))
        except FilterError as wrong:
            raise TemplateError(str(wrong)) from None
        except JinjaError as wrong:
            raise TemplateError(_plain(wrong)) from None
        except (TypeError, ValueError, RecursionError) as wrong:
            raise TemplateError(f"cannot be computed: {wrong}") from None


@lru_cache(maxsize=2048)
def compiled(source: str) -> Compiled:
    """Read one expression.

    Raises:
      TemplateError: it is none, or has something in it that is not allowed.
    """
    try:
        tree = _SANDBOX.parse("{{ " + source + " }}")
    except TemplateSyntaxError as wrong:
        raise TemplateError(_plain(wrong)) from None
    except (RecursionError, ValueError, OverflowError, MemoryError):
        raise TemplateError("cannot be read") from None
    output = tree.body[0] if len(tree.body) == 1 else None
    if not isinstance(output, nodes.Output) or len(output.nodes) != 1:
        raise TemplateError("is not one expression")
    expression = output.nodes[0]
    references = tuple(dict.fromkeys(_checked(expression, 0)))
    return Compiled(references, _SANDBOX.compile_expression(source, undefined_to_none=False))


def _checked(node: nodes.Node, depth: int) -> Iterator[Reference]:
    """Refuse what is not on the list; yield the names used."""
    if _is_negative(node):
        return
    if not isinstance(node, _ALLOWED):
        raise TemplateError(f"has {_WORDS.get(type(node), type(node).__name__)} in it, which is not allowed")
    if depth > DEPTH_MAX:
        raise TemplateError("is nested too deeply")
    if isinstance(node, (nodes.Getattr, nodes.Getitem)):
        yield from _member(node, depth)
        return
    if isinstance(node, nodes.Name):
        yield Reference(node.name, None)
    if isinstance(node, nodes.Filter):
        if node.name not in FILTERS:
            raise TemplateError(f"has an unknown filter {node.name!r}; there are: {', '.join(FILTERS)}")
        if node.kwargs or node.dyn_args is not None or node.dyn_kwargs is not None or node.node is None:
            raise TemplateError(f"{node.name}: only plain arguments are allowed")
    if isinstance(node, nodes.Test) and (node.name not in TESTS or node.args or node.kwargs):
        raise TemplateError(f"has an unknown test {node.name!r}; there are: {', '.join(TESTS)}")
    for child in node.iter_child_nodes():
        yield from _checked(child, depth + 1)


def _is_negative(node: nodes.Node) -> bool:
    """A negative number, which is a constant to everybody but the parser."""
    return isinstance(node, nodes.Neg) and isinstance(node.node, nodes.Const) and type(node.node.value) in (int, float)


def _member(node: nodes.Getattr | nodes.Getitem, depth: int) -> Iterator[Reference]:
    if isinstance(node, nodes.Getattr):
        name: Any = node.attr
    elif isinstance(node.arg, nodes.Const):
        name = node.arg.value
    elif _is_negative(node.arg):
        name = "-"
    else:
        raise TemplateError("has a computed member in it, which is not allowed: write its name")
    if isinstance(name, str) and name.startswith("__"):
        raise TemplateError(f"has {name} in it, which is not allowed")
    if isinstance(node.node, nodes.Name):
        yield Reference(node.node.name, str(name))
    else:
        yield from _checked(node.node, depth + 1)


def _plain(wrong: JinjaError) -> str:
    """Jinja2's sentence, without its class."""
    return (wrong.message or "is wrong").rstrip(".")
