"""`/workflows`: what is served, and the two ways to start it."""

from collections.abc import Callable
from datetime import UTC, datetime

import httpx
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from pydantic import ConfigDict
from workflows import Workflow, step
from workflows.events import Event, StartEvent, StopEvent
from workflows.representation import get_workflow_representation

from tests.support.calls import start, start_asker
from tests.support.indescribable import INDESCRIBABLE, Tool
from tests.support.live import open_client, serve_workflow
from tests.support.problems import problem_of
from tests.support.workflows import WORKFLOWS, Greet, Greeter, Greeting
from workflow_server.app.server import WorkflowServer


class Job(Event):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    call: Callable[[int], int]
    tool: Tool | None = None


class Jobs(Workflow):
    @step
    async def plan(self, ev: StartEvent) -> Job:
        return Job(call=lambda number: number + 1)

    @step
    async def work(self, ev: Job) -> StopEvent:
        return StopEvent(result=ev.call(1))


async def test_the_list_names_every_registered_workflow(client: httpx.AsyncClient) -> None:
    response = await client.get("/workflows")
    assert response.json() == {"workflows": [*WORKFLOWS, "extra"]}


async def test_the_schema_is_that_of_the_start_and_the_stop_event(
    client: httpx.AsyncClient,
) -> None:
    response = await client.get("/workflows/greeter/schema")
    assert response.json() == {
        "start": Greet.model_json_schema(),
        "stop": Greeting.model_json_schema(),
    }


async def test_the_events_are_those_that_the_workflow_declares(client: httpx.AsyncClient) -> None:
    response = await client.get("/workflows/asker/events")
    titles = [schema["title"] for schema in response.json()["events"]]
    assert titles == ["Answer", "Ask", "Question", "StopEvent"]


async def test_additional_events_are_listed(client: httpx.AsyncClient) -> None:
    response = await client.get("/workflows/extra/events")
    titles = [schema["title"] for schema in response.json()["events"]]
    assert titles == ["StartEvent", "StopEvent", "Extra"]


async def test_asking_for_the_events_twice_gives_the_same_list(client: httpx.AsyncClient) -> None:
    first = await client.get("/workflows/extra/events")
    second = await client.get("/workflows/extra/events")
    assert first.json() == second.json()


async def test_the_representation_is_the_engines(client: httpx.AsyncClient) -> None:
    response = await client.get("/workflows/greeter/representation")
    expected = get_workflow_representation(Greeter()).model_dump(mode="json")
    assert response.json() == {"graph": expected}


@pytest.mark.parametrize("event_class", INDESCRIBABLE.values(), ids=INDESCRIBABLE.keys())
async def test_an_event_that_cannot_be_described_is_open_wherever_it_is_shown(
    event_class: type[Event],
) -> None:
    server = WorkflowServer()
    server.add_workflow("it", make_workflow(event_class))
    opened = {"additionalProperties": True, "title": event_class.__name__, "type": "object"}
    async with open_client(server) as client:
        events = (await client.get("/workflows/it/events")).json()["events"]
        graph = (await client.get("/workflows/it/representation")).json()["graph"]
        document = (await client.get("/openapi.json")).json()
    assert opened in events
    assert opened in [node.get("event_schema") for node in graph["nodes"]]
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []


def make_workflow(event_class: type[Event]) -> Workflow:
    """Return a workflow in which an event goes from one step to the next."""

    class Working(Workflow):
        async def plan(self, ev: StartEvent) -> Event:
            raise AssertionError

        async def work(self, ev: Event) -> StopEvent:
            raise AssertionError

    Working.plan.__annotations__["return"] = Working.work.__annotations__["ev"] = event_class
    Working.plan, Working.work = step(Working.plan), step(Working.work)  # type: ignore[method-assign]  # typed now
    return Working()


async def test_a_workflow_runs_with_an_event_that_cannot_be_described() -> None:
    async with serve_workflow(Jobs()) as client:
        handler = (await client.post("/workflows/it/run", json={})).json()
    assert handler["result"]["value"] == {"result": 2}


