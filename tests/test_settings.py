"""Settings of the server and the agent: defaults, precedence, and mistakes that say what to do."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from attrs import fields
from hypothesis import given
from hypothesis import strategies as st

from agent.policy import Policy
from agent.settings import AgentSettings, ConnectionSettings, ExecutorSettings, agent_schema, load_agent_settings
from hetuflow.configuration import ConfigurationError, Kind, LoggingSettings, Schema, Setting, nearest, resolve
from hetuflow.settings import (
    DatabaseSettings,
    ListenerSettings,
    RetentionSettings,
    SchedulerSettings,
    ServerSettings,
    load_server_settings,
    server_schema,
)

CONFIG, AGENT = Path("/etc/hetuflow/config.toml"), Path("/etc/hetuflow/agent.toml")


def reading(text: str) -> Callable[[Path], str]:
    return lambda path: text


def nothing_there(path: Path) -> str:
    raise FileNotFoundError(2, "No such file or directory", str(path))


def server(text: str = "", environ: dict[str, str] | None = None, **flags: Any) -> ServerSettings:
    named = {name.replace("__", "."): value for name, value in flags.items()}
    return load_server_settings(CONFIG, environ or {}, named, read_text=reading(text))


def agent(text: str = "", environ: dict[str, str] | None = None, **flags: Any) -> AgentSettings:
    named = {name.replace("__", "."): value for name, value in flags.items()}
    return load_agent_settings(AGENT, environ or {}, named, read_text=reading(text))


def problems(load: Callable[..., object], *arguments: Any, **flags: Any) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load(*arguments, **flags)
    return [str(problem) for problem in caught.value.problems]


# --- defaults ------------------------------------------------------------------------------------------------------


def test_server_defaults_are_those_of_the_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    settings = load_server_settings(None, {}, {}, read_text=nothing_there)
    assert settings.logging == LoggingSettings("info", "text")
    assert settings.server == ListenerSettings(
        8080, 8081, "127.0.0.1", 1000, None, "hetuflow-server", (), (), None, Path("/state/hetuflow/server"), False
    )
    assert settings.database == DatabaseSettings(None, 20, 3600.0)
    assert settings.scheduler == SchedulerSettings(1.0, 0, (), 300.0, "UTC", 10.0, 5.0, 8)
    assert {source for _, _, source in settings.configuration.rows()} == {"default"}


def test_agent_defaults_are_those_of_the_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    settings = load_agent_settings(None, {}, {}, read_text=nothing_there)
    assert settings.agent == ConnectionSettings(
        None, None, "ws://127.0.0.1:8081", 30.0, 10.0, 5, Path("/state/hetuflow/agent"), 120.0
    )
    assert settings.executor == ExecutorSettings(
        Path("/tmp/hetuflow"), True, 3600.0, "100MB", "auto", (), None, 20, 600.0
    )
    assert settings.policy == Policy()
    assert (settings.labels, settings.metadata) == ({}, {})


@pytest.mark.parametrize("schema", [server_schema(), agent_schema()])
def test_every_default_is_a_value_that_could_be_given(schema: Schema) -> None:
    as_given = {Kind.DURATION: str, Kind.PATH: str, Kind.TEXTS: ",".join}
    for setting in schema.settings:
        if setting.default is not None:
            given = as_given.get(setting.kind, lambda value: value)(setting.default)
            resolved = resolve(schema, flags={setting.name: given})
            assert resolved[setting.name] == setting.default, setting.name


def test_types_of_the_groups_fit_the_kinds() -> None:
    expected: dict[Kind, tuple[Any, ...]] = {
        Kind.INTEGER: (int, int | None), Kind.DURATION: (float, float | None), Kind.BOOLEAN: (bool,),
        Kind.TEXTS: (tuple[str, ...], tuple[str, ...] | None), Kind.NUMBER: (float | None,),
        Kind.PATH: (Path, Path | None), Kind.TEXT: (str, str | None), Kind.URL: (str | None,), Kind.CHOICE: (str,),
        Kind.IDENTITY: (str | None,),
    }  # fmt: skip
    groups: dict[str, Any] = {
        "logging": LoggingSettings, "server": ListenerSettings, "database": DatabaseSettings,
        "scheduler": SchedulerSettings, "agent": ConnectionSettings, "executor": ExecutorSettings,
        "policy": Policy, "retention": RetentionSettings,
    }  # fmt: skip
    for setting in (*server_schema().settings, *agent_schema().settings):
        hint = get_type_hints(groups[setting.table])[setting.key]
        assert hint in expected[setting.kind], setting.name
        assert (setting.default is None) <= (type(None) in getattr(hint, "__args__", ())), setting.name
    for table, group in groups.items():
        schema = server_schema() if table in server_schema().tables else agent_schema()
        assert [a.name for a in fields(group)] == [s.key for s in schema.settings if s.table == table]


# --- precedence ----------------------------------------------------------------------------------------------------


def test_flags_win_over_the_environment_over_the_file_over_the_default() -> None:
    file, environment = "[server]\nhttp_port = 1", {"HETUFLOW_SERVER__HTTP_PORT": "2"}
    cases = [(server(), 8080, "default"), (server(file), 1, f"file {CONFIG}")]
    cases.append((server(file, environment), 2, "environment HETUFLOW_SERVER__HTTP_PORT"))
    cases.append((server(file, environment, server__http_port=3), 3, "flag"))
    cases.append((server(file, environment, server__http_port="3"), 3, "flag"))
    cases.append((server(file, environment, server__http_port=None), 2, "environment HETUFLOW_SERVER__HTTP_PORT"))
    for settings, port, source in cases:
        assert settings.server.http_port == port
        assert settings.configuration.values["server.http_port"].source == source


def test_aliases_of_the_guide_are_weaker_than_our_own_names() -> None:
    url = "postgresql://u@db/one"
    assert server(environ={"DATABASE_URL": url}).database.url == url
    both = {"DATABASE_URL": url, "HETUFLOW_DATABASE__URL": "postgresql://u@db/two"}
    assert server(environ=both).database.url == "postgresql://u@db/two"
    assert agent(environ={"SERVER_URL": "ws://host:9"}).agent.server_url == "ws://host:9"


def test_redis_url_is_accepted_and_reported_as_unused() -> None:
    assert server(environ={"REDIS_URL": "redis://x"}).configuration.unused_environment == ("REDIS_URL",)
    assert server().configuration.unused_environment == ()


def test_an_empty_variable_counts_as_not_set() -> None:
    assert server(environ={"DATABASE_URL": "", "HETUFLOW_SERVER__HTTP_PORT": ""}).database.url is None


def test_variables_that_are_not_settings_are_left_alone() -> None:
    environ = {"PATH": "/bin", "HETUFLOW_TASK_ID": "x", "HETUFLOW_PARAM_A__B": "1", "HETUFLOW_AGENT__ANYTHING": "x"}
    assert server(environ=environ) == server()


def test_labels_come_from_the_file_and_from_variables() -> None:
    file = '[labels]\ngpu = "none"\nzone = "a"\n[metadata]\nOwner = "ops"'
    settings = agent(file, {"HETUFLOW_LABELS__GPU": "a100"})
    assert (settings.labels, settings.metadata) == ({"gpu": "a100", "zone": "a"}, {"Owner": "ops"})
    assert ("labels.gpu", "a100", "environment HETUFLOW_LABELS__GPU") in settings.configuration.rows()


def test_a_whole_file_is_read() -> None:
    settings = server(
        """
        [logging]
        level = "DEBUG"
        format = "json"
        [server]
        host = "::1"
        id = "s-1"
        allowed_origins = ["http://localhost:3000", "https://example.org"]
        allowed_hosts = ["scheduler.example.org:8080", "[::1]:80"]
        static_dir = "/srv/www"
        [database]
        url = "postgres://u:p@h/db"
        max_lifetime = "1h"
        [scheduler]
        tick_interval = 0.5
        namespace_limits = ["batch=5", "*=50"]
        priority_ageing = "1m"
        timezone = "Europe/Berlin"
        """
    )
    assert settings.logging == LoggingSettings("debug", "json")
    assert (settings.server.host, settings.server.id, settings.server.static_dir) == ("::1", "s-1", Path("/srv/www"))
    assert settings.server.allowed_origins == ("http://localhost:3000", "https://example.org")
    assert settings.database.max_lifetime == 3600.0
    assert settings.scheduler == SchedulerSettings(0.5, 0, ("batch=5", "*=50"), 60.0, "Europe/Berlin", 10.0, 5.0, 8)


# --- kinds ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "seconds"), [
    ("30s", 30), ("5m", 300), ("1h", 3600), ("90", 90), ("500 ms", 0.5), ("1.5s", 1.5), ("1D", 86_400), ("2 H", 7200),
])  # fmt: skip
def test_durations(text: str, seconds: float) -> None:
    setting = Setting("a", "b", Kind.DURATION, 0.0, "")
    assert resolve(Schema(settings=(setting,)), flags={"a.b": text})["a.b"] == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "-1s", "1w", "1h30m", "1e3", "inf", "nan", "٣s", "1.s"])
def test_what_is_no_duration(text: str) -> None:
    setting = Setting("a", "b", Kind.DURATION, 0.0, "")
    [problem] = problems(resolve, Schema(settings=(setting,)), flags={"a.b": text})
    assert problem == f'a.b (flag): {text!r} is not allowed, use a number of seconds or a text like "30s", "5m", "1h"'


@pytest.mark.parametrize(("text", "value"), [("true", True), ("YES", True), ("1", True), ("off", False), ("0", False)])
def test_booleans_of_the_environment(text: str, value: bool) -> None:
    assert agent(environ={"HETUFLOW_EXECUTOR__CLEANUP_ENABLED": text}).executor.cleanup_enabled is value


def test_lists_of_the_environment_are_separated_by_commas() -> None:
    environ = {"HETUFLOW_SERVER__ALLOWED_HOSTS": "a.example, b.example:80,"}
    assert server(environ=environ).server.allowed_hosts == ("a.example", "b.example:80")


def test_home_directory_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert agent('[executor]\nwork_dir = "~/work"').executor.work_dir == Path("/home/someone/work")


@pytest.mark.parametrize(("given", "expected"), [
    ("ws://h:1", "ws://h:1"), ("wss://h/", "wss://h"), ("http://h:8080/base/", "ws://h:8080/base"),
    ("https://h", "wss://h"), ("WS://h", "ws://h"), ("ws://a:1/, https://b", "ws://a:1,wss://b"),
])  # fmt: skip
def test_websocket_address_of_the_server(given: str, expected: str) -> None:
    assert agent(agent__server_url=given).agent.websocket_url == expected


# --- mistakes ------------------------------------------------------------------------------------------------------

FILE = f"(file {CONFIG})"


@pytest.mark.parametrize(("text", "message"), [
    ('[server]\nhttp_port = "8080"',
     f"server.http_port {FILE}: '8080' is not allowed, use a whole number, 0 to 65535"),
    ("[server]\nhttp_port = 70000",
     f"server.http_port {FILE}: 70000 is not allowed, use a whole number, 0 to 65535"),
    ("[server]\nhttp_port = true", f"server.http_port {FILE}: True is not allowed, use a whole number, 0 to 65535"),
    ("[server]\nhttp_prt = 1", f"server.http_prt {FILE}: unknown key, did you mean http_port?"),
    ("[server]\nzzz = 1", f"server.zzz {FILE}: unknown key, known: http_port, websocket_port, host, max_connections, "
     "id, name, allowed_origins, allowed_hosts, static_dir, state_dir, read_only"),
    ("[sever]\nhttp_port = 1", f"[sever] {FILE}: unknown table, did you mean server?"),
    ("[xyz]", f"[xyz] {FILE}: unknown table, known: logging, server, database, scheduler, retention"),
    ("[agent]\nid = 'a'", f"[agent] {FILE}: this table belongs in agent.toml"),
    ("http_port = 1", f"http_port {FILE}: a value outside of every table, did you mean server.http_port?"),
    ("server = 1", f"server {FILE}: 1 is not allowed, write a table [server]"),
    ("[logging]\nlevel = 'loud'",
     f"logging.level {FILE}: 'loud' is not allowed, use one of debug, info, warn, error"),
    ("[server]\nid = 'a b'", f"server.id {FILE}: 'a b' is not allowed, use 1-64 characters of A-Z a-z 0-9 . _ -, "
     "not '.' or '..'"),
    ("[server]\nid = '..'", f"server.id {FILE}: '..' is not allowed, use 1-64 characters of A-Z a-z 0-9 . _ -, "
     "not '.' or '..'"),
    ("[server]\nname = ''", f"server.name {FILE}: '' is not allowed, use a text that is not empty"),
    ("[server]\nallowed_origins = ['https://a.example/path']",
     f"server.allowed_origins {FILE}: ['https://a.example/path'] is not allowed, use origins like "
     "https://example.org or http://localhost:3000, without a path ('https://a.example/path')"),
    ("[server]\nallowed_origins = 'https://a.example'",
     f"server.allowed_origins {FILE}: 'https://a.example' is not allowed, use an array of texts, as in [\"a\", \"b\"]"),
    ("[server]\nallowed_hosts = ['http://a']",
     f"server.allowed_hosts {FILE}: ['http://a'] is not allowed, use host names like scheduler.example.org, "
     "with or without a port ('http://a')"),
    ("[database]\nmax_lifetime = 0", f"database.max_lifetime {FILE}: 0 is not allowed, use a number of seconds or a "
     'text like "30s", "5m", "1h" of at least 1 s'),
    ("[database]\nmax_lifetime = inf", f"database.max_lifetime {FILE}: inf is not allowed, use a number of seconds or "
     'a text like "30s", "5m", "1h" of at least 1 s'),
    ("[scheduler]\ntimezone = 'Europe/Berln'", f"scheduler.timezone {FILE}: 'Europe/Berln' is not allowed, use an IANA "
     "time zone such as 'Europe/Berlin' or 'UTC', did you mean 'Europe/Berlin'?"),
    ("[scheduler]\nnamespace_limits = ['a=1', 'b']", f"scheduler.namespace_limits {FILE}: ['a=1', 'b'] is not allowed, "
     "use name=number with a number 0-1000000, each namespace once (b)"),
    ("[server]\nwebsocket_port = 8080",
     f"server.websocket_port {FILE}: 8080 is not allowed, use another port than server.http_port"),
])  # fmt: skip
def test_mistake_in_the_file(text: str, message: str) -> None:
    assert problems(server, text) == [message]


def test_malformed_file_says_where() -> None:
    [problem] = problems(server, "[server]\nhttp_port = \n")
    assert problem.startswith(f"TOML {FILE}: not valid: ")
    assert "line 2" in problem


def test_unknown_variable_names_the_nearest() -> None:
    [problem] = problems(server, "", {"HETUFLOW_SERVER__HTPP_PORT": "1"})
    assert problem == (
        "HETUFLOW_SERVER__HTPP_PORT (environment): unknown setting, did you mean HETUFLOW_SERVER__HTTP_PORT?"
    )


def test_unknown_variable_that_is_near_to_none_of_its_table_is_told_them() -> None:
    [problem] = problems(agent, "", {"HETUFLOW_LOGGING__FILE": "x"})
    assert problem == (
        "HETUFLOW_LOGGING__FILE (environment): unknown setting, known: HETUFLOW_LOGGING__LEVEL, HETUFLOW_LOGGING__FORMAT"
    )


def test_unknown_flag_names_the_nearest() -> None:
    [problem] = problems(server, server__htp_port=1)
    assert problem == "server.htp_port (flag): unknown setting, did you mean server.http_port?"


def test_all_mistakes_are_reported_at_once() -> None:
    text = "[server]\nhttp_port = -1\nfoo = 1\n[databse]\n"
    environ = {"HETUFLOW_LOGGING__LEVEL": "shout", "HETUFLOW_DATABASE__POOL_SIZE": "many"}
    found = problems(server, text, environ, server__host="0.0.0.0")
    assert [problem.split(" ")[0] for problem in found] == [
        "server.http_port", "server.foo", "[databse]", "logging.level", "database.pool_size", "server.host",
    ]  # fmt: skip
    with pytest.raises(ConfigurationError, match=r"server\.http_port .*\nserver\.foo "):
        server(text, environ)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org", "127.0.0.1.example.org"])
def test_listening_for_other_machines_is_refused(host: str) -> None:
    [problem] = problems(server, "", {"HETUFLOW_SERVER__HOST": host})
    assert problem.startswith(
        f"server.host (environment HETUFLOW_SERVER__HOST): {host!r} is not allowed, use a loopback address"
    )
    assert "does not authenticate" in problem


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_addresses_are_allowed(host: str) -> None:
    assert server(server__host=host).server.host == host


def test_file_that_was_named_must_be_readable() -> None:
    def refuse(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    [missing] = problems(load_server_settings, CONFIG, {}, {}, read_text=nothing_there)
    assert missing == f"{CONFIG} (configuration file): cannot be read: No such file or directory"
    [refused] = problems(load_server_settings, None, {}, {}, read_text=refuse)
    assert refused.endswith("(configuration file): cannot be read: Permission denied")
    [binary] = problems(load_agent_settings, AGENT, {}, {}, read_text=lambda path: b"\xff".decode())
    assert binary == f"{AGENT} (configuration file): cannot be read: not a UTF-8 text file"


@pytest.mark.parametrize(("text", "message"), [
    ("[agent]\nlabels = {gpu = 'true'}", "agent.labels (file /etc/hetuflow/agent.toml): unknown key, [labels] is a table "
     "of its own"),
    ("[labels]\ngpu = 1", "labels.gpu (file /etc/hetuflow/agent.toml): 1 is not allowed, use a text in quotes"),
    ("[agent]\nserver_url = 'ftp://h'", "agent.server_url (file /etc/hetuflow/agent.toml): 'ftp://h' is not allowed, "
     "use an address like ws://127.0.0.1:8081 or https://scheduler.example.org; several are separated by commas"),
    ("[agent]\nserver_url = 'ws://h:x'", "agent.server_url (file /etc/hetuflow/agent.toml): 'ws://h:x' is not allowed, "
     "use an address like ws://127.0.0.1:8081 or https://scheduler.example.org; several are separated by commas"),
    ("[agent]\nheartbeat_interval = '2m'", "agent.heartbeat_interval (file /etc/hetuflow/agent.toml): 120 s is not "
     "allowed, use less than agent.lost_after_seconds (120 s)"),
    ("[database]\nurl = 'x'", "[database] (file /etc/hetuflow/agent.toml): this table belongs in config.toml"),
    ("[labels]\n'sys.os' = 'plan9'", "labels.sys.os (file /etc/hetuflow/agent.toml): this name is not allowed, use another "
     "one: those that begin with sys. are set by the agent itself"),
    ("[policy]\nallowed_program = ['bash']", "policy.allowed_program (file /etc/hetuflow/agent.toml): unknown key, did you "
     "mean allowed_programs?"),
    ("[policy]\nallowed_programs = ['bin/x']", "policy.allowed_programs (file /etc/hetuflow/agent.toml): ['bin/x'] is not "
     "allowed, use names without a slash, absolute paths, or patterns of either; 'bin/x' is none"),
    ("[policy]\nallowed_directories = ['srv']", "policy.allowed_directories (file /etc/hetuflow/agent.toml): ['srv'] is not "
     "allowed, use absolute paths, or patterns of them; 'srv' is none"),
    ("[policy]\nallowed_commands = ['shutdwn']", "policy.allowed_commands (file /etc/hetuflow/agent.toml): ['shutdwn'] is "
     "not allowed, use some of shutdown, update_config, clear_cache, fetch_metrics, fetch_log; 'shutdwn' is none; did you "
     "mean shutdown?"),
    ("[policy]\nmax_cpu_percent = '0.8'", "policy.max_cpu_percent (file /etc/hetuflow/agent.toml): '0.8' is not allowed, use "
     "a number, 0.01 to 100000"),
    ("[policy]\nallowed_environment = ['A=1']", "policy.allowed_environment (file /etc/hetuflow/agent.toml): ['A=1'] is not "
     "allowed, use names of variables, or patterns such as APP_*; 'A=1' is none"),
    ("[executor]\ncleanup_enabled = 'yes'", "executor.cleanup_enabled (file /etc/hetuflow/agent.toml): 'yes' is not "
     "allowed, use true or false"),
])  # fmt: skip
def test_mistake_in_the_agents_file(text: str, message: str) -> None:
    assert problems(agent, text) == [message]


def test_a_heartbeat_that_nobody_chose_follows_a_short_lease() -> None:
    settings = agent("[agent]\nlost_after_seconds = 20")
    assert settings.agent.heartbeat_interval == 5.0
    assert ("agent.heartbeat_interval", "5 s", "default") in settings.configuration.rows()
    assert agent("[agent]\nlost_after_seconds = 600").agent.heartbeat_interval == 30.0


def test_which_executors_are_allowed_is_not_said_to_be_any_where_programs_are_listed() -> None:
    shown = {name: text for name, text, _ in agent().configuration.rows()}
    assert shown["policy.allowed_executors"] == "as `allowed_programs` says"


# --- secrets -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", [
    "postgresql://u:hunter2@h/db", "postgresql://u:hunter2/@x@h/db", "postgresql://h/db?user=u&password=hunter2",
    "postgresql://:hunter2@h/db",
])  # fmt: skip
def test_password_is_shown_nowhere(url: str) -> None:
    settings = server(environ={"DATABASE_URL": url})
    assert settings.database.url == url
    shown = {name: text for name, text, _ in settings.configuration.rows()}["database.url"]
    assert "***" in shown and "hunter2" not in shown
    assert "hunter2" not in repr(settings)


@pytest.mark.parametrize("url", ["mysql://u:hunter2@h/db", "u:hunter2@h/db", "hunter2", "postgresql//u:hunter2@h"])
def test_password_is_not_in_the_error_either(url: str) -> None:
    [problem] = problems(server, "", {"DATABASE_URL": url})
    assert "hunter2" not in problem
    assert problem.endswith("is not allowed, use postgresql://user:password@host:5432/database")


# --- nearest -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "expected"), [
    ("max_retrys", "max_retries"), ("MaxRetries", "max_retries"), ("time-out", "timeout"), ("xyzzy", None), ("", None),
])  # fmt: skip
def test_nearest_ignores_case_and_separators(name: str, expected: str | None) -> None:
    assert nearest(name, ["timeout", "max_retries", "command"]) == expected


@given(st.dictionaries(st.sampled_from(["server", "databse", "labels", "x"]), st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.booleans() | st.none() | st.lists(st.integers(), max_size=2), max_size=3)))  # fmt: skip
def test_no_flag_value_makes_it_crash(tables: dict[str, dict[str, Any]]) -> None:
    flags = {f"{table}.{key}": value for table, keys in tables.items() for key, value in keys.items()}
    flags |= {setting.name: next(iter(flags.values()), None) for setting in server_schema().settings}
    try:
        resolve(server_schema(), flags=flags)
    except ConfigurationError as error:
        assert error.problems
