"""Shapes of objects as tables of members, and the one parser that reads requests by them.

A table names each member once: its kind, who may write it, its default, its other names. The parsers of create and
update bodies, the members that are ignored when a fetched entity is sent back, and the OpenAPI schemas all come from it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from attrs import Factory, evolve, field, frozen

from hetuflow.api.jsontext import shown
from hetuflow.api.kinds import INVALID, Kind, Schema
from hetuflow.api.objects import check_free
from hetuflow.api.problems import Problems, nearest, resembles

ABSENT: Final = object()
"""No default: the member is simply not there when it is not given."""


@frozen(slots=True)
class Alias:
    """Another name of a member; `kind` where it has values of its own that mean the member's. `shown`: also in answers."""

    name: str
    kind: Kind | None = None
    shown: Kind | None = None


@frozen(slots=True, kw_only=True)
class Member:
    """One member. `write`: `C` on create, `C!` required there, `U` on update, `W` never returned; empty = read-only."""

    name: str
    kind: Kind
    write: str = ""
    nullable: bool = False
    default: Any = ABSENT
    doc: str = ""
    aliases: Sequence[Alias] = ()
    created: Kind | None = None
    """The kind on create, where fewer values are allowed there."""

    out: Kind | None = None
    """The kind in answers, where it differs."""

    @property
    def on_create(self) -> bool:
        return "C" in self.write

    @property
    def on_update(self) -> bool:
        return "U" in self.write

    @property
    def is_required(self) -> bool:
        return "!" in self.write

    @property
    def is_returned(self) -> bool:
        return "W" not in self.write


@frozen(slots=True, kw_only=True)
class Shape:
    """An object of a request.

    Args:
      ignored: names accepted without effect.
      fixed: members that may be sent, but only with the value that is stored.
      reserved: names refused as not supported yet.
      is_open: unknown members are kept, unless they resemble a known one.
      is_update: nothing is required, and `update_mask` may be given.
      is_sparse: members that were not given are absent from answers too.
      unlike: open names, as regular expressions, that are no slip of a known one: known name -> names.
      one_of: groups of members of which one must be given; only described here, a rule between members checks it.
    """

    title: str
    members: Sequence[Member]
    ignored: frozenset[str] = frozenset()
    fixed: Mapping[str, Kind] = Factory(dict)
    reserved: frozenset[str] = frozenset()
    is_open: bool = False
    is_update: bool = False
    is_sparse: bool = False
    one_of: Sequence[Sequence[str]] = ()
    unlike: Mapping[str, str] = Factory(dict)
    names: Mapping[str, tuple[Member, Kind]] = field(init=False, repr=False)

    @names.default
    def _names(self) -> Mapping[str, tuple[Member, Kind]]:
        names: dict[str, tuple[Member, Kind]] = {}
        for member in self.members:
            names[member.name] = (member, member.kind)
            for alias in member.aliases:
                names[alias.name] = (member, alias.kind or member.kind)
        return names

    @property
    def phrase(self) -> str:
        return "an object"

    @property
    def known(self) -> list[str]:
        """Every name that has an effect, in the order of the table."""
        return list(self.names)

    @property
    def needs_members(self) -> bool:
        """Whether an empty object lacks something."""
        return bool(self.one_of) or (not self.is_update and any(member.is_required for member in self.members))

    def parse(self, value: Any, path: str, problems: Problems) -> Any:
        """As a kind: the given members by their canonical names."""
        if not isinstance(value, dict):
            problems.add(path, f"must be {self.phrase}, got {shown(value)}")
            return INVALID
        before = len(problems)
        given = read(self, value, problems, path=path).members
        return INVALID if len(problems) > before else given

    def schema(self) -> Schema:
        return {"$ref": f"#/components/schemas/{self.title}"}


@frozen(slots=True)
class Given:
    """What a request gave: canonical member -> typed value, and under which name it came."""

    members: dict[str, Any]
    sent_as: dict[str, str] = Factory(dict)

    def path(self, name: str) -> str:
        return self.sent_as.get(name, name)


def read(
    shape: Shape,
    document: Mapping[str, Any],
    problems: Problems,
    *,
    path: str = "",
    stored: Mapping[str, Any] | None = None,
    mask: frozenset[str] | None = None,
) -> Given:
    """Read one object by its shape; every problem is added, none raised.

    Args:
      stored: on update, what is stored: of two names with different values the one that equals it gives way.
      mask: on update, the canonical names to write: one that is absent or null is cleared.
    """
    prefix = f"{path}." if path else ""
    given: dict[str, Any] = {}
    sent_as: dict[str, str] = {}
    for name, value in document.items():
        entry = shape.names.get(name)
        if entry is None:
            _read_other(shape, name, value, prefix, problems, given, stored)
            continue
        member, kind = entry
        if value is None:
            continue
        parsed = kind.parse(value, prefix + name, problems)
        if mask is not None and member.name not in mask:
            continue  # read all the same: what is wrong is refused, wherever it stands
        if parsed is INVALID:
            sent_as.setdefault(member.name, name)
        elif member.name not in given:
            given[member.name], sent_as[member.name] = parsed, name
        elif _same(parsed, given[member.name]):
            if type(given[member.name]) is int:  # of two equal codes keep the one that says more (`once`)
                given[member.name] = parsed
        elif stored is not None and _same(given[member.name], stored.get(member.name)):
            given[member.name], sent_as[member.name] = parsed, name
        elif stored is None or not _same(parsed, stored.get(member.name)):
            other = sent_as[member.name]
            problems.add(prefix + name, f'is another name of "{other}" and has another value')
    if mask is not None:
        _clear(shape, mask, given, problems, prefix)
    elif not shape.is_update:
        _require(shape, given, sent_as, prefix, problems)
    return Given(given, sent_as)


