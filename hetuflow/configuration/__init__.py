"""Configuration: settings as data, resolved from defaults < file < environment < flags.

`kinds` says what a value of each kind looks like, `schema` how a program declares its settings, `resolve` how a value is
chosen and where it came from, `log` is the one table that both programs have. The values themselves are declared in
`hetuflow/settings.py` and `agent/settings.py`. Neutral: imports nothing of ours, opens no file, reads no process
environment of its own.
"""

from hetuflow.configuration.kinds import Kind, NotAllowed, without_password
from hetuflow.configuration.log import LOGGING_SETTINGS, LoggingSettings
from hetuflow.configuration.resolve import Configuration, Resolved, read_configuration_file, resolve
from hetuflow.configuration.schema import ConfigurationError, Problem, Schema, Setting, nearest

__all__ = [
    "LOGGING_SETTINGS",
    "Configuration",
    "ConfigurationError",
    "Kind",
    "LoggingSettings",
    "NotAllowed",
    "Problem",
    "Resolved",
    "Schema",
    "Setting",
    "nearest",
    "read_configuration_file",
    "resolve",
    "without_password",
]
