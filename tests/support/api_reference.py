"""The API reference as one Markdown page, from the OpenAPI document."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from hetuflow.api.endpoints import ENDPOINTS
from hetuflow.api.openapi import TAGS, document

Schema = Mapping[str, Any]

HEAD = """\
The same as `/docs` of a server shows it and `/docs/openapi.json` tells programs. Paths are relative to the server's address, `http://localhost:8080`
unless configured otherwise.
"""


def api_reference(generated: str) -> str:
    told = document(ENDPOINTS, "1")
    schemas = told["components"]["schemas"]
    parts = ["# REST API\n", generated, HEAD, told["info"]["description"]]
    parts.append("## Endpoints\n")
    parts.append("| | method | path | |\n|---|---|---|---|\n" + "\n".join(_contents()) + "\n")
    for tag, text in TAGS.items():
        mine = [endpoint for endpoint in ENDPOINTS if endpoint.tag == tag]
        if mine:
            parts.append(f"## {tag.capitalize()}\n\n{text}\n")
            parts += [_operation(endpoint, told["paths"][endpoint.path][endpoint.method.lower()]) for endpoint in mine]
    parts.append(
        "## Shapes\n\n`?` = may be null. Names that end in `Input`, `Create`, `Update` or `Query` are requests.\n"
    )
    parts += [_shape(name, schemas[name]) for name in sorted(schemas)]
    return "\n".join(parts)


def _contents() -> Iterator[str]:
    for endpoint in ENDPOINTS:
        yield f"| [{endpoint.number}](#{_anchor(_title(endpoint))}) | {endpoint.method} | `{endpoint.path}` | {endpoint.summary} |"


def _title(endpoint: Any) -> str:
    return f"{endpoint.number} {endpoint.summary}"


def _anchor(title: str) -> str:
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def _operation(endpoint: Any, told: Mapping[str, Any]) -> str:
    lines = [f"### {_title(endpoint)}\n", f"`{endpoint.method} {endpoint.path}`"]
    lines += [f"or `{method} {path}`" for method, path in endpoint.aliases]
    if told["parameters"]:
        lines.append("\n| parameter | in | type | |\n|---|---|---|---|")
        for each in told["parameters"]:
            text = _cell(each.get("description", ""))
            lines.append(f"| `{each['name']}` | {each['in']} | {_type(each['schema'])} | {text} |")
    lines.append("")
    if endpoint.takes_bytes:
        lines.append(
            f"Request: the bytes of a file, at most {endpoint.body_bytes_max // 2**20} MiB, of any media type.\n"
        )
    elif (body := told.get("requestBody")) is not None:
        content = body["content"]["application/json"]
        schema = {each.get("$ref"): each for each in content["schema"].get("anyOf", [content["schema"]])}
        named = next((each for ref, each in schema.items() if ref), None)
        what = _type(named) if named is not None else "nothing: empty, `null` or `{}`"
        lines.append(f"Request: {what}{'' if body['required'] or named is None else ', or nothing'}.\n")
        if "example" in content:
            lines.append(f"```json\n{json.dumps(content['example'], ensure_ascii=False)}\n```\n")
    if "200" in told["responses"]:
        answers = [f"{_type(each['schema'])} ({media})" for media, each in told["responses"]["200"]["content"].items()]
        lines.append(f"Reply: {', or '.join(answers).replace(' (application/json)', '')}.\n")
    others = [status for status in told["responses"] if status != "200"]
    lines.append(f"Other statuses: {', '.join(others)}.\n")
    return "\n".join(lines)


def _shape(name: str, schema: Schema) -> str:
    lines = [f"### {name}\n"]
    if note := schema.get("description"):
        lines.append(f"{_sentence(note)}\n")
    if "properties" not in schema:
        return "\n".join([*lines, f"{_type(schema)}\n"])
    required = set(schema.get("required", ()))
    is_answer = bool(required) and required == set(schema["properties"])
    lines.append("| member | type | default | |\n|---|---|---|---|")
    for member, each in schema["properties"].items():
        default = f"`{json.dumps(each['default'], ensure_ascii=False)}`" if "default" in each else ""
        if member in required and not is_answer:
            default = "**required**"
        lines.append(f"| `{member}` | {_type(each)} | {default} | {_cell(each.get('description', ''))} |")
    for pattern, each in schema.get("patternProperties", {}).items():
        lines.append(f"| `{_cell(pattern)}` | {_type(each)} | | {_cell(each.get('description', ''))} |")
    if schema.get("additionalProperties") is True:
        lines.append("\nOther members are kept.")
    return "\n".join([*lines, ""])


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _type(schema: Schema) -> str:
    """A few words for a schema, with a link where it has a name."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema and "properties" not in schema:
        kinds = [each for each in schema["anyOf"] if each != {"type": "null"}]
        shown = " or ".join(dict.fromkeys(map(_type, kinds)))
        return shown + ("?" if len(kinds) < len(schema["anyOf"]) else "")
    kind = schema.get("type")
    if isinstance(kind, list):
        rest = [each for each in kind if each != "null"]
        return " or ".join(_type({**schema, "type": each}) for each in rest) + ("?" if len(rest) < len(kind) else "")
    if kind == "array":
        return f"array of {_type(schema.get('items', {}))}"
    if "enum" in schema and len(schema["enum"]) <= 12:
        return ", ".join(f"`{json.dumps(each)}`" for each in schema["enum"])
    return {"null": "null", None: "any"}.get(kind, str(kind)) + _range(schema)


def _range(schema: Schema) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if schema.get("type") == "integer" and low is not None:
        return f" {low}-{high}" if high is not None and high < 2**53 - 1 else f" ≥ {low}"
    if schema.get("format"):
        return f" ({schema['format']})"
    if "maxLength" in schema:
        return f" {schema.get('minLength', 0)}-{schema['maxLength']}"
    return ""
