"""The published Python client, `llama-agents-client`, with every example over real HTTP."""

from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from llama_agents.client import WorkflowClient
from llama_agents.client.protocol import (
    CancelHandlerResponse,
    HandlerData,
    HandlersListResponse,
    HealthResponse,
    SendEventResponse,
    WorkflowEventsListResponse,
    WorkflowGraphResponse,
    WorkflowSchemaResponse,
    WorkflowsListResponse,
)
from llama_agents.client.protocol.serializable_events import EventEnvelopeWithMetadata
from workflows import Context
from workflows.events import (
    Event,
    StartEvent,
    StopEvent,
    WorkflowCancelledEvent,
    WorkflowFailedEvent,
    WorkflowIdleEvent,
)
from workflows.representation import get_workflow_representation

from examples.approval import ApprovalRequired, Decided, Decision, Expense
from examples.conversation import Memory, Message, Reply, conversation
from examples.flaky import Answered, AttemptFailed, Call
from examples.greeting import Greet
from examples.pipeline import EXAMPLES as FOLDER
from examples.pipeline import Corpus, Progress, RankedWord, Summary, read_documents
from examples.tokens import PROVERB, Recite, Recited, Token
from tests.support.examples import EXAMPLES

UNTYPED = StartEvent.model_validate({"name": "Ada"})
EXPENSE = Expense(purpose="Train tickets", amount=240.5)
QUESTION = ApprovalRequired(question="Approve 240.50 € for: Train tickets?")


@pytest.fixture
def client(base_url: str) -> WorkflowClient:
    return WorkflowClient(base_url=base_url)


def envelopes(*events: Event) -> list[EventEnvelopeWithMetadata]:
    """Return the envelopes of events, as the client's own protocol defines them."""
    return [EventEnvelopeWithMetadata.from_event(event) for event in events]


def completed(handler: HandlerData, result: StopEvent) -> HandlerData:
    """Return what a handler must be whose run has completed; its times are its own."""
    return handler.model_copy(
        update={
            "status": "completed",
            "error": None,
            "result": EventEnvelopeWithMetadata.from_event(result),
        }
    )


async def read(
    client: WorkflowClient, handler_id: str, *, after: int = -1
) -> list[EventEnvelopeWithMetadata]:
    stream = client.get_workflow_events(handler_id, after_sequence=after)
    return [event async for event in stream]


async def ask(client: WorkflowClient, handler_id: str) -> None:
    """Start an approval, and return when it waits for the decision."""
    await client.run_workflow_nowait("approval", handler_id=handler_id, start_event=EXPENSE)
    stream = client.get_workflow_events(handler_id)
    async for event in stream:
        assert [event] == envelopes(QUESTION)
        await stream.aclose()
        return


class TestWhatIsServed:
    async def test_the_server_is_healthy(self, client: WorkflowClient) -> None:
        assert await client.is_healthy() == HealthResponse(status="healthy")

    async def test_the_examples_are_listed(self, client: WorkflowClient) -> None:
        assert await client.list_workflows() == WorkflowsListResponse(workflows=[*EXAMPLES])

    @pytest.mark.parametrize("name", EXAMPLES)
    async def test_the_schemas_of_start_and_stop_are_those_of_the_classes(
        self, client: WorkflowClient, name: str
    ) -> None:
        start: type[Event] = EXAMPLES[name].start_event_class
        stop: type[Event] = EXAMPLES[name].stop_event_class
        assert await client.get_workflow_schema(name) == WorkflowSchemaResponse(
            start=start.model_json_schema(), stop=stop.model_json_schema()
        )

    @pytest.mark.parametrize("name", EXAMPLES)
    async def test_the_schemas_of_events_are_those_of_the_classes(
        self, client: WorkflowClient, name: str
    ) -> None:
        events = sorted(EXAMPLES[name].events, key=lambda event: event.__name__)
        schemas = WorkflowEventsListResponse(events=[e.model_json_schema() for e in events])
        assert await client.get_workflow_events_schema(name) == schemas

    @pytest.mark.parametrize("name", EXAMPLES)
    async def test_the_graph_is_the_engine_s(self, client: WorkflowClient, name: str) -> None:
        graph = get_workflow_representation(EXAMPLES[name])
        assert await client.get_workflow_graph(name) == WorkflowGraphResponse(graph=graph)


