"""Requests that schemathesis makes from the OpenAPI document, valid and not, to a live server.

A check fails where the server does what the document does not say. Every operation has a server of
its own, with handlers in every state, so that what one does is not seen by another.
"""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from anyio.from_thread import start_blocking_portal
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error, positive_data_acceptance
from schemathesis.config import SchemathesisConfig
from schemathesis.schemas import BaseSchema

from app.server import WorkflowServer
from tests.support.live import serving
from tests.support.workflows import Asker, Conversation, Echo, Failer, Greeter, TypedEcho

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
# Whether a cursor or an event is right depends on more than the document can say.
SEMANTIC = (
    "/handlers",
    "/workflows/{name}/run",
    "/workflows/{name}/run-nowait",
    "/events/{handler_id}",
)

SETTINGS = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)


def make_server() -> WorkflowServer:
    server = WorkflowServer()
    for name, workflow in WORKFLOWS.items():
        server.add_workflow(name, workflow)
    server.add_workflow("asker", Asker(timeout=None))
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


def make_handlers(base_url: str) -> None:
    with httpx.Client(base_url=base_url) as client:
        for name, handler_id in [
            ("echo", "completed"),
            ("failer", "failed"),
            ("asker", "cancelled"),
            ("asker", "running"),
        ]:
            run = client.post(f"/workflows/{name}/run-nowait", json={"handler_id": handler_id})
            assert run.status_code == 200, run.text
        assert client.post("/handlers/cancelled/cancel").json() == {"status": "cancelled"}


def load(*, handlers: tuple[str, ...]) -> BaseSchema:
    """Return the document, with names and ids among the parameters that exist."""
    schema = schemathesis.openapi.from_dict(make_server().openapi_schema())

    @schema.hook
    def map_path_parameters(_context: Any, parameters: dict[str, Any] | None) -> Any:
        known = {"name": (*WORKFLOWS,), "handler_id": handlers}
        return parameters and {
            key: (*known[key], value)[len(str(value)) % (len(known[key]) + 1)]
            for key, value in parameters.items()
        }

    return schema


# Streams are asked of ended handlers: they end, where that of a running one would not.
STREAM = {"path": "/events/{handler_id}", "method": "GET"}
operations = load(handlers=HANDLERS).exclude(**STREAM)
streams = load(handlers=ENDED).include(**STREAM)


def check(case: schemathesis.Case, base_url: str) -> None:
    excluded = [not_a_server_error]  # the assertion below says more
    if case.path in SEMANTIC:
        excluded.append(positive_data_acceptance)
    response = case.call_and_validate(base_url=base_url, excluded_checks=excluded)
    assert response.status_code < 500 or response.json()["status"] in ("failed", "cancelled")


@operations.parametrize()
@SETTINGS
def test_the_service_does_what_its_document_says(case: schemathesis.Case, base_url: str) -> None:
    check(case, base_url)


@streams.parametrize()
@SETTINGS
def test_the_streams_are_what_the_document_says(case: schemathesis.Case, base_url: str) -> None:
    check(case, base_url)
