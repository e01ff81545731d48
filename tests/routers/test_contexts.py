"""Runs that start from a client's serialized `Context`."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from pydantic import BaseModel
from workflows import Context, Workflow

from tests.support.calls import answer, wait_ended, wait_question
from tests.support.canary import CLASS, MODULE, Canary
from tests.support.live import open_client
from tests.support.problems import problem_of
from tests.support.waiting import until
from tests.support.workflows import Answer, Conversation, Greet, Question, Turns, Waiter
from workflow_server.app.server import WorkflowServer

Json = dict[str, Any]


async def serialize_state(workflow: Workflow, **values: Any) -> Json:
    """Return a context that has not run, with these values in its state."""
    context: Context[Any] = Context(workflow)
    for key, value in values.items():
        await context.store.set(key, value)
    return context.to_dict()


async def serialize_waiting() -> Json:
    """Return the context of a `Waiter` that waits for its first answer."""
    handler = Waiter(timeout=None).run()
    async for event in handler.stream_events():
        if isinstance(event, Question):
            break
    context = handler.ctx.to_dict()
    await handler.cancel_run()
    return context


async def post_context(
    client: httpx.AsyncClient, workflow: str, context: Json, **body: Any
) -> httpx.Response:
    """Start a run from a context."""
    return await client.post(
        f"/workflows/{workflow}/run-nowait", json={"context": context, "handler_id": "h", **body}
    )


@pytest.fixture
async def waiters() -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of a server whose `waiter` declares what its contexts hold."""
    server = WorkflowServer()
    server.add_workflow("waiter", Waiter(timeout=None), additional_events=[Question, Answer])
    async with open_client(server) as client:
        yield client


async def test_a_run_starts_from_the_state_of_a_context(client: httpx.AsyncClient) -> None:
    context = await serialize_state(Conversation(), count=41)
    response = await client.post("/workflows/conversation/run", json={"context": context})
    assert response.json()["result"]["value"] == {"result": 42}


async def test_a_context_goes_with_a_start_event(client: httpx.AsyncClient) -> None:
    context = await serialize_state(Waiter(), anything=[1, {"a": None}])
    body = {"context": context, "start_event": {"a": 1}}
    response = await client.post("/workflows/echo/run", json=body)
    assert response.json()["result"]["value"] == {"result": {"a": 1}}


async def test_an_empty_context_is_none(client: httpx.AsyncClient) -> None:
    response = await client.post("/workflows/conversation/run", json={"context": {}})
    assert response.json()["result"]["value"] == {"result": 1}


async def test_a_run_says_what_its_running_context_waits_for(waiters: httpx.AsyncClient) -> None:
    await post_context(waiters, "waiter", await serialize_waiting())
    handler: Json = (await waiters.get("/handlers/h")).json()
    assert [event["type"] for event in handler["awaits"]["events"]] == ["Answer"]

    async def waits() -> bool:
        phase: str = (await waiters.get("/handlers/h")).json()["phase"]
        return phase == "waiting"

    await until(waits)


async def test_a_run_goes_on_where_a_running_context_was(waiters: httpx.AsyncClient) -> None:
    await post_context(waiters, "waiter", await serialize_waiting())
    await answer(waiters, "h", "one")
    await wait_question(waiters, "h", "second")
    await answer(waiters, "h", "two")
    assert (await wait_ended(waiters, "h"))["status"] == "completed"


async def test_the_state_of_a_context_outlives_its_run(client: httpx.AsyncClient) -> None:
    context = await serialize_state(Conversation(), count=41)
    for expected in (42, 43):
        body = {"handler_id": "h", **({"context": context} if expected == 42 else {})}
        response = await client.post("/workflows/conversation/run", json=body)
        assert response.json()["result"]["value"] == {"result": expected}


async def test_a_context_whose_state_is_of_another_class_is_refused(
    client: httpx.AsyncClient,
) -> None:
    context = await serialize_state(Waiter(), count=1)
    response = await post_context(client, "conversation", context)
    assert problem_of(response) == (400, "invalid_context")


@pytest.mark.parametrize(
    "context",
    [
        {"version": "x"},
        {"is_running": "perhaps"},
        {"state": {"store_type": "sql", "run_id": "other"}},
        {"state": {"state_data": 5}},
        {"version": 2, "workers": []},
        {"version": 2, "workers": {"turn": {"queue": [{"event": "no json"}]}}},
        {"version": 2, "workers": {"turn": {"queue": [{"event": "5"}]}}},
    ],
)
async def test_a_context_that_is_none_is_refused(client: httpx.AsyncClient, context: Json) -> None:
    response = await post_context(client, "conversation", context)
    assert problem_of(response) == (400, "invalid_context")


async def test_a_refusal_of_a_context_is_a_sentence(client: httpx.AsyncClient) -> None:
    response = await post_context(client, "conversation", {"version": 2, "workers": []})
    assert response.json()["detail"] == (
        "The context cannot be started from: Input should be a valid dictionary."
    )


async def test_a_refused_context_stores_nothing(client: httpx.AsyncClient) -> None:
    await post_context(client, "conversation", {"version": "x"})
    assert (await client.get("/handlers")).json() == {"handlers": [], "next_cursor": None}


