"""Workflows with a `run()` of their own: what it does before the engine's run begins counts."""

from datetime import date
from typing import Any

import httpx
import pytest
from pydantic import BaseModel
from workflows import Context, Workflow, step
from workflows.events import StartEvent, StopEvent
from workflows.handler import WorkflowHandler

from tests.support.calls import run
from tests.support.live import open_client, serve_workflow
from tests.support.problems import faults_of, problem_of
from tests.support.workflows import Echo
from workflow_server.app.server import WorkflowServer

Json = dict[str, Any]


class Begin(StartEvent):
    topic: str
    style: str
    when: date | None = None


class Book(Begin):
    pages: int = 1


class Writes(Workflow):
    """Returns its start event's fields, and what is in its state."""

    @step(accept_event_subclasses=True)
    async def write(self, ctx: Context, ev: Begin) -> StopEvent:
        state = await ctx.store.get_state()
        return StopEvent(result=[type(ev).__name__, ev.model_dump(mode="json"), state.to_dict()])


class FillsIn(Writes):
    """Names some parameters, converts one, and leaves the rest to the engine."""

    def run(
        self, *args: Any, topic: str = "nothing", when: date | None = None, **kwargs: Any
    ) -> Any:
        kwargs.setdefault("style", "plain" if when is None else f"of {when.year}")
        return super().run(*args, topic=topic.strip(), when=when, **kwargs)


class SetsState(Writes):
    """Sets state in a context of its own, or in the one that it is given."""

    async def run(self, topic: str, ctx: Context | None = None) -> Any:  # type: ignore[override]  # as people do
        context: Context[Any] = ctx or Context(self)
        turns = await context.store.get("turns", default=0)
        await context.store.set("turns", turns + 1)
        return await super().run(ctx=context, start_event=Begin(topic=topic, style="stated"))


class TakesAnEvent(Writes):
    """Takes nothing but a start event."""

    def run(self, start_event: Begin, ctx: Context | None = None) -> Any:  # type: ignore[override]  # as people do
        start_event.style = start_event.style.upper()
        return super().run(ctx=ctx, start_event=start_event)


class Tool:
    """An object of the program, which no JSON can give."""


class Strict(Writes):
    """Names all that it takes."""

    def run(self, topic: str, *, tool: Tool | None = None, times: int = 1) -> Any:  # type: ignore[override]  # as people do
        if not topic:
            raise ValueError("There is no topic.")
        return super().run(topic=topic * times, style="strict")


def written(handler: Json) -> Any:
    """Return what a `Writes` returned."""
    return handler["result"]["value"]["result"]


async def start_schema(client: httpx.AsyncClient) -> Json:
    """Return the schema of what the workflow starts from."""
    schema: Json = (await client.get("/workflows/it/schema")).json()["start"]
    return schema


@pytest.mark.parametrize("key", ["start_event", "kwargs"])
async def test_it_fills_in_what_a_client_leaves_out(key: str) -> None:
    async with serve_workflow(FillsIn()) as client:
        response = await client.post("/workflows/it/run", json={key: {"topic": " tea "}})
    fields = {"topic": "tea", "style": "plain", "when": None}
    assert written(response.json()) == ["Begin", fields, {}]


async def test_it_counts_in_a_workflow_that_tells_what_it_does() -> None:
    async with serve_workflow(FillsIn(verbose=True)) as client:
        handler = await run(client, "it", topic="tea")
    assert written(handler)[1]["style"] == "plain"


async def test_what_it_does_after_its_run_has_begun_is_not_done() -> None:
    class Boasts(Writes):
        async def run(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]  # as people do
            try:
                handler = super().run(*args, style="plain", **kwargs)
            except Exception:  # noqa: BLE001  # the server does not leave by one
                return "caught"
            return f"{await handler}!"

    async with serve_workflow(Boasts()) as client:
        handler = await run(client, "it", topic="tea")
    assert written(handler)[1]["style"] == "plain"


async def test_it_gets_values_of_the_types_that_it_names() -> None:
    async with serve_workflow(FillsIn()) as client:
        handler = await run(client, "it", when="2026-11-03")
    fields = {"topic": "nothing", "style": "of 2026", "when": "2026-11-03"}
    assert written(handler) == ["Begin", fields, {}]


async def test_an_envelope_of_its_start_event_holds_its_fields() -> None:
    async with serve_workflow(FillsIn()) as client:
        handler = await run(client, "it", type="Begin", value={"topic": "tea", "style": "short"})
    assert written(handler)[1] == {"topic": "tea", "style": "short", "when": None}


