"""The OpenAPI document is valid, complete and true; the page that shows it needs nobody else and raises nothing."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import jsonschema_rs
import openapi_spec_validator
import pytest
import trio
from openapi_spec_validator import OpenAPIV31SpecValidator

import hetuflow.api
from hetuflow.api.collections import JOBS
from hetuflow.api.endpoints import ENDPOINTS
from hetuflow.api.openapi import document
from hetuflow.api.operators import OPERATORS
from hetuflow.api.problems import Problems
from hetuflow.api.routing import PathId
from hetuflow.api.serving import HttpListener
from tests.api.client import Client
from tests.api.memory_rooms import World, memory_world
from tests.api.test_jobs import FULL_CONFIG

STATIC = Path(hetuflow.api.__file__).parent / "static"
DOCUMENT = document(ENDPOINTS, "1")
IN_SCOPE = [
    *(f"J{n}" for n in range(1, 10)),
    *(f"C{n}" for n in range(1, 10)),
    *("C12", "C10", "C11", "B1", "B2", "B3", "B4", "C13", "C14"),
    *(f"K{n}" for n in range(1, 6)),
    *("T1", "T3", "T4", "T5", "T6", "T7", "T8", "T10", "T11", "T9"),
    *(f"F{n}" for n in range(1, 7)),
    *("I2", "I4", "I5", "I6", "I1", "I3", "I7", "I8", "I9", "I10", "I11"),
    *(f"X{n}" for n in range(1, 5)),
    *("A1", "A2", "A3", "A4", "A6", "A7", "A8", "A9", "A10", "A11", "A12"),
    *("S1", "S2", "S3", "S4", "E1", "E2", "E3", "P1", "P2", "Y1", "Y2", "Y3", "Y4"),
    *("U1", "U2", "G1", "G2", "G3", "D1", "D2"),
]


def validator(name: str) -> Any:
    schema = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    return jsonschema_rs.validator_for(schema, validate_formats=True)


def refs(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [ref for inner in value.values() for ref in refs(inner)]
    return [ref for inner in value for ref in refs(inner)] if isinstance(value, list) else []


def test_every_endpoint_in_scope_is_there() -> None:
    assert [endpoint.number for endpoint in ENDPOINTS] == IN_SCOPE
    ids = [operation["operationId"] for methods in DOCUMENT["paths"].values() for operation in methods.values()]
    assert len(ids) == len(set(ids)) == sum(1 + len(endpoint.aliases) for endpoint in ENDPOINTS)


def test_every_reference_leads_somewhere_and_every_schema_is_a_schema() -> None:
    schemas, responses = DOCUMENT["components"]["schemas"], DOCUMENT["components"]["responses"]
    assert {ref.rpartition("/")[2] for ref in refs(DOCUMENT)} <= schemas.keys() | responses.keys()
    for name, schema in schemas.items():
        jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})
        assert schema, name


def test_the_document_is_openapi() -> None:
    openapi_spec_validator.validate(json.loads(json.dumps(DOCUMENT)), cls=OpenAPIV31SpecValidator)


def test_every_endpoint_tells_the_statuses_of_the_contract() -> None:
    """The contract's §3: what every endpoint may answer, and what comes on top of that."""
    for endpoint in ENDPOINTS:
        told = {int(status) for status in DOCUMENT["paths"][endpoint.path][endpoint.method.lower()]["responses"]}
        expected = {400, 403, 500, 503, 504, *endpoint.also}
        if endpoint.body is not None:
            expected |= {413, 415, 422}
        if endpoint.takes_bytes:
            expected.add(413)
        if endpoint.path_id is not None:
            expected.add(404)
        assert expected <= told, endpoint.number


def test_links_lead_to_operations_that_take_an_id() -> None:
    operations = {each["operationId"]: each for methods in DOCUMENT["paths"].values() for each in methods.values()}
    links = [
        link for each in operations.values() for link in each["responses"].get("200", {}).get("links", {}).values()
    ]
    assert len(links) > 30
    for link in links:
        assert link["operationId"] in operations
        names = {each["name"] for each in operations[link["operationId"]]["parameters"] if each["in"] == "path"}
        assert set(link.get("parameters", {})) == names


