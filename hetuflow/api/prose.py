"""What the OpenAPI document says in words: what holds for every endpoint, and the grammar of filters."""

from __future__ import annotations

from hetuflow.api.errors import CODES
from hetuflow.api.filters import ALTERNATIVES_MAX, CONDITIONS_MAX, LIMIT_DEFAULT, LIMIT_MAX, LIST_MAX
from hetuflow.api.operators import OPERATORS, FieldType
from hetuflow.api.requests import BODY_BYTES_MAX, BODY_SECONDS_MAX, HEADER_BYTES_MAX, REQUEST_LINE_BYTES_MAX

_GENERAL = """\
A success is status 200 with the bare value; every answer outside 2xx has the shape `Error`.

## Requests

* Bodies are JSON in UTF-8 with `Content-Type: application/json`. `null` means "not given"; inside free objects (`parameters`, `data`,
  an agent's `config`) it is a value. Unknown members and query parameters are refused, with the nearest known name.
* A POST that takes nothing accepts an empty body, `null` and `{{}}`. HEAD is answered wherever GET is. One trailing slash is accepted.
* Where two names of one member are listed, either may be sent; both only with equal values.
* Update: a member that is absent or `null` stays as it is. With `update_mask` exactly the named members are written, and one that is
  absent or `null` is cleared. A fetched entity can be sent back: its read-only members are ignored.
* Enums are accepted as code, code in decimal, or name (ignoring case, `_` and `-`), and answered as code.
* Times are RFC 3339 with an offset; answers are in UTC with `Z`.
* Limits: body {body} MiB (413) within {seconds:g} s (408), headers {headers} KiB and request line {line} KiB (431).

## Headers

* `X-Request-Id` (`[A-Za-z0-9._-]{{1,64}}`) is kept, or generated, returned with every answer and recorded with the events caused.
* `X-Hetuflow-Position`: of a write, the position of its last event; of a read, the position the answer reflects.
* `X-Hetuflow-Min-Position`: the read waits until that position is visible, at most 2 s (503 `PROJECTION_BEHIND`). What the same client
  address was told by the same server is always visible.
* `Idempotency-Key`: the same request under the same key has one effect; the repetition answers `Idempotency-Replayed: true`.
"""

_FILTERS = """\
## Filters and pages

`{{"filter": {{field: {{operator: value, …}}, …}}, "page": {{…}}}}`; both may be absent. Fields are ANDed, operators of one field are ANDed;
an array of up to {alternatives} filters is ORed; at most {conditions} conditions in all, lists of at most {list} values. The `$` is optional, and
snake_case is the same as camelCase: `$notIn` = `not_in`.

| fields | operators |
|---|---|
{operators}

`$contains`, `$startsWith`, `$endsWith` take literal text, case-sensitive; `…Ci` ignores case; `…Any` takes a list of which one must fit, `…All` a list of
which all must. `$like` without `%` and `_` is "contains, ignoring case", otherwise SQL's LIKE, case-sensitive; `$ilike` always ignores case. A
null satisfies `$null` and `$empty` only, no negation. JSON fields compare whole values or, as `config.cmd`, a value inside; `$contains` is containment.

A page has `limit` rows (1-{limit_max}, default {limit}), from `offset`, or from `page`, or after a cursor (`after`: the `page.next` of the answer before, with the
same filter and order). Paging by cursor takes the same time at any depth and neither repeats nor skips a row because others were added.
`order_bys`: `field`, `!field` or `-field`, `field desc`; default newest first; the id decides the rest; nulls come last.
"""


def description() -> str:
    """CommonMark, for `info.description`."""
    general = _GENERAL.format(
        body=BODY_BYTES_MAX >> 20,
        seconds=BODY_SECONDS_MAX,
        headers=HEADER_BYTES_MAX >> 10,
        line=REQUEST_LINE_BYTES_MAX >> 10,
    )
    filters = _FILTERS.format(
        alternatives=ALTERNATIVES_MAX,
        conditions=CONDITIONS_MAX,
        list=LIST_MAX,
        limit=LIMIT_DEFAULT,
        limit_max=LIMIT_MAX,
        operators="\n".join(f"| {kind.value} | {_operators(kind)} |" for kind in FieldType),
    )
    errors = ", ".join(f"{status} `{code}`" for status, code in CODES.items())
    return f"{general}\n{filters}\n## Errors\n\n{errors}, 503 `PROJECTION_BEHIND`.\n"


def _operators(kind: FieldType) -> str:
    return ", ".join(f"`${name}`" for name in OPERATORS[kind])