async def test_it_gets_a_start_event_that_is_of_another_class() -> None:
    server = WorkflowServer()
    server.add_workflow("it", FillsIn(), additional_events=[Book])
    async with open_client(server) as client:
        value = {"topic": "tea", "style": "long", "pages": 9}
        handler = await run(client, "it", type="Book", value=value)
    assert written(handler)[:2] == ["Book", {**value, "when": None}]


async def test_it_gets_a_start_event_where_it_takes_nothing_else() -> None:
    async with serve_workflow(TakesAnEvent()) as client:
        handler = await run(client, "it", topic="tea", style="loud")
        schema = await start_schema(client)
    assert written(handler)[1] == {"topic": "tea", "style": "LOUD", "when": None}
    assert list(schema["properties"]) == ["topic", "style", "when"]


async def test_the_state_that_it_sets_is_the_run_s() -> None:
    async with serve_workflow(SetsState()) as client:
        handler = await run(client, "it", topic="tea")
    assert written(handler)[2] == {"turns": 1}


async def test_a_handler_that_goes_on_gives_it_the_state_of_its_last_run() -> None:
    async with serve_workflow(SetsState()) as client:
        for turn in (1, 2, 3):
            body = {"handler_id": "h", "start_event": {"topic": "tea"}}
            response = await client.post("/workflows/it/run", json=body)
            assert written(response.json())[2] == {"turns": turn}


async def test_a_context_of_a_client_is_given_to_it() -> None:
    workflow = SetsState()
    context: Context[Any] = Context(workflow)
    await context.store.set("turns", 41)
    async with serve_workflow(workflow) as client:
        body = {"context": context.to_dict(), "kwargs": {"topic": "tea"}}
        response = await client.post("/workflows/it/run", json=body)
    assert written(response.json())[2] == {"turns": 42}


async def test_the_state_of_the_last_run_is_there_where_it_takes_no_context() -> None:
    class Counts(Workflow):
        def run(self, topic: str) -> Any:  # type: ignore[override]  # as people do
            return super().run(topic=topic, style="plain")

        @step
        async def count(self, ctx: Context, ev: Begin) -> StopEvent:
            turns = await ctx.store.get("turns", default=0)
            await ctx.store.set("turns", turns + 1)
            return StopEvent(result=turns)

    async with serve_workflow(Counts()) as client:
        body = {"handler_id": "h", "start_event": {"topic": "tea"}}
        results = [
            written((await client.post("/workflows/it/run", json=body)).json()) for _ in range(3)
        ]
    assert results == [0, 1, 2]


@pytest.mark.parametrize(
    ("fields", "place", "detail"),
    [
        ({}, ["topic"], "'topic': Field required"),
        ({"topic": "a", "colour": 1}, ["colour"], "'colour': Extra inputs are not permitted"),
        ({"topic": "a", "times": "b"}, ["times"], "'times': Input should be a valid integer"),
        ({"topic": "a", "tool": {}}, ["tool"], "'tool': Value error, run() takes an object here"),
    ],
)
async def test_what_does_not_fit_its_parameters_is_named(
    fields: Json, place: list[str], detail: str
) -> None:
    async with serve_workflow(Strict()) as client:
        response = await client.post("/workflows/it/run", json={"start_event": fields})
    assert problem_of(response) == (400, "invalid_start_event")
    assert faults_of(response) == [["body", "start_event", *place]]
    assert detail in response.json()["detail"]


async def test_a_field_that_nobody_filled_in_is_named() -> None:
    class Passes(Writes):
        def run(self, *args: Any, **kwargs: Any) -> Any:
            return super().run(**kwargs)

    async with serve_workflow(Passes()) as client:
        response = await client.post("/workflows/it/run", json={"start_event": {"topic": "tea"}})
    assert problem_of(response) == (400, "invalid_start_event")
    assert faults_of(response) == [["body", "start_event", "style"]]


@pytest.mark.parametrize("name", ["ctx", "start_event", "run_id", "_data_"])
async def test_a_parameter_that_is_the_server_s_is_refused(name: str) -> None:
    class Private(Begin):
        _data_: int = 1

    class Guarded(FillsIn):
        @step
        async def write(self, ev: Private) -> StopEvent:  # type: ignore[override]  # another class
            return StopEvent()

    async with serve_workflow(Guarded()) as client:
        response = await client.post("/workflows/it/run", json={"start_event": {name: None}})
        handlers = (await client.get("/handlers")).json()["handlers"]
    assert problem_of(response) == (400, "invalid_start_event")
    assert faults_of(response) == [["body", "start_event", name]]
    assert handlers == []