def test_the_grammar_of_filters_is_described() -> None:
    text = DOCUMENT["info"]["description"]
    for operators in OPERATORS.values():
        assert all(f"`${name}`" in text for name in operators)


@pytest.mark.parametrize(
    ("query", "is_fine"),
    [
        ({"filter": {"name": {"$eq": "x", "not_in": ["y"], "notIn": ["z"], "$not_like": "a"}}}, True),
        ({"filter": {"status": {"eq": "enabled"}, "config.cmd": {"$eq": "bash"}, "name": None}}, True),
        ({"filter": [{}, {"name": {}}], "page": {"order_bys": ["!name", "id desc"], "limit": None}}, True),
        ({"filter": {"name": {"$eq": None, "$not": "x"}}}, True),
        ({"filter": {"name": {"$eq": None}}}, False),
        ({"filter": {"name": "x"}}, False),
        ({"filter": {"name": {"$lke": "x"}}}, False),
        ({"filter": {"nam": {"$eq": "x"}}}, False),
        ({"filter": {"name.x": {"$eq": "x"}}}, False),
        ({"filter": {"status": {"$eq": "Eneabled"}}}, False),
        ({"filter": {"name": {"$in": "x"}}}, False),
        ({"page": {"order_bys": "nam"}}, False),
        ({"page": {"limit": 0}}, False),
        ({"page": {"after": ""}}, False),
        ({"filters": {}}, False),
    ],
)
async def test_the_schema_of_queries_is_what_the_parser_does(query: dict[str, Any], is_fine: bool) -> None:
    problems = Problems()
    JOBS.read(query, problems)
    assert (not problems) is is_fine
    assert validator("JobsQuery").is_valid(query) is is_fine


def test_path_parameters_are_declared() -> None:
    for path, methods in DOCUMENT["paths"].items():
        names = re.findall(r"{(\w+)}", path)
        for operation in methods.values():
            declared = [each["name"] for each in operation["parameters"] if each["in"] == "path"]
            assert declared == names, path
    assert all((endpoint.path_id is None) == ("{" not in endpoint.path) for endpoint in ENDPOINTS)
    assert {endpoint.path_id for endpoint in ENDPOINTS} == {None, PathId.UUID, PathId.NAME}


def test_every_example_fits_its_schema() -> None:
    for methods in DOCUMENT["paths"].values():
        for operation in methods.values():
            content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            if "example" in content:
                schema = {**content["schema"], "components": DOCUMENT["components"]}
                assert jsonschema_rs.validator_for(schema).is_valid(content["example"]), operation["operationId"]


async def test_answers_fit_their_schemas(client: Client) -> None:
    job = await client.made("/jobs/item", {"name": "x", "config": FULL_CONFIG})
    schedule = await client.made("/schedules/item", {"job_id": job, "kind": "cron", "cron_expression": "@daily"})
    task = await client.made(f"/jobs/item/{job}/run", {})
    instance = (await client.get(f"/tasks/{task}")).json["instance_id"]
    await client.made("/agents/create", {"id": "a"})
    for name, answer in (
        ("SchedJob", await client.get(f"/jobs/item/{job}")),
        ("SchedSchedule", await client.get(f"/schedules/item/{schedule}")),
        ("SchedTask", await client.get(f"/tasks/{task}")),
        ("SchedTaskInstance", await client.get(f"/task-instances/item/{instance}")),
        ("SchedAgent", await client.get("/agents/a")),
        ("SchedServer", await client.get("/servers/server-1")),
        ("PageOfSchedJob", await client.post("/jobs/page")),
        ("PageOfSchedTaskInstance", await client.post("/task-instances/page")),
        ("PageOfEventRecord", await client.get(f"/tasks/{task}/history")),
        ("PageOfEventRecord", await client.get("/events?limit=5")),
        ("PageOfLogChunk", await client.get(f"/task-instances/item/{instance}/logs")),
        ("Health", await client.get("/system/health")),
        ("Info", await client.get("/system/info")),
        ("Metrics", await client.get("/system/metrics")),
        ("GatewayStatus", await client.get("/gateway/status")),
        ("Error", await client.get("/nothing")),
        ("Error", await client.post("/jobs/item", {"nmae": 1})),
        ("Error", await client.get(f"/tasks/{job}")),
    ):
        problems = [f"{error.instance_path}: {error.message}" for error in validator(name).iter_errors(answer.json)]
        assert not problems, (name, problems)
        schema = DOCUMENT["components"]["schemas"][name]
        assert set(answer.json) == set(schema["properties"]), name


