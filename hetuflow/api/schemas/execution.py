"""The members of a config on how its program is run. What is allowed inside them is the domain's; here it is described."""

from __future__ import annotations

from typing import Any

from attrs import frozen

from hetuflow.api.coded import Word, WordOut
from hetuflow.api.filter_schemas import NULL
from hetuflow.api.kinds import INVALID, Boolean, Integer, Kind, Schema, Text, refuse
from hetuflow.api.objects import check_free
from hetuflow.api.problems import Problems
from hetuflow.api.shapes import Member
from hetuflow.domain import execution, executors, inputs
from hetuflow.domain.enums import OnDisconnect
from hetuflow.domain.execution import DEFAULTS, FAULTS
from hetuflow.domain.file_urls import FILE_URL_PATTERN, FILE_URL_RULE

_STRING: Schema = {"type": "string"}
_PATH: Schema = {"type": "string", "maxLength": inputs.PATH_LENGTH_MAX, "pattern": f"^{inputs.PATH_PATTERN}$"}


def _object(*required: str, **members: Schema) -> Schema:
    """Members that are not required may be null."""
    properties = {name: schema if name in required else {"anyOf": [schema, NULL]} for name, schema in members.items()}
    needed = {"required": list(required)} if required else {}
    return {"type": "object", "properties": properties, **needed, "additionalProperties": False}


def _array(items: Schema, most: int) -> Schema:
    return {"type": "array", "items": items, "maxItems": most}


_TEXTS = _array({"type": "string", "minLength": 1}, 100)
_NAMED: Schema = {"type": "string", "minLength": 1, "maxLength": executors.PATH_LENGTH_MAX}

_SOURCES: dict[str, Schema] = {
    "content": {**_STRING, "description": "the file's text"},
    "base64": {**_STRING, "pattern": f"^{inputs.BASE64_PATTERN}$", "description": "its bytes"},
    "url": {
        **_STRING,
        "maxLength": inputs.URL_LENGTH_MAX,
        "pattern": f"^(?:{FILE_URL_PATTERN})$",
        "description": f"a file of the server: {FILE_URL_RULE}",
    },
}
_MODE: Schema = {**_STRING, "pattern": f"^{inputs.MODE_PATTERN}$", "description": 'default: "0600"'}
_FILE: Schema = {
    "anyOf": [
        _object(name, **{each: schema if each == name else NULL for each, schema in _SOURCES.items()}, mode=_MODE)
        for name in _SOURCES
    ]
}
_ARTIFACT = _object(
    "path",
    path={**_PATH, "description": "a glob"},
    max_bytes={"type": "integer", "minimum": 1},
    optional={"type": "boolean", "description": "true: there may be none"},
)

_INSIDE: dict[str, Schema] = {
    "files": {
        "type": "object",
        "maxProperties": inputs.FILES_MAX,
        "propertyNames": {"maxLength": inputs.PATH_LENGTH_MAX, "pattern": f"^{inputs.PATH_PATTERN}$"},
        "additionalProperties": {"anyOf": [_STRING, _FILE]},
    },
    "artifacts": _array({"anyOf": [_PATH, _ARTIFACT]}, inputs.ARTIFACTS_MAX),
    "python": _object(
        version={**_STRING, "pattern": r"^3(\.\d{1,2})?$", "description": "default: the agent's `python3`"},
        requirements=_array(
            {"type": "string", "pattern": f"^{executors.REQUIREMENT_PATTERN}$"}, executors.REQUIREMENTS_MAX
        ),
        requirements_file={**_NAMED, "description": "on the agent, or one of `files`"},
        venv={**_NAMED, "pattern": "^/", "description": "one that exists; it is used as it is"},
    ),
    "wasm": _object(
        "module",
        module={
            "anyOf": [{**_NAMED, "pattern": f"^{executors.MODULE_PATTERN}$"}, _FILE],
            "description": "a path on the agent, or of one of `files`, or a file of the server; or an object as in `files`",
        },
        function={**_NAMED, "description": "default: `execute_task`"},
        memory_mb={"type": "integer", "minimum": 1, "maximum": executors.MEMORY_MB_MAX, "description": "default: 256"},
        allowed_paths={
            "type": "object",
            "maxProperties": executors.PATHS_MAX,
            "propertyNames": _NAMED,
            "additionalProperties": {**_NAMED, "pattern": "^/"},
            "description": "a path on the agent (`ro:` before it: read only) -> that in the module",
        },
        allowed_hosts=_TEXTS,
        config={
            "type": "object",
            "additionalProperties": {"type": ["string", "number", "boolean"]},
            "description": "text that the module asks for by name",
        },
        sha256={**_STRING, "pattern": f"^{executors.SHA256_PATTERN}$", "description": "the module's, checked"},
    ),
    "executor_options": {"type": "object", "additionalProperties": True},
}


