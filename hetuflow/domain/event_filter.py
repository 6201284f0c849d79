"""Which events of a type start a schedule's job: its `event_filter`, a condition on the event's data.

An object whose members all must hold. A name is a dotted path into the data; its value says what is expected there:
a string is a glob, another scalar is equal, an array is any of these, an object is operators (`{"$gt": 100}`). `$any` and
`$all` take lists of such filters. What was accepted is prepared once and then costs a walk over its conditions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from attrs import frozen

from hetuflow.domain.event_operators import EMPTY, FLAGS, NAMES, NULL, OPERATORS, Operand, canonical, equal
from hetuflow.glob import Glob

DEPTH_MAX: Final = 8
CONDITIONS_MAX: Final = 200

VALUES_MAX: Final = 1000
"""Strings, numbers, true, false and null in a filter."""

NESTED_MAX: Final = 500
"""Lists and objects in a filter. With `$contains` and `$contained` each is held against each list and object of the event."""

COMBINATORS: Final[Mapping[str, Callable[[Iterator[bool]], bool]]] = {"$any": any, "$all": all}

Condition = Callable[[Mapping[str, Any]], bool]
"""(data of an event) -> whether it fits."""

_Test = Callable[[Any], bool]


@frozen(slots=True)
class Fault:
    """One mistake. `name` is not among `known`, where that is the mistake."""

    path: str
    message: str
    name: str | None = None
    known: tuple[str, ...] = ()


# --- checking --------------------------------------------------------------------------------------------------------


def faults(filter_: Any, path: str = "event_filter") -> list[Fault]:
    """Everything that is wrong with a filter, each with its path; empty when it can be used."""
    found = list(_faults_of_filter(filter_, path, 1))
    if not found and (count := _count(filter_)) > CONDITIONS_MAX:
        found.append(Fault(path, f"must have at most {CONDITIONS_MAX} conditions, has {count}"))
    if not found:
        scalars, composites = _values(filter_)
        if scalars > VALUES_MAX:
            found.append(Fault(path, f"must have at most {VALUES_MAX} values, has {scalars}"))
        if composites > NESTED_MAX:
            found.append(Fault(path, f"must have at most {NESTED_MAX} lists and objects, has {composites}"))
    return found


def _faults_of_filter(filter_: Any, path: str, depth: int) -> Iterator[Fault]:
    if not isinstance(filter_, dict):
        yield Fault(path, "must be an object")
        return
    if depth > DEPTH_MAX:
        yield Fault(path, f"must not be nested deeper than {DEPTH_MAX}")
        return
    for name, wanted in filter_.items():
        where = f"{path}.{name}"
        if name in COMBINATORS:
            if not isinstance(wanted, list) or not wanted:
                yield Fault(where, "must be a list of filters, at least one")
            else:
                for index, each in enumerate(wanted):
                    yield from _faults_of_filter(each, f"{where}[{index}]", depth + 1)
        elif name.startswith("$"):
            yield Fault(where, "is no combinator of filters", name, tuple(COMBINATORS))
        elif not all(name.split(".")):
            yield Fault(where, "a path has names between its dots")
        else:
            yield from _faults_of_wanted(wanted, where)


def _faults_of_wanted(wanted: Any, path: str) -> Iterator[Fault]:
    if isinstance(wanted, list):
        if not wanted:
            yield Fault(path, "must be a list of at least one value")
        for index, each in enumerate(wanted):
            if isinstance(each, dict | list):
                yield Fault(f"{path}[{index}]", "must be a string, a number, true, false or null")
    elif isinstance(wanted, dict):
        if not wanted:
            yield Fault(path, "must have at least one operator")
        for name, operand in wanted.items():
            yield from _faults_of_operator(name, operand, f"{path}.{name}")


def _faults_of_operator(name: str, operand: Any, path: str) -> Iterator[Fault]:
    known = canonical(name)
    if known not in OPERATORS and known not in FLAGS:
        yield Fault(path, "is no operator (a member inside an object is named by a dotted path)", name, NAMES)
        return
    expected = OPERATORS[known].operand if known in OPERATORS else Operand.FLAG
    if not expected.accepts(operand):
        yield Fault(path, f"must be {expected.value}")


def _count(filter_: Mapping[str, Any]) -> int:
    return sum(sum(map(_count, wanted)) if name in COMBINATORS else 1 for name, wanted in filter_.items())


def _values(value: Any) -> tuple[int, int]:
    """How many scalars, and how many lists and objects, it consists of."""
    if not isinstance(value, dict | list):
        return 1, 0
    inner = [_values(each) for each in (value.values() if isinstance(value, dict) else value)]
    return sum(scalars for scalars, _ in inner), 1 + sum(composites for _, composites in inner)


# --- matching --------------------------------------------------------------------------------------------------------


def condition(filter_: Mapping[str, Any] | None) -> Condition:
    """The filter, prepared; None and `{}` fit every event. It must be without `faults`."""
    parts = [_part(name, wanted) for name, wanted in (filter_ or {}).items()]
    return lambda data: all(part(data) for part in parts)


def _part(name: str, wanted: Any) -> Condition:
    combine = COMBINATORS.get(name)
    if combine is not None:
        inner = [condition(each) for each in wanted]
        return lambda data: combine(each(data) for each in inner)
    names, test = name.split("."), _test_of(wanted)
    return lambda data: test(value_at(data, names))


def value_at(data: Any, names: Sequence[str]) -> Any:
    """What stands at a path; None when nothing does. A number names an element of a list."""
    for name in names:
        if isinstance(data, dict):
            data = data.get(name)
        elif isinstance(data, list) and name.isascii() and name.isdigit() and len(name) < 10:
            data = data[int(name)] if int(name) < len(data) else None
        else:
            return None
    return data


def _test_of(wanted: Any) -> _Test:
    if isinstance(wanted, str):
        glob = Glob(wanted)
        return lambda value: isinstance(value, str) and glob.matches(value)
    if isinstance(wanted, list):
        tests = [_test_of(each) for each in wanted]
        return lambda value: any(test(value) for test in tests)
    if isinstance(wanted, dict):
        operators = [_operator(canonical(name), operand) for name, operand in wanted.items()]
        return lambda value: all(test(value) for test in operators)
    return lambda value: equal(value, wanted)


def _operator(name: str, operand: Any) -> _Test:
    if name == NULL:
        return lambda value: (value is None) is operand
    if name == EMPTY:
        return lambda value: (value is None or value == "") is operand
    test = OPERATORS[name].test(operand)
    return lambda value: value is not None and test(value)


@frozen(slots=True)
class Mismatch:
    """A condition that an event does not fulfil. `found` is what stands at the path; of `$any` and `$all`, nothing."""

    path: str
    wanted: Any
    found: Any


def mismatches(filter_: Mapping[str, Any] | None, data: Mapping[str, Any]) -> list[Mismatch]:
    """The members of the filter that the event's data do not fit; empty when it fits."""
    return [
        Mismatch(name, wanted, None if name in COMBINATORS else value_at(data, name.split(".")))
        for name, wanted in (filter_ or {}).items()
        if not _part(name, wanted)(data)
    ]


def globs_at(filter_: Mapping[str, Any] | None, name: str) -> tuple[str, ...]:
    """The globs that what stands at `name` has to fit at least one of, as far as the filter tells; none: it does not."""
    for member, wanted in (filter_ or {}).items():
        if member == name and (found := _globs_of(wanted)):
            return found
        if member == "$all":
            found = next((found for each in wanted if (found := globs_at(each, name))), ())
            if found:
                return found
        if member == "$any":
            each_of = [globs_at(each, name) for each in wanted]
            if all(each_of):
                return tuple(dict.fromkeys(glob for globs in each_of for glob in globs))
    return ()


def _globs_of(wanted: Any) -> tuple[str, ...]:
    if isinstance(wanted, str):
        return (wanted,)
    if isinstance(wanted, list) and all(isinstance(each, str) for each in wanted):
        return tuple(wanted)
    return ()