async def test_its_own_checks_are_the_client_s_to_hear() -> None:
    async with serve_workflow(Strict()) as client:
        response = await client.post("/workflows/it/run", json={"start_event": {"topic": ""}})
    assert problem_of(response) == (400, "invalid_start_event")
    detail = "The workflow's run() refuses these fields: There is no topic."
    assert response.json()["detail"] == detail


async def test_a_run_that_starts_nothing_is_said_to() -> None:
    class Delegates(Writes):
        def run(self, *args: Any, **kwargs: Any) -> WorkflowHandler:
            return Echo().run(**kwargs)

    async with serve_workflow(Delegates()) as client:
        response = await client.post("/workflows/it/run", json={})
    assert problem_of(response) == (500, "run_starts_nothing")


@pytest.mark.parametrize("leaving", [SystemExit, KeyboardInterrupt])
async def test_it_cannot_end_the_server(leaving: type[BaseException]) -> None:
    class Leaves(Writes):
        def run(self, *args: Any, **kwargs: Any) -> WorkflowHandler:
            raise leaving

    async with serve_workflow(Leaves()) as client:
        response = await client.post("/workflows/it/run", json={})
        health = await client.get("/health")
    assert problem_of(response) == (500, "run_starts_nothing")
    assert health.status_code == 200


async def test_a_run_that_it_starts_of_another_workflow_goes_its_own_way() -> None:
    class Prepares(Writes):
        async def run(self, topic: str) -> Any:  # type: ignore[override]  # as people do
            style: Any = await Echo().run(style="prepared")
            return await super().run(topic=topic, style=style["style"])

    async with serve_workflow(Prepares()) as client:
        handler = await run(client, "it", topic="tea")
    assert written(handler)[1]["style"] == "prepared"


async def test_one_that_belongs_to_the_object_alone_counts_too() -> None:
    workflow = Writes()
    engine_run = workflow.run

    def run_plainly(**kwargs: Any) -> WorkflowHandler:
        return engine_run(style="plain", **kwargs)

    workflow.run = run_plainly  # type: ignore[method-assign, assignment]  # as some do
    async with serve_workflow(workflow) as client:
        handler = await run(client, "it", topic="tea")
    assert written(handler)[1]["style"] == "plain"


async def test_the_schema_names_its_parameters() -> None:
    async with serve_workflow(Strict()) as client:
        schema = await start_schema(client)
    assert schema == {
        "title": "Begin",
        "type": "object",
        "properties": {
            "topic": {"title": "Topic", "type": "string"},
            "times": {"title": "Times", "type": "integer", "default": 1},
        },
        "required": ["topic"],
    }


async def test_the_schema_names_what_it_leaves_to_the_engine_too() -> None:
    async with serve_workflow(FillsIn()) as client:
        schema = await start_schema(client)
    assert list(schema["properties"]) == ["topic", "when", "style"]
    assert "required" not in schema


class Options(BaseModel):
    """Some options."""

    deep: bool = False


async def test_the_schema_names_the_parameters_of_those_above_it() -> None:
    class Above(Writes):
        def run(self, options: Options, **kwargs: Any) -> Any:  # type: ignore[override]  # as people do
            return super().run(style=repr(options), **kwargs)

    class Below(Above):
        def run(self, *args: Any, **kwargs: Any) -> Any:
            kwargs.setdefault("options", Options(deep=True))
            return super().run(*args, **kwargs)

    async with serve_workflow(Below()) as client:
        schema = await start_schema(client)
        left_out = await run(client, "it", topic="tea")
        given = await run(client, "it", topic="tea", options={"deep": False})
    assert list(schema["properties"]) == ["options", "topic", "style", "when"]
    assert "required" not in schema
    assert written(left_out)[1]["style"] == "Options(deep=True)"
    assert written(given)[1]["style"] == "Options(deep=False)"


async def test_the_document_of_the_service_names_its_parameters() -> None:
    async with serve_workflow(Strict()) as client:
        document = (await client.get("/openapi.json")).json()
    schemas = document["components"]["schemas"]
    start_event = schemas["ItRunRequest"]["properties"]["start_event"]
    described = schemas[start_event["$ref"].rpartition("/")[2]]
    assert list(described["properties"]) == ["topic", "times"]
    assert described["required"] == ["topic"]
    assert "start_event" in schemas["ItRunRequest"]["required"]