@frozen(slots=True)
class Inside:
    """A member whose inner shape the domain checks."""

    name: str

    @property
    def phrase(self) -> str:
        return execution.BOUNDS[self.name][1].removeprefix("must be ")

    def parse(self, value: Any, path: str, problems: Problems) -> Any:
        if not execution.BOUNDS[self.name][0](value):
            return refuse(self, value, path, problems)
        if not check_free(value, path, problems):
            return INVALID
        found = FAULTS[self.name](value)
        for where, message in found:
            problems.add(f"{path}{where}", message)
        return INVALID if found else value

    def schema(self) -> Schema:
        return _INSIDE[self.name]


@frozen(slots=True)
class Stdin:
    """Text of a bounded size in bytes."""

    @property
    def phrase(self) -> str:
        return f"a string of at most {execution.STDIN_BYTES_MAX} bytes"

    def parse(self, value: Any, path: str, problems: Problems) -> Any:
        parsed = Text().parse(value, path, problems)
        if parsed is INVALID or execution.BOUNDS["stdin"][0](value):
            return parsed
        problems.add(path, f"must be {self.phrase}, got {len(value.encode())}")
        return INVALID

    def schema(self) -> Schema:
        return {"type": "string", "maxLength": execution.STDIN_BYTES_MAX}


def _member(name: str, kind: Kind, doc: str, out: Kind | None = None) -> Member:
    return Member(name=name, kind=kind, nullable=DEFAULTS[name] is None, default=DEFAULTS[name], doc=doc, out=out)


EXECUTION = [
    _member(
        "working_dir",
        Text(execution.PATH_LENGTH_MAX, pattern=execution.WORKING_DIR_PATTERN, meaning="an absolute path"),
        "where the program starts; null = an empty directory of its own",
    ),
    _member("stdin", Stdin(), "text that the program reads from its standard input, then end of file; null = nothing"),
    _member(
        "kill_grace_seconds",
        Integer(0, execution.KILL_GRACE_SECONDS_MAX),
        "between SIGTERM and SIGKILL, when the program is ended",
    ),
    _member(
        "on_disconnect",
        Word(OnDisconnect),
        "when its agent cannot renew the lease: `stop` ends the program, and it is lost; `continue` lets it go on, and its"
        " agent's return is waited for",
        WordOut(OnDisconnect),
    ),
    _member(
        "lost_after_seconds",
        Integer(execution.LOST_AFTER_SECONDS_MIN, execution.LOST_AFTER_SECONDS_MAX),
        "lease of the program: how long it may run without a word between its agent and the server; null = its agent's",
    ),
    _member(
        "idempotent",
        Boolean(),
        "true: running twice at the same time is harmless; with `continue`, it is given to another agent after the lease",
    ),
    _member(
        "run_as",
        Text(32, 1, pattern=execution.RUN_AS_PATTERN, meaning=execution.RUN_AS_RULE),
        "user on the agent's machine; null = the agent's own",
    ),
    _member("umask", Text(4, 3, pattern=execution.UMASK_PATTERN, meaning=execution.UMASK_RULE), 'null = "0077"'),
    _member(
        "nice",
        Integer(execution.NICE_MIN, execution.NICE_MAX),
        "added to the agent's; less than 0 only where the agent's policy allows it",
    ),
    _member(
        "ionice",
        Text(16, pattern=execution.IONICE_PATTERN, meaning=execution.IONICE_RULE),
        "`idle`, `best-effort`, or `best-effort:0` to `best-effort:7`",
    ),
    _member(
        "files",
        Inside("files"),
        f"files that the program finds, by path in its directory: the text, or an object; together at most"
        f" {inputs.FILES_BYTES_MAX} bytes, what is larger by `url`",
    ),
    _member(
        "artifacts", Inside("artifacts"), "files of its directory that are kept after the run: path globs, or objects"
    ),
    _member("python", Inside("python"), "run `cmd` in a Python environment with these packages"),
    _member("wasm", Inside("wasm"), "run a WebAssembly module instead of `cmd`"),
    _member(
        "executor",
        Text(64, 1, pattern=executors.NAME_PATTERN, meaning=executors.NAME_RULE),
        "an executor that is installed on the agent",
    ),
    _member("executor_options", Inside("executor_options"), "what it is told"),
]