def _read_other(
    shape: Shape,
    name: str,
    value: Any,
    prefix: str,
    problems: Problems,
    given: dict[str, Any],
    stored: Mapping[str, Any] | None,
) -> None:
    """A member that is not in the table's writable names."""
    where = prefix + name.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    if name in shape.ignored:
        return
    if name in shape.fixed:
        parsed = None if value is None else shape.fixed[name].parse(value, where, problems)
        if parsed is not None and parsed is not INVALID and stored is not None and not _same(parsed, stored.get(name)):
            problems.add(where, f"cannot be changed, is {shown(stored.get(name))}")
        return
    if name in shape.reserved:
        problems.add(where, "not supported by this version")
        return
    if shape.is_open:
        near = nearest(
            name, [known for known in (*shape.known, *sorted(shape.ignored)) if _is_slip(shape, name, known)]
        )
        if near is not None:
            problems.add(where, f'unknown member; the nearest known name is "{near}"', near)
        elif check_free({name: value}, prefix.rstrip("."), problems):
            given[name] = value
        return
    problems.unknown(where, name, _where_it_belongs(shape, name) or shape.known)


def _where_it_belongs(shape: Shape, name: str) -> list[str]:
    """A member of a member, given one level too high, as `resource_limits` of a job's `config`."""
    inner = ((member.name, member.kind.names) for member in shape.members if isinstance(member.kind, Shape))
    return [f"{outer}.{name}" for outer, names in inner if name in names]


def _is_slip(shape: Shape, name: str, known: str) -> bool:
    return resembles(name, known) and re.fullmatch(shape.unlike.get(known, "$"), name) is None


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, str) and isinstance(right, str) and len(left) == len(right) == 36:
        return left.lower() == right.lower()
    return type(left) is type(right) and left == right if isinstance(left, bool) else bool(left == right)


def _clear(shape: Shape, mask: frozenset[str], given: dict[str, Any], problems: Problems, prefix: str) -> None:
    for member in shape.members:
        if member.name in mask and member.name not in given:
            if member.nullable:
                given[member.name] = None
            elif not any(problem.path == prefix + member.name for problem in problems):
                problems.add(prefix + member.name, "is named in update_mask, absent or null, and cannot be cleared")


def _require(
    shape: Shape, given: Mapping[str, Any], sent_as: Mapping[str, str], prefix: str, problems: Problems
) -> None:
    for member in shape.members:
        if member.is_required and member.name not in given and member.name not in sent_as:
            problems.add(prefix + member.name, "is required")


@frozen(slots=True, kw_only=True)
class Entity:
    """An entity of the contract's §4: its answer, its create body and its update body are views of one table."""

    title: str
    members: Sequence[Member]
    ignored_on_create: frozenset[str] = frozenset()
    ignored_on_update: frozenset[str] = frozenset()
    one_of_on_create: Sequence[Sequence[str]] = ()
    create: Shape = field(init=False, repr=False)
    update: Shape = field(init=False, repr=False)

    @create.default
    def _create(self) -> Shape:
        return Shape(
            title=f"{self.title}Create",
            members=[evolve(m, kind=m.created or m.kind) for m in self.members if m.on_create],
            ignored=self.ignored_on_create,
            one_of=self.one_of_on_create,
        )

    @update.default
    def _update(self) -> Shape:
        editable = [member for member in self.members if member.on_update]
        ignored = set(self.ignored_on_update)
        for member in self.members:
            if not member.on_update and not member.on_create:
                ignored.add(member.name)
                ignored.update(alias.name for alias in member.aliases)
        fixed = {
            m.name: m.kind
            for m in self.members
            if m.on_create and not m.on_update and m.is_returned and m.name not in ignored
        }
        return Shape(
            title=f"{self.title}Update",
            members=editable,
            ignored=frozenset(ignored - {name for m in editable for name in (m.name, *(a.name for a in m.aliases))}),
            fixed=fixed,
            is_update=True,
        )


def read_mask(shape: Shape, value: Any, problems: Problems) -> frozenset[str] | None:
    """The members that an `update_mask` names: an array, `{"paths": [...]}`, or the members with value true."""
    if value is None:
        return None
    names: Iterable[Any]
    if isinstance(value, dict) and isinstance(value.get("paths"), list):
        names = value["paths"]
        if extra := [name for name in value if name != "paths"]:
            problems.add("update_mask", f"has paths and also {shown(extra[0])}")
    elif isinstance(value, dict):
        if wrong := [name for name, flag in value.items() if not isinstance(flag, bool)]:
            problems.add(f"update_mask.{wrong[0]}", "must be true or false")
        names = [name for name, flag in value.items() if flag is True]
    elif isinstance(value, list):
        names = value
    else:
        problems.add("update_mask", f"must be an array of member names, got {shown(value)}")
        return None
    mask = set()
    for name in names:
        if not isinstance(name, str):
            problems.add("update_mask", f"must hold member names, got {shown(name)}")
        elif name in shape.names:
            mask.add(shape.names[name][0].name)
        elif name not in shape.ignored and name not in shape.fixed:
            problems.unknown(f"update_mask.{name}", name, shape.known)
    return frozenset(mask)


Check = Callable[[Given, Problems], None]
"""A rule between members, run after they have been read."""