CANARY: Json = {"__is_pydantic": True, "qualified_name": CLASS, "value": {}}
COMPONENT: Json = {"__is_component": True, "qualified_name": CLASS, "value": {}}
CANARY_EVENT = json.dumps(CANARY)


def _first_waiter(context: Json) -> Json:
    waiters = [
        waiter
        for worker in context["workers"].values()
        for waiter in worker.get("collected_waiters", [])
    ]
    waiter: Json = waiters[0]
    return waiter


def _worker(context: Json) -> Json:
    worker: Json = context["workers"]["wait"]
    return worker


def _state(context: Json, data: Any) -> None:
    context["state"] = {
        "state_type": "Canary",
        "state_module": MODULE,
        "state_data": data,
        "store_type": "in_memory",
    }


def _attempt(**parts: Any) -> Json:
    return {"event": _stop(), **parts}


def _stop() -> str:
    return json.dumps(
        {"__is_pydantic": True, "qualified_name": "workflows.events.StartEvent", "value": {}}
    )


PLANTED: dict[str, Callable[[Json], None]] = {
    "state": lambda c: _state(c, json.dumps(CANARY)),
    "state-object": lambda c: _state(c, CANARY),
    "state-tree": lambda c: _state(c, {"_tree": "model", **CANARY}),
    "state-tree-value": lambda c: _state(c, {"_tree": "dict", "_data": {"a": CANARY}}),
    "state-value": lambda c: _state(c, {"_data": {"a": json.dumps(CANARY)}}),
    "state-deep": lambda c: _state(c, {"_data": {"a": json.dumps({"b": [[CANARY]]})}}),
    "state-component": lambda c: _state(c, {"_data": {"a": json.dumps([COMPONENT])}}),
    "queue": lambda c: _worker(c)["queue"].append({"event": CANARY_EVENT}),
    "queue-bound": lambda c: _worker(c)["queue"].append(
        _attempt(bound_events={"ev": CANARY_EVENT})
    ),
    "queue-release": lambda c: _worker(c)["queue"].append(
        _attempt(
            collection_release_payload={
                "binding_id": "b",
                "stream_id": "s",
                "events": [CANARY_EVENT],
            }
        )
    ),
    "in-progress": lambda c: _worker(c)["in_progress"].append({"event": CANARY_EVENT}),
    "collected": lambda c: _worker(c).update(collected_events={"a": [CANARY_EVENT]}),
    "static": lambda c: _worker(c).update(static_collect_events=[CANARY_EVENT]),
    "waiter-event": lambda c: _first_waiter(c).update(event=CANARY_EVENT),
    "waiter-class": lambda c: _first_waiter(c).update(waiting_for_event=CLASS),
    "waiter-resolved": lambda c: _first_waiter(c).update(resolved_event=CANARY_EVENT),
    "delivery": lambda c: c.update(
        deliveries=[{"invocation_id": "i", "index": 0, "event": CANARY_EVENT}]
    ),
    "release-state": lambda c: c.update(
        collection_release_states={
            "b": {"binding_id": "b", "stream_id": "s", "buffer": [CANARY_EVENT]}
        }
    ),
}


@pytest.mark.parametrize("place", PLANTED)
async def test_a_class_that_the_workflow_does_not_declare_is_refused_and_never_imported(
    waiters: httpx.AsyncClient, canary: Canary, place: str
) -> None:
    context = await serialize_waiting()
    PLANTED[place](context)
    response = await post_context(waiters, "waiter", context)
    assert not canary.sings
    assert problem_of(response) == (400, "invalid_context")


async def test_the_class_of_an_exception_in_a_context_is_never_imported(
    waiters: httpx.AsyncClient, canary: Canary
) -> None:
    context = await serialize_waiting()
    failure = {"exception_type": CLASS, "exception_message": "x"}
    _worker(context)["queue"].append(_attempt(last_exception=failure))
    response = await post_context(waiters, "waiter", context)
    assert response.status_code == 200
    assert not canary.sings


class Loaded(BaseModel):
    """Importable, and loaded already, but of no workflow's."""


@pytest.mark.parametrize(
    "name",
    [
        f"{Loaded.__module__}.Loaded",
        f"{Greet.__module__}.{Greet.__name__}",
        f"{Turns.__module__}.{Turns.__name__}",
        "builtins.dict",
    ],
)
async def test_a_class_that_is_loaded_but_not_declared_is_refused(
    waiters: httpx.AsyncClient, name: str
) -> None:
    context = await serialize_waiting()
    named = {"__is_pydantic": True, "qualified_name": name, "value": {"name": "x"}}
    context["state"] = {"state_data": {"_data": {"a": json.dumps(named)}}}
    response = await post_context(waiters, "waiter", context)
    assert problem_of(response) == (400, "invalid_context")


async def test_an_old_context_is_read_with_the_same_care(
    client: httpx.AsyncClient, canary: Canary
) -> None:
    context = {"queues": {"wait": json.dumps([CANARY_EVENT])}, "is_running": True}
    response = await post_context(client, "waiter", context)
    assert not canary.sings
    assert problem_of(response) == (400, "invalid_context")
