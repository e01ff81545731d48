"""What the framework refuses by itself, and errors of ours, are problems too."""

import httpx
import pytest

from tests.support.calls import run
from tests.support.live import open_client
from tests.support.problems import faults_of, problem_of
from tests.support.stores import SECRET, ScriptedStore
from tests.support.workflows import add_all
from workflow_server.app.server import WorkflowServer
from workflow_server.schemas.records import HandlerKey, RunRecord
from workflow_server.stores.memory import MemoryStore


@pytest.mark.parametrize("path", ["/nowhere", "/workflows/echo", "/handlers/a/b"])
async def test_an_unknown_path_is_not_found(client: httpx.AsyncClient, path: str) -> None:
    assert problem_of(await client.get(path)) == (404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/handlers", "GET, HEAD"),
        ("POST", "/handlers", "GET, HEAD"),
        ("GET", "/workflows/echo/run", "POST"),
        ("PUT", "/events/h", "GET, HEAD, POST"),
        ("GET", "/handlers/h/cancel", "POST"),
        ("POST", "/health", "GET, HEAD"),
        ("POST", "/docs", "GET, HEAD"),
        ("POST", "/", "GET, HEAD"),
    ],
)
async def test_a_method_that_a_path_does_not_take_is_refused(
    client: httpx.AsyncClient, method: str, path: str, allowed: str
) -> None:
    response = await client.request(method, path)
    assert problem_of(response) == (405, "method_not_allowed")
    assert response.headers["allow"] == allowed


async def test_a_method_is_refused_without_making_the_openapi_document(
    server: WorkflowServer, client: httpx.AsyncClient
) -> None:
    await client.delete("/handlers")
    assert server.app.openapi_schema is None


async def test_a_problem_names_the_place_of_each_fault(client: httpx.AsyncClient) -> None:
    response = await client.post("/workflows/echo/run", json={"kwargs": [], "handler_id": 5})
    assert response.json()["errors"] == [
        {
            "loc": ["body", "kwargs"],
            "msg": "Input should be a valid dictionary",
            "type": "dict_type",
        },
        {
            "loc": ["body", "handler_id"],
            "msg": "Input should be a valid string",
            "type": "string_type",
        },
    ]


async def test_a_problem_is_a_whole_rfc_9457_document(client: httpx.AsyncClient) -> None:
    response = await client.get("/handlers/nobody")
    assert response.json() == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "detail": "No handler has the id 'nobody'.",
        "code": "handler_not_found",
        "errors": None,
    }


async def test_every_missing_field_of_a_start_event_is_placed(client: httpx.AsyncClient) -> None:
    body = {"start_event": {"type": "Ask", "value": {"questions": "many"}}}
    response = await client.post("/workflows/asker/run", json=body)
    assert faults_of(response) == [["body", "start_event", "questions"]]


async def test_a_store_that_cannot_be_reached_is_503_and_says_nothing_of_the_inside() -> None:
    store = ScriptedStore()
    server = WorkflowServer(workflow_store=store)
    add_all(server)
    async with open_client(server) as client:
        store.down = True
        response = await client.get("/handlers")
    assert problem_of(response) == (503, "store_unavailable")
    assert response.headers["retry-after"] == "1"
    assert SECRET not in response.text


class BrokenStore(MemoryStore):
    """A store with an error that nobody foresaw."""

    async def get_handler(self, key: HandlerKey) -> RunRecord | None:
        raise RuntimeError(f"{SECRET} in {__file__}")


async def test_an_error_of_ours_is_500_and_only_the_log_has_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with open_client(WorkflowServer(workflow_store=BrokenStore())) as client:
        response = await client.get("/handlers/h", headers={"X-Request-Id": "mine"})
    assert problem_of(response) == (500, "internal_error")
    assert response.headers["x-request-id"] == "mine"
    assert SECRET not in response.text
    assert SECRET in caplog.text


async def test_the_500_of_a_failed_run_carries_the_handler(client: httpx.AsyncClient) -> None:
    handler = await run(client, "failer")
    response = await client.get(f"/handlers/{handler['handler_id']}")
    assert response.headers["content-type"] == "application/json"
    assert response.json().items() >= handler.items()