class TestGreeting:
    @pytest.mark.parametrize(
        "start_event",
        [Greet(name="Ada"), UNTYPED, {"name": "Ada"}],
        ids=["typed", "untyped", "fields"],
    )
    async def test_a_run_is_waited_for(
        self, client: WorkflowClient, start_event: StartEvent
    ) -> None:
        handler = await client.run_workflow("greeting", "h", start_event=start_event)
        assert handler == completed(handler, StopEvent(result="Hello, Ada!"))
        assert (handler.handler_id, handler.workflow_name) == ("h", "greeting")

    @pytest.mark.parametrize(
        "start_event",
        [
            Greet(name="Ada"),
            UNTYPED,
            {"name": "Ada"},
            {"type": "Greet", "value": {"name": "Ada"}},
        ],
        ids=["typed", "untyped", "fields", "envelope"],
    )
    async def test_a_run_is_started(self, client: WorkflowClient, start_event: StartEvent) -> None:
        await client.run_workflow_nowait("greeting", "h", start_event=start_event)
        assert await read(client, "h") == envelopes(StopEvent(result="Hello, Ada!"))

    async def test_the_times_of_a_handler_are_aware_and_in_order(
        self, client: WorkflowClient
    ) -> None:
        before = datetime.now(UTC)
        handler = await client.run_workflow("greeting", start_event={"name": "Ada"})
        times = [handler.started_at, handler.updated_at, handler.completed_at]
        started, updated, ended = [datetime.fromisoformat(time or "") for time in times]
        assert before <= started <= updated <= ended <= datetime.now(UTC)

    async def test_a_missing_name_is_refused_by_name(self, client: WorkflowClient) -> None:
        with pytest.raises(httpx.HTTPStatusError, match=r"400 Bad Request .*'name': Field requ"):
            await client.run_workflow("greeting")
        assert await client.get_handlers() == HandlersListResponse(handlers=[])


class TestTokens:
    async def test_a_run_is_followed_to_its_end(self, client: WorkflowClient) -> None:
        started = await client.run_workflow_nowait("tokens", start_event=Recite(delay=0.01))
        tokens = [Token(text=word) for word in PROVERB.split()]
        assert await read(client, started.handler_id) == envelopes(
            *tokens, Recited(tokens=len(tokens))
        )
        handler = await client.get_handler(started.handler_id)
        assert handler == completed(handler, Recited(tokens=len(tokens)))
        assert handler.run_id == started.run_id

    async def test_a_run_without_a_start_event_starts_from_its_defaults(
        self, client: WorkflowClient
    ) -> None:
        started = await client.run_workflow_nowait("tokens", "h")
        assert started == started.model_copy(update={"status": "running", "result": None})
        handler = await client.wait_for_handler("h", timeout=60, poll_interval=0.05)
        assert handler == completed(handler, Recited(tokens=len(PROVERB.split())))

    async def test_events_are_loaded_as_objects_of_their_classes(
        self, client: WorkflowClient
    ) -> None:
        await client.run_workflow_nowait("tokens", "h", start_event=Recite(text="a", delay=0))
        events = [event.load_event([Token, Recited]) for event in await read(client, "h")]
        assert events == [Token(text="a"), Recited(tokens=1)]

    async def test_a_reader_goes_on_after_the_last_sequence_that_it_saw(
        self, client: WorkflowClient
    ) -> None:
        await client.run_workflow_nowait("tokens", "h", start_event=Recite(text="a b c", delay=0))
        stream = client.get_workflow_events("h")
        async for event in stream:
            assert [event] == envelopes(Token(text="a"))
            await stream.aclose()
            break
        assert isinstance(stream.last_sequence, int)
        rest = envelopes(Token(text="b"), Token(text="c"), Recited(tokens=3))
        assert await read(client, "h", after=stream.last_sequence) == rest

    async def test_a_reader_that_has_seen_everything_of_an_ended_run_gets_nothing(
        self, client: WorkflowClient
    ) -> None:
        await client.run_workflow("tokens", "h", start_event=Recite(text="a", delay=0))
        stream = client.get_workflow_events("h", after_sequence="now")
        assert ([event async for event in stream], stream.last_sequence) == ([], "now")

    async def test_events_of_an_unknown_handler_are_not_found(self, client: WorkflowClient) -> None:
        with pytest.raises(ValueError, match="Handler not found"):
            await read(client, "unknown")


class TestApproval:
    @pytest.mark.parametrize(
        "decision",
        [
            Decision(approved=True, comment="fine"),
            {"type": "Decision", "value": {"approved": True, "comment": "fine"}},
        ],
    )
    @pytest.mark.parametrize("step", [None, "decide"])
    async def test_a_decision_ends_the_run(
        self, client: WorkflowClient, decision: Event, step: str | None
    ) -> None:
        await ask(client, "h")
        sent = await client.send_event("h", decision, step)
        decided = Decided(outcome="approved", purpose="Train tickets", comment="fine")
        assert sent == SendEventResponse(status="sent")
        assert await read(client, "h") == envelopes(QUESTION, decided)
        handler = await client.get_handler("h")
        assert handler == completed(handler, decided)

    async def test_the_internal_events_are_shown_to_those_who_ask_for_them(
        self, client: WorkflowClient
    ) -> None:
        await ask(client, "h")
        stream = client.get_workflow_events("h", include_internal_events=True)
        async for event in stream:
            if event.type == WorkflowIdleEvent.__name__:
                await stream.aclose()
                break
        assert event in envelopes(WorkflowIdleEvent())

    async def test_an_ended_run_takes_no_decision(self, client: WorkflowClient) -> None:
        await ask(client, "h")
        await client.cancel_handler("h")
        with pytest.raises(httpx.HTTPStatusError, match=r"409 Conflict .*it was cancelled"):
            await client.send_event("h", Decision(approved=False))

    async def test_a_waiting_run_is_cancelled(self, client: WorkflowClient) -> None:
        await ask(client, "h")
        assert await client.cancel_handler("h") == CancelHandlerResponse(status="cancelled")
        listed = await client.get_handlers(status=["cancelled"])
        assert [handler.handler_id for handler in listed.handlers] == ["h"]
        assert await read(client, "h") == envelopes(QUESTION, WorkflowCancelledEvent())

    async def test_a_purged_handler_is_gone(self, client: WorkflowClient) -> None:
        await ask(client, "h")
        cancelled = await client.cancel_handler("h", purge=True)
        assert cancelled == CancelHandlerResponse(status="deleted")
        assert await client.get_handlers() == HandlersListResponse(handlers=[])


