"""Event streams of readers with a credential, and what becomes of them when it ends."""

import logging
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.support.calls import answer, start, start_asker, wait_ended
from tests.support.credentials import IdentityProvider, KeyBook, bearer, claims, sign
from tests.support.live import open_client
from tests.support.streams import iterate_frames
from tests.support.workflows import add_all
from workflow_server.app.access import Scope
from workflow_server.app.server import WorkflowServer
from workflow_server.stores.sqlite import SqliteStore


@pytest.fixture
async def client(book: KeyBook, provider: IdentityProvider) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of a server whose streams wait no longer than a heartbeat of 10 ms."""
    access = book.open_access(provider.make_verifier())
    server = WorkflowServer(access=access, sse_heartbeat_interval=0.01)
    add_all(server)
    async with open_client(server) as client:
        client.headers.update(bearer(book.add("runner", Scope.RUN)))
        yield client


async def test_a_revoked_key_ends_the_streams_that_it_opened(
    client: httpx.AsyncClient, book: KeyBook
) -> None:
    handler_id = await start_asker(client)
    url, headers = f"/events/{handler_id}?after_sequence=-1", bearer(book.add("r", Scope.READ))
    async with client.stream("GET", url, headers=headers) as response:
        frames = iterate_frames(response)
        assert (await anext(frames)).type == "Question"
        book.revoke("r")
        assert [frame async for frame in frames] == []
    assert (await client.get(url, headers=headers)).status_code == 401


async def test_a_stream_goes_on_while_its_key_is_good(client: httpx.AsyncClient) -> None:
    handler_id = await start_asker(client)
    async with client.stream("GET", f"/events/{handler_id}?after_sequence=-1") as response:
        frames = iterate_frames(response)
        await anext(frames)
        await answer(client, handler_id, "yes")
        assert [frame.type async for frame in frames] == ["StopEvent"]


async def test_nothing_secret_is_logged_or_stored(
    book: KeyBook,
    provider: IdentityProvider,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    path = book.file.with_name("runs.db")
    key, token, wrong = book.add("r", Scope.RUN), sign(claims()), "wfs_" + "w" * 43
    access = book.open_access(provider.make_verifier())
    server = WorkflowServer(access=access, workflow_store=SqliteStore(path))
    add_all(server)
    async with open_client(server) as client:
        for credential in (key, token, wrong, f"{token}x", sign(claims(exp=1), kid="unknown")):
            client.headers.update(bearer(credential))
            await client.get("/handlers/unknown")
            await client.post("/workflows/failer/run", json={})
        client.headers.update(bearer(key))
        handler_id = await start(client, "greeter", name="Ada")
        await wait_ended(client, handler_id)
    kept = b"".join(file.read_bytes() for file in path.parent.glob("runs.db*")).decode("latin-1")
    # httpx and httpcore log in this process what this test itself sends.
    ours = [record for record in caplog.records if not record.name.startswith("http")]
    told = kept + str([vars(record) for record in ours])
    secrets = (key, key[4:], token, token.rpartition(".")[2], wrong)
    assert [secret for secret in secrets if secret in told] == []