async def test_a_workflow_without_a_docstring_has_no_description() -> None:
    async with serve_workflow(Jobs()) as client:
        response = await client.get("/workflows/it/representation")
    assert response.json()["graph"]["description"] is None


@pytest.mark.parametrize(
    ("method", "action"),
    [
        ("GET", "schema"),
        ("GET", "events"),
        ("GET", "representation"),
        ("POST", "run"),
        ("POST", "run-nowait"),
    ],
)
async def test_an_unknown_workflow_is_not_found(
    client: httpx.AsyncClient, method: str, action: str
) -> None:
    response = await client.request(method, f"/workflows/nobody/{action}")
    assert problem_of(response) == (404, "workflow_not_found")


async def test_a_run_that_completes_answers_with_the_handler_and_its_result(
    client: httpx.AsyncClient,
) -> None:
    response = await client.post(
        "/workflows/greeter/run", json={"start_event": {"name": "Ada"}, "handler_id": "h"}
    )
    handler = response.json()
    assert response.status_code == 200
    assert handler["completed_at"] == handler["updated_at"]
    assert handler == {
        "handler_id": "h",
        "workflow_name": "greeter",
        "run_id": handler["run_id"],
        "status": "completed",
        "started_at": handler["started_at"],
        "updated_at": handler["updated_at"],
        "completed_at": handler["completed_at"],
        "error": None,
        "failure": None,
        "phase": "ended",
        "held_because": None,
        "resumable": True,
        "not_resumable_because": None,
        "awaits": None,
        "questions": [],
        "result": {
            "value": {"text": "Hello, Ada!"},
            "type": "Greeting",
            "types": ["StopEvent"],
            "qualified_name": "tests.support.workflows.Greeting",
        },
    }


async def test_the_types_of_a_plain_stop_event_are_null(client: httpx.AsyncClient) -> None:
    response = await client.post("/workflows/fan-out/run", json={})
    assert response.json()["result"] == {
        "value": {"result": [0, 1, 4]},
        "type": "StopEvent",
        "types": None,
        "qualified_name": "workflows.events.StopEvent",
    }


async def test_a_run_that_fails_answers_500_with_the_handler(client: httpx.AsyncClient) -> None:
    response = await client.post("/workflows/failer/run", json={"handler_id": "h"})
    handler = response.json()
    assert response.status_code == 500
    assert (handler["handler_id"], handler["status"]) == ("h", "failed")


async def test_a_start_answers_at_once_with_a_running_handler(client: httpx.AsyncClient) -> None:
    response = await client.post("/workflows/sleeper/run-nowait", json={"handler_id": "h"})
    handler = response.json()
    assert response.status_code == 200
    assert handler == {
        "handler_id": "h",
        "workflow_name": "sleeper",
        "run_id": handler["run_id"],
        "status": "running",
        "started_at": handler["started_at"],
        "updated_at": handler["started_at"],
        "completed_at": None,
        "error": None,
        "failure": None,
        "phase": "working",
        "held_because": None,
        "resumable": True,
        "not_resumable_because": None,
        "awaits": None,
        "questions": [],
        "result": None,
    }


async def test_times_are_iso_8601_in_utc(client: httpx.AsyncClient) -> None:
    before = datetime.now(UTC)
    response = await client.post("/workflows/greeter/run", json={"start_event": {"name": "Ada"}})
    handler = response.json()
    times = [datetime.fromisoformat(handler[key]) for key in ("started_at", "completed_at")]
    assert before <= times[0] <= times[1] <= datetime.now(UTC)


async def test_a_handler_without_a_given_id_gets_one_of_ten_characters(
    client: httpx.AsyncClient,
) -> None:
    assert len(await start(client, "sleeper")) == 10


async def test_ids_that_are_made_differ(client: httpx.AsyncClient) -> None:
    ids = {await start(client, "sleeper") for _ in range(20)}
    assert len(ids) == 20


async def test_a_run_with_a_question_is_running_until_it_is_answered(
    client: httpx.AsyncClient,
) -> None:
    handler_id = await start_asker(client)
    response = await client.get(f"/handlers/{handler_id}")
    assert (response.status_code, response.json()["status"]) == (202, "running")
