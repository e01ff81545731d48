"""Requests that schemathesis makes from the OpenAPI document, valid and not, to a live server.

A check fails where the server does what the document does not say. Every operation has a server of
its own, with handlers in every state, so that what one does is not seen by another. Sequences of
operations, which take from the answers before, have one together. All checks are made; where one
is passed over, the reason is said here, and no request is left out for it.

Each run makes the same requests. SCHEMATHESIS_SEED=N makes others, and SEQUENCES says how many
sequences to try; pytest's header shows the seed.
"""

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest
import schemathesis
from anyio.from_thread import start_blocking_portal
from hypothesis import HealthCheck, seed, settings
from hypothesis.errors import FlakyStrategyDefinition
from schemathesis import CheckFunction, Response
from schemathesis.checks import not_a_server_error, positive_data_acceptance
from schemathesis.generation.stateful import APIStateMachine
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import (
    negative_data_rejection,
    response_schema_conformance,
)

from tests.support.live import serving
from tests.support.seeds import SEED
from tests.support.waiting import DEADLINE
from tests.support.workflows import Asker, Conversation, Echo, Failer, Greeter, TypedEcho
from workflow_server.app.access import Access
from workflow_server.app.server import WorkflowServer
from workflow_server.app.settings import Limits
from workflow_server.schemas.events import EventEnvelope
from workflow_server.schemas.names import MAX_NAME_LENGTH

# Their runs end at once, but for one that waits, which nothing here starts anew.
WORKFLOWS = {
    "echo": Echo(),
    "greeter": Greeter(),
    "typed": TypedEcho(),
    "conversation": Conversation(),
    "failer": Failer(),
}
ENDED = ("completed", "failed", "cancelled")
HANDLERS = (*ENDED, "running")
# Codes of problems, and types of faults, that a document cannot describe: whether a cursor, an
# event or a context is right depends on what is there, and on other fields; `fields` may hold
# several names, with commas between them.
UNDESCRIBED = {
    "event_id",
    "unknown_keys",
    "invalid_context",
    "invalid_cursor",
    "invalid_event",
    "invalid_start_event",
    "unknown_field",
    "unknown_step",
}
# Those of one workflow: pydantic takes 1 for "1", which JSON Schema cannot say. Not of the one that
# waits.
TYPED = "^/workflows/[^{]+/run"
WAITING = "^/workflows/asker/run"

SEQUENCES = int(os.environ.get("SEQUENCES", "25"))
STEPS = 12  # of a sequence, at most
PATIENCE = 60  # seconds that an answer may take

SETTINGS = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)


Case = schemathesis.Case[Any]
Headers = Mapping[str, str]
NOBODY: Headers = {}


def make_server(access: Access | None = None) -> WorkflowServer:
    server = make_ending_server(access)
    server.add_workflow("asker", Asker(timeout=None))
    return server


def make_ending_server(access: Access | None = None) -> WorkflowServer:
    """Return a server whose runs all end, so that nobody who follows an answer waits for ever."""
    # It is asked with so many wrong credentials, each of which is to be told apart from valid ones.
    server = WorkflowServer(access=access, limits=Limits(max_refusals=0))
    for name, workflow in WORKFLOWS.items():
        server.add_workflow(name, workflow)
    return server


