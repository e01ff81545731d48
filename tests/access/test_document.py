"""Requests that schemathesis makes from the document of a server that asks for credentials.

With a credential the service does what its document says, and without one, or with a wrong one, it
refuses, which schemathesis tries by itself. A credential that may only read changes nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import settings
from schemathesis.specs.openapi.checks import (
    negative_data_rejection,
    response_schema_conformance,
)

from tests.support.credentials import KeyBook, bearer
from tests.support.live import serving
from tests.test_schemathesis import (
    ENDED,
    HANDLERS,
    SETTINGS,
    STREAM,
    TYPED,
    Case,
    Headers,
    check,
    load,
    make_handlers,
    make_server,
    try_sequences,
)
from workflow_server.app.access import Access, Scope

FEW = settings(SETTINGS, max_examples=40)


@dataclass(frozen=True)
class Guarded:
    """A server with a handler in every state, and the headers of who may do all, and only read."""

    base_url: str
    administrator: Headers
    reader: Headers


@pytest.fixture
def guarded_server(tmp_path: Path) -> Iterator[Guarded]:
    """Yield a live server that asks for a credential."""
    book = KeyBook(tmp_path / "keys.json")
    administrator = bearer(book.add("administrator", Scope.ADMIN))
    reader = bearer(book.add("reader", Scope.READ))
    server = make_server(book.open_access())
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(serving(server)) as base_url,
    ):
        make_handlers(base_url, administrator)
        yield Guarded(base_url, administrator, reader)


document = load(handlers=HANDLERS, access=Access()).exclude(path_regex=TYPED)
operations = document.exclude(path=STREAM, method="GET")
writing = document.include(method="POST")
streams = load(handlers=ENDED, access=Access()).include(path=STREAM, method="GET")


@operations.parametrize()
@FEW
def test_the_service_does_for_an_administrator_what_its_document_says(
    case: Case, guarded_server: Guarded
) -> None:
    check(case, guarded_server.base_url, headers=guarded_server.administrator)


@streams.parametrize()
@FEW
def test_the_streams_are_for_a_reader_what_the_document_says(
    case: Case, guarded_server: Guarded
) -> None:
    # That check takes the fields of an SSE frame, not the envelope in `data`, for the event.
    excluded = response_schema_conformance
    check(case, guarded_server.base_url, excluded, headers=guarded_server.reader)


@writing.parametrize()
@FEW
def test_a_reader_changes_nothing_whatever_it_sends(case: Case, guarded_server: Guarded) -> None:
    # It is refused for its scope before anybody looks at what it sent.
    excluded = negative_data_rejection
    response = check(case, guarded_server.base_url, excluded, headers=guarded_server.reader)
    assert response.status_code in (403, 405)


def test_sequences_of_an_administrator_do_what_the_document_says(tmp_path: Path) -> None:
    book = KeyBook(tmp_path / "keys.json")
    administrator = bearer(book.add("administrator", Scope.ADMIN))
    try_sequences(book.open_access(), administrator)
