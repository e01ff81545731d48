"""Ids and names: none that a client sends may be longer than one that there is."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.calls import start, start_asker
from tests.support.problems import faults_of, problem_of
from workflow_server.schemas.names import MAX_NAME_LENGTH

LONG = "a" * MAX_NAME_LENGTH
NAMED = {"handler_id", "name", "run_id", "step", "workflow_name"}

PATHS = [
    ("POST", "/workflows/{}/run", "name"),
    ("POST", "/workflows/{}/run-nowait", "name"),
    ("GET", "/workflows/{}/schema", "name"),
    ("GET", "/workflows/{}/events", "name"),
    ("GET", "/workflows/{}/representation", "name"),
    ("GET", "/handlers/{}", "handler_id"),
    ("GET", "/handlers/{}/runs", "handler_id"),
    ("POST", "/handlers/{}/cancel", "handler_id"),
    ("GET", "/results/{}", "handler_id"),
    ("GET", "/events/{}", "handler_id"),
]


@pytest.mark.parametrize(("method", "path", "name"), PATHS)
async def test_a_name_in_a_path_is_unknown_or_too_long(
    client: httpx.AsyncClient, method: str, path: str, name: str
) -> None:
    unknown = await client.request(method, path.format(LONG))
    longer = await client.request(method, path.format(LONG + "a"))
    assert unknown.status_code == 404
    assert problem_of(longer) == (400, "malformed_request")
    assert faults_of(longer) == [["path", name]]


@pytest.mark.parametrize("path", ["/handlers/h", "/events/h"])
async def test_a_run_id_is_unknown_or_too_long(client: httpx.AsyncClient, path: str) -> None:
    await start(client, "echo", "h")
    unknown = await client.get(path, params={"run_id": LONG})
    longer = await client.get(path, params={"run_id": LONG + "a"})
    assert problem_of(unknown) == (404, "run_not_found")
    assert problem_of(longer) == (400, "malformed_request")
    assert faults_of(longer) == [["query", "run_id"]]


async def test_a_workflow_to_list_is_unknown_or_too_long(client: httpx.AsyncClient) -> None:
    unknown = await client.get("/handlers", params={"workflow_name": ["echo", LONG]})
    longer = await client.get("/handlers", params={"workflow_name": ["echo", LONG + "a"]})
    assert unknown.json()["handlers"] == []
    assert problem_of(longer) == (400, "malformed_request")
    assert faults_of(longer) == [["query", "workflow_name", 1]]


async def test_a_step_is_unknown_or_too_long(client: httpx.AsyncClient) -> None:
    url = f"/events/{await start_asker(client)}"
    event = {"type": "StopEvent", "value": {}}
    unknown = await client.post(url, json={"event": event, "step": LONG})
    longer = await client.post(url, json={"event": event, "step": LONG + "a"})
    assert problem_of(unknown) == (400, "unknown_step")
    assert problem_of(longer) == (400, "malformed_request")
    assert faults_of(longer) == [["body", "step"]]


def list_names(document: Any) -> Iterator[tuple[str, Any]]:
    """Yield the name and the schema of all parameters, and of all fields of requests."""
    for path in document["paths"].values():
        for operation in path.values():
            for parameter in operation.get("parameters", ()):
                yield parameter["name"], parameter["schema"]
    for name, schema in document["components"]["schemas"].items():
        if name.endswith("Request"):
            yield from schema["properties"].items()


def list_strings(schema: Any) -> Iterator[Any]:
    """Yield what a schema says of the strings in it."""
    if schema.get("type") == "string":
        yield {"maxLength": None, **schema}
    around = {"maxLength": schema["maxLength"]} if "maxLength" in schema else {}
    for member in (*schema.get("anyOf", ()), *filter(None, [schema.get("items")])):
        yield from list_strings(around | member)


async def test_the_document_says_how_long_a_name_may_be(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    lengths = {
        (name, string["maxLength"])
        for name, schema in list_names(document)
        if name in NAMED
        for string in list_strings(schema)
    }
    assert lengths == {(name, MAX_NAME_LENGTH) for name in NAMED}
