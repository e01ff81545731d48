"""A file of keys, an identity provider, and a live server that takes credentials of both."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.credentials import IdentityProvider, KeyBook, run_provider
from tests.support.live import open_client
from tests.support.workflows import add_all
from workflow_server.app.access import Scope
from workflow_server.app.server import WorkflowServer


@pytest.fixture
def book(tmp_path: Path) -> KeyBook:
    """Return a file of keys, with one in it."""
    book = KeyBook(tmp_path / "keys.json")
    book.add("first", Scope.READ)
    return book


@pytest.fixture
def provider() -> Iterator[IdentityProvider]:
    """Yield an identity provider on loopback."""
    with run_provider() as provider:
        yield provider


@pytest.fixture
async def guarded(book: KeyBook, provider: IdentityProvider) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client, without a credential, of a live server that asks for one."""
    server = WorkflowServer(access=book.open_access(provider.make_verifier()))
    add_all(server)
    async with open_client(server) as client:
        yield client