class TestPipeline:
    async def test_chunks_report_and_their_counts_are_joined(self, client: WorkflowClient) -> None:
        corpus = Corpus(text="so much depends\nupon\na red wheel\nbarrow so red", chunks=2)
        await client.run_workflow_nowait("pipeline", "h", start_event=corpus)
        *progress, last = await read(client, "h")
        assert sorted(progress, key=lambda event: int(event.value["chunk"])) == envelopes(
            Progress(chunk=1, chunks=2, document="text", words=4),
            Progress(chunk=2, chunks=2, document="text", words=6),
        )
        most_common = ["barrow", "depends", "much", "upon", "wheel"]
        assert [last] == envelopes(
            Summary(
                documents=["text"],
                chunks=2,
                words=10,
                most_common=[RankedWord(word=word, count=1) for word in most_common],
            )
        )

    async def test_without_a_text_the_repository_s_documents_are_counted(
        self, client: WorkflowClient
    ) -> None:
        handler = await client.run_workflow("pipeline")
        assert handler.result is not None
        summary = handler.result.load_event([Summary])
        assert isinstance(summary, Summary)
        assert summary.documents == sorted(read_documents(FOLDER))


class TestConversation:
    async def test_a_handler_that_runs_again_remembers(self, client: WorkflowClient) -> None:
        first = await client.run_workflow("conversation", "h", Message(message="I am Ada."))
        second = await client.run_workflow("conversation", "h", Message(message="Who am I?"))
        reply = Reply(turn=2, message="Who am I?", said_before=["I am Ada."])
        assert second == completed(second, reply)
        assert first.run_id != second.run_id
        assert await read(client, "h") == envelopes(reply)

    async def test_a_run_starts_from_a_context_of_the_client_s(
        self, client: WorkflowClient
    ) -> None:
        context: Context[Any] = Context(conversation)
        await context.store.set_state(Memory(messages=["I am Ada."]))
        handler = await client.run_workflow(
            "conversation", start_event=Message(message="Who am I?"), context=context
        )
        assert handler == completed(
            handler, Reply(turn=2, message="Who am I?", said_before=["I am Ada."])
        )


class TestFlaky:
    async def test_failed_attempts_are_seen_before_the_answer(self, client: WorkflowClient) -> None:
        await client.run_workflow_nowait("flaky", "h", start_event=Call(failures=2))
        assert await read(client, "h") == envelopes(
            AttemptFailed(attempt=1, error="the service is down"),
            AttemptFailed(attempt=2, error="the service is down"),
            Answered(attempts=3, last_error="the service is down"),
        )

    async def test_a_failed_run_says_so_everywhere(self, client: WorkflowClient) -> None:
        sentence = "the service is down"
        with pytest.raises(httpx.HTTPStatusError, match="500 Internal Server Error"):
            await client.run_workflow("flaky", "h", start_event=Call(failures=3))
        with pytest.raises(httpx.HTTPStatusError, match="500 Internal Server Error"):
            await client.get_handler("h")
        (handler,) = (await client.get_handlers(status=["failed"])).handlers
        assert handler == handler.model_copy(
            update={"status": "failed", "error": sentence, "result": None}
        )
        *_, last = await read(client, "h")
        assert last.type == WorkflowFailedEvent.__name__


class TestListing:
    async def test_handlers_are_listed_newest_first_and_filtered(
        self, client: WorkflowClient
    ) -> None:
        greeted = await client.run_workflow("greeting", "a", start_event={"name": "Ada"})
        counted = await client.run_workflow("pipeline", "b", start_event={"text": "one"})
        await ask(client, "c")
        everything = await client.get_handlers()
        some = await client.get_handlers(
            status=["completed", "failed"], workflow_name=["greeting", "approval"]
        )
        waiting = everything.handlers[0]
        assert everything == HandlersListResponse(handlers=[waiting, counted, greeted])
        assert (waiting.handler_id, waiting.status, waiting.result) == ("c", "running", None)
        assert some == HandlersListResponse(handlers=[greeted])