@pytest.fixture
def base_url() -> Iterator[str]:
    """Yield the address of a server that has a handler in every state."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(serving(make_server())) as base_url,
    ):
        make_handlers(base_url)
        yield base_url


def make_handlers(base_url: str, headers: Headers = NOBODY) -> None:
    with httpx.Client(base_url=base_url, headers=headers, timeout=DEADLINE) as client:
        for name, handler_id in [
            ("echo", "completed"),
            ("failer", "failed"),
            ("asker", "cancelled"),
            ("asker", "running"),
        ]:
            run = client.post(f"/workflows/{name}/run-nowait", json={"handler_id": handler_id})
            assert run.status_code == 200, run.text
        assert client.post("/handlers/cancelled/cancel").json() == {"status": "cancelled"}


def load(*, handlers: tuple[str, ...], access: Access | None = None) -> BaseSchema:
    """Return the document, with names and ids among the parameters that exist."""
    schema = load_all(make_server(access))

    @schema.hook
    def map_path_parameters(_context: Any, parameters: dict[str, Any] | None) -> Any:
        known = {"name": (*WORKFLOWS,), "handler_id": handlers}
        return parameters and {
            key: _choose(value, known[key]) if key in known else value
            for key, value in parameters.items()
        }

    return schema


def _choose(value: Any, known: tuple[str, ...]) -> Any:
    """Return one that is known, or the value itself, as it is where no such name may be."""
    length = len(str(value))
    return value if length > MAX_NAME_LENGTH else (*known, value)[length % (len(known) + 1)]


def load_all(server: WorkflowServer) -> BaseSchema:
    """Return the document of a server, without a filter that sets none."""
    config = schemathesis.Config(seed=SEED)
    schema = schemathesis.openapi.from_dict(server.openapi_schema(), config=config)

    @schema.hook
    def filter_query(_context: Any, query: dict[str, Any] | None) -> bool:
        """Pass over `status=`, which the published Python client sends: it sets no filter."""
        statuses = (query or {}).get("status", [])
        return all(statuses if isinstance(statuses, list) else [statuses])

    return schema


# Streams are asked of ended handlers: they end, where that of a running one would not.
STREAM = "/events/{handler_id}"
operations = load(handlers=HANDLERS).exclude(path=STREAM, method="GET").exclude(path_regex=TYPED)
typed_operations = load(handlers=HANDLERS).include(path_regex=TYPED).exclude(path_regex=WAITING)
streams = load(handlers=ENDED).include(path=STREAM, method="GET")


def check(
    case: Case, base_url: str, *excluded: CheckFunction, headers: Headers = NOBODY
) -> Response:
    """Call the server and check what the document says of the answer."""
    response = case.call(base_url=base_url, headers=dict(headers))
    judge(response, case, *excluded)
    return response


def judge(response: Response, case: Case, *excluded: CheckFunction, **known: Any) -> None:
    """Check what the document says of an answer; `known` is what sequences know of the others."""
    if re.match(TYPED, case.path):
        excluded = (*excluded, negative_data_rejection)
    if response.status_code == 400 and list_faults(response) & UNDESCRIBED:
        excluded = (*excluded, positive_data_acceptance)
    # The assertion knows, as that check does not, which server errors are right.
    excluded = (*excluded, not_a_server_error)
    case.validate_response(response, excluded_checks=list(excluded), **known)
    assert response.status_code < 500 or response.json()["status"] in ("failed", "cancelled")


def list_faults(response: Response) -> set[str]:
    """Return the code of a problem and the types of its faults."""
    problem = response.json()
    return {problem["code"], *(fault["type"] for fault in problem["errors"] or ())}


@operations.parametrize()
@SETTINGS
def test_the_service_does_what_its_document_says(case: Case, base_url: str) -> None:
    check(case, base_url)


@typed_operations.parametrize()
@settings(SETTINGS, max_examples=20)
def test_a_workflow_does_what_its_own_operations_say(case: Case, base_url: str) -> None:
    check(case, base_url)


@streams.parametrize()
@SETTINGS
def test_the_streams_are_what_the_document_says(case: Case, base_url: str) -> None:
    # That check takes the fields of an SSE frame, not the envelope in `data`, for the event.
    response = check(case, base_url, response_schema_conformance)
    for envelope in read_envelopes(response):
        EventEnvelope.model_validate_json(envelope, strict=True)


def test_sequences_of_requests_do_what_the_document_says() -> None:
    try_sequences()


def try_sequences(access: Access | None = None, headers: Headers = NOBODY) -> None:
    """Try sequences of requests, each with these headers, at a server of their own."""
    server = make_ending_server(access)
    machine: type[APIStateMachine] = load_all(server).as_state_machine()
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(serving(server)) as base_url,
    ):

        @seed(SEED)
        class Sequences(machine):  # type: ignore[valid-type, misc]  # a class that is made
            def get_call_kwargs(self, case: Case) -> dict[str, Any]:
                return {"base_url": base_url, "timeout": PATIENCE, "headers": dict(headers)}

            def validate_response(self, response: Response, case: Case, **sent: Any) -> None:
                skipped = response_schema_conformance if case.path == STREAM else not_a_server_error
                judge(response, case, skipped, transport_kwargs=sent, recorder=self.recorder)

        run_sequences(Sequences)


def run_sequences(machine: type[APIStateMachine], *, tries: int = 3) -> None:
    """Run a machine, again where Hypothesis gives up on it without a finding.

    It replays sequences and takes them for deterministic, but a live server's answers, from which
    later requests are made, may differ between two replays.
    """
    try:
        machine.run(settings=settings(SETTINGS, max_examples=SEQUENCES, stateful_step_count=STEPS))
    except FlakyStrategyDefinition:
        if tries == 1:
            raise
        run_sequences(machine, tries=tries - 1)


def read_envelopes(response: Response) -> list[str]:
    """Return the envelopes of a stream in the format that its content type says."""
    lines = response.content.decode().split("\n")
    match response.headers.get("content-type"):
        case ["text/event-stream; charset=utf-8"]:
            return [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
        case ["application/x-ndjson"]:
            return lines[:-1]
        case _:
            return []