async def test_the_page_and_the_document_are_served(world: World) -> None:
    client = world.client
    for path in ("/docs", "/docs/", "/docs/swagger-ui"):
        page = await client.send("GET", path)
        assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    served = (await client.send("GET", "/docs/openapi.json")).json
    assert (served["openapi"], served["info"]["version"]) == ("3.1.0", world.rooms.identity.version)
    assert served["paths"] == json.loads(json.dumps(DOCUMENT["paths"]))
    for reference in re.findall(r'(?:src|href)="([^"]+)"', page.content.decode()):
        assert reference.startswith(("/docs/", "data:"))
        if reference.startswith("/"):
            assert (await client.send("GET", reference)).status == 200


async def test_the_page_may_ask_nobody_else(world: World) -> None:
    """The browser itself holds it: everything that the page loads or asks must come from this server."""
    for path in ("/docs", "/docs/assets/docs.js", "/docs/assets/swagger-ui-bundle.js", "/docs/assets/swagger-ui.css"):
        policy = (await world.client.send("GET", path)).headers["content-security-policy"]
        rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
        assert rules["default-src"] == "'self'"
        assert not {"script-src", "connect-src", "font-src", "frame-src"} & rules.keys()
        assert "http" not in policy and "*" not in policy
    script = (STATIC / "docs.js").read_text()
    assert "validatorUrl: null" in script
    for name in ("docs.html", "docs.js", "docs.css"):
        assert not re.search(r"https?://|//[a-z]+\.", (STATIC / name).read_text()), name
    assert "@import" not in (STATIC / "swagger-ui" / "swagger-ui.css").read_text()


def test_the_viewer_comes_with_its_licence() -> None:
    assert "Apache License" in (STATIC / "swagger-ui" / "LICENSE").read_text()
    assert "swagger-ui" in (STATIC / "swagger-ui" / "NOTICE").read_text()


BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.skipif(BROWSER is None, reason="no browser here to open the page with")
async def test_a_browser_shows_every_operation_and_asks_no_other_host(tmp_path: Path) -> None:
    log = tmp_path / "net.json"
    async with memory_world() as world, trio.open_nursery() as nursery:
        port = await nursery.start(HttpListener("127.0.0.1", 0).serve, world.client._app)
        done = await trio.run_process(
            [
                *(str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
                *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
                *(f"--user-data-dir={tmp_path / 'profile'}", f"--log-net-log={log}", "--virtual-time-budget=60000"),
                *("--dump-dom", f"http://127.0.0.1:{port}/docs"),
            ],
            capture_stdout=True,
            capture_stderr=True,
        )
        nursery.cancel_scope.cancel()
    page = done.stdout.decode()
    assert page.count('class="opblock-summary-path"') == sum(1 + len(endpoint.aliases) for endpoint in ENDPOINTS)
    started_by_the_page = r'"initiator":"http://127\.0\.0\.1:\d+".*?"url":"([^"]+)"'
    asked = set(re.findall(started_by_the_page, log.read_text()))
    assert f"http://127.0.0.1:{port}/docs/openapi.json" in asked
    assert {address.split("/docs")[0] for address in asked if not address.startswith("data:")} == {
        f"http://127.0.0.1:{port}"
    }
