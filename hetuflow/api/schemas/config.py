"""TaskConfig: what to run and how. Open: unknown members are kept, unless they resemble a known one."""

from __future__ import annotations

from attrs import evolve

from hetuflow.api.kinds import INT32_MAX, Array, Boolean, Integer, Number, Text
from hetuflow.api.objects import StringTable, Variables
from hetuflow.api.schemas.execution import EXECUTION
from hetuflow.api.schemas.limits import TASK_LIMITS
from hetuflow.api.schemas.parameters import DeclaredParameters
from hetuflow.api.schemas.retry import RETRY
from hetuflow.api.shapes import Member, Shape
from hetuflow.domain.config import CMD_LENGTH_MAX, DEFAULTS, MAX_RETRIES_MAX, RESERVED

LIMITS = Shape(
    title="ResourceLimits",
    is_sparse=True,
    members=[
        Member(name="max_memory_mb", kind=Integer(1), nullable=True, doc="MiB of the process tree"),
        Member(
            name="max_cpu_percent",
            kind=Number(above=0),
            nullable=True,
            doc="of the process tree, as a share of one core: 0.8 = 80 % of one core, 2.0 = two cores",
        ),
        Member(name="max_processes", kind=Integer(1), nullable=True, doc="processes and threads of the process tree"),
        Member(
            name="max_execution_time_secs",
            kind=Integer(),
            nullable=True,
            doc="seconds; the smaller of this and `timeout` holds",
        ),
        Member(
            name="max_output_size_bytes",
            kind=Integer(),
            nullable=True,
            doc="bytes; the smaller of this and `max_output_size` holds",
        ),
    ],
)

MAX_RETRIES = Integer(0, MAX_RETRIES_MAX)

CONFIG = Shape(
    title="TaskConfig",
    is_open=True,
    ignored=frozenset({"retry_count"}),
    reserved=frozenset(RESERVED),
    unlike={
        "params": r"params?_?\d+",
        "files": r"\w*profiles\w*",
        "python": r"python_\w+|\w+_python",
        "nice": r"\w+nice|nice\w+",
        "wasm": r"wasm_\w+|\w+_wasm",
    },
    members=[
        Member(
            name="timeout",
            kind=Integer(),
            default=DEFAULTS["timeout"],
            doc="seconds from process start; 0 = no limit. Exceeded: the process tree is ended, instance Timeout",
        ),
        Member(
            name="max_retries",
            kind=MAX_RETRIES,
            default=DEFAULTS["max_retries"],
            doc="retries after the first run: 3 = at most four starts",
        ),
        Member(
            name="retry_interval",
            kind=Integer(),
            default=DEFAULTS["retry_interval"],
            doc="seconds from the end of a run to its retry; `retry` may let it grow",
        ),
        Member(
            name="cmd",
            kind=Text(CMD_LENGTH_MAX, 1),
            default=DEFAULTS["cmd"],
            doc="program, found on the agent's path, started without a shell",
        ),
        Member(
            name="args",
            kind=Array(Text()),
            default=[],
            doc="argv after the program, passed verbatim; with `params`, `{{ params.name }}` stands for a value",
        ),
        Member(
            name="capture_output",
            kind=Boolean(),
            default=DEFAULTS["capture_output"],
            doc="false: output is discarded",
        ),
        Member(
            name="max_output_size",
            kind=Integer(),
            default=DEFAULTS["max_output_size"],
            doc="bytes kept of stdout and stderr together; the rest is dropped and marked",
        ),
        Member(
            name="environment",
            kind=Variables(),
            nullable=True,
            default=None,
            doc="merged over the job's environment",
        ),
        Member(
            name="labels",
            kind=StringTable(),
            nullable=True,
            default=None,
            doc="required agent labels: every pair must equal the agent's",
        ),
        Member(name="resource_limits", kind=LIMITS, nullable=True, default=None),
        Member(
            name="start_deadline_seconds",
            kind=Integer(),
            default=DEFAULTS["start_deadline_seconds"],
            doc="seconds from `scheduled_at` within which it must be given to an agent, else it is cancelled with cause"
            " `expired`; 0 = no deadline",
        ),
        Member(
            name="params",
            kind=DeclaredParameters(),
            nullable=True,
            default=None,
            doc="declared parameters by name; with them, unknown or unfit `parameters` are refused, and `{{ … }}` in `args`"
            " is a template; null = anything passes, and `args` are verbatim",
        ),
        Member(
            name="retry", kind=RETRY, nullable=True, default=None, doc="null = every result, `retry_interval` apart"
        ),
        Member(
            name="limits",
            kind=TASK_LIMITS,
            nullable=True,
            default=None,
            doc="how many tasks run at once, and how often the job starts; until a limit allows it, a task waits",
        ),
        *EXECUTION,
    ],
)

CONFIG_OF_TASK = Shape(
    title="TaskConfigOfTask",
    is_open=True,
    members=[
        *CONFIG.members,
        Member(name="retry_count", kind=Integer(0, INT32_MAX), doc="retries used"),
    ],
)
"""As a task's answer has it."""

CONFIG_OVERRIDES = evolve(CONFIG, title="TaskConfigOverrides")
"""In a task's create or update: members sent override one by one, so that nothing has a default of its own."""
