"""Bodies that are too large are refused before they are read whole."""

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.support.calls import answer, start_asker
from tests.support.live import open_client
from tests.support.problems import problem_of
from tests.support.sockets import connect
from tests.support.workflows import add_all
from workflow_server.app.server import WorkflowServer
from workflow_server.app.settings import Limits

LIMIT = 1_000


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of a server that takes small bodies only."""
    server = WorkflowServer(limits=Limits(max_body_size=LIMIT))
    add_all(server)
    async with open_client(server) as client:
        yield client


def body_of(size: int) -> bytes:
    """Return a run request of so many bytes."""
    return b'{"start_event": {}}'.ljust(size)


async def in_chunks(body: bytes) -> AsyncIterator[bytes]:
    """Yield a body bit by bit, so that its length is not told before."""
    for start in range(0, len(body), 100):
        yield body[start : start + 100]


@pytest.mark.parametrize("path", ["/workflows/echo/run", "/workflows/echo/run-nowait"])
async def test_a_body_over_the_limit_is_refused(client: httpx.AsyncClient, path: str) -> None:
    response = await client.post(path, content=body_of(LIMIT + 1))
    assert problem_of(response) == (413, "body_too_large")


async def test_an_event_over_the_limit_is_refused(client: httpx.AsyncClient) -> None:
    response = await client.post("/events/h", content=body_of(LIMIT + 1))
    assert problem_of(response) == (413, "body_too_large")


async def test_a_chunked_body_over_the_limit_is_refused(client: httpx.AsyncClient) -> None:
    response = await client.post("/workflows/echo/run", content=in_chunks(body_of(LIMIT + 1)))
    assert problem_of(response) == (413, "body_too_large")


async def test_a_body_at_the_limit_is_taken(client: httpx.AsyncClient) -> None:
    response = await client.post("/workflows/echo/run", content=body_of(LIMIT))
    assert response.status_code == 200


async def test_a_chunked_body_at_the_limit_is_taken(client: httpx.AsyncClient) -> None:
    response = await client.post("/workflows/echo/run", content=in_chunks(body_of(LIMIT)))
    assert response.status_code == 200


async def test_a_refused_body_starts_nothing(client: httpx.AsyncClient) -> None:
    await client.post("/workflows/echo/run", content=body_of(LIMIT + 1))
    assert (await client.get("/handlers")).json()["handlers"] == []


async def test_the_length_that_is_told_is_enough_to_refuse(client: httpx.AsyncClient) -> None:
    async with connect(client) as connection:
        await connection.send(
            "POST /workflows/echo/run HTTP/1.1", "Host: test", "Content-Length: 1000000000000"
        )
        assert await connection.read_status() == 413


async def test_chunks_are_refused_as_soon_as_they_are_too_many(client: httpx.AsyncClient) -> None:
    async with connect(client) as connection:
        await connection.send(
            "POST /workflows/echo/run HTTP/1.1", "Host: test", "Transfer-Encoding: chunked"
        )
        connection.writer.write(b"7d0\r\n" + b" " * 2000 + b"\r\n")
        assert await connection.read_status() == 413


async def test_a_body_of_a_get_is_passed_over_and_does_not_end_its_stream(
    client: httpx.AsyncClient,
) -> None:
    handler_id = await start_asker(client)
    async with connect(client) as reader:
        path = f"/events/{handler_id}?after_sequence=-1"
        await reader.send(f"GET {path} HTTP/1.1", "Host: test", "Content-Length: 1000000000000")
        assert await reader.read_status() == 200
        await answer(client, handler_id, "yes")
        body = await reader.reader.readuntil(b"\r\n0\r\n\r\n")
    assert b'"type":"StopEvent"' in body


async def test_the_default_limit_is_10_mib() -> None:
    server = WorkflowServer()
    add_all(server)
    async with open_client(server) as client:
        fits = await client.post("/workflows/echo/run", content=body_of(10 * 1024 * 1024))
        over = await client.post("/workflows/echo/run", content=body_of(10 * 1024 * 1024 + 1))
    assert (fits.status_code, over.status_code) == (200, 413)
