"""What one client may take up: streams, and requests a second."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest

from tests.support.calls import start_asker
from tests.support.credentials import KeyBook, bearer
from tests.support.live import open_client
from tests.support.problems import problem_of
from tests.support.sockets import read_stream
from tests.support.waiting import until
from tests.support.workflows import add_all
from workflow_server.app.access import Scope
from workflow_server.app.access.buckets import MAX_BUCKETS, Buckets
from workflow_server.app.errors import TooManyRequests
from workflow_server.app.server import WorkflowServer
from workflow_server.app.settings import Limits

SLOW = 0.001  # requests a second: none comes back during a test


@asynccontextmanager
async def limited(book: KeyBook | None = None, **limits: float) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of a server with these limits."""
    access = book.open_access() if book is not None else None
    server = WorkflowServer(access=access, limits=Limits.model_validate(limits))
    add_all(server)
    async with open_client(server) as client:
        yield client


@pytest.fixture
def book(tmp_path: Path) -> KeyBook:
    """Return a file of keys."""
    return KeyBook(tmp_path / "keys.json")


async def ask_stream(client: httpx.AsyncClient, handler_id: str) -> httpx.Response:
    """Ask for a stream without an end, and return what refuses it."""
    return await client.get(f"/events/{handler_id}", params={"after_sequence": -1})


@pytest.mark.parametrize("limit", ["max_streams", "max_streams_per_client"])
async def test_a_stream_too_many_is_refused_until_another_is_closed(limit: str) -> None:
    async with limited(None, **{limit: 2}) as client:
        handler_id = await start_asker(client)
        async with AsyncExitStack() as streams:
            for _ in range(2):
                stream = read_stream(client, handler_id, "after_sequence=-1")
                await (await streams.enter_async_context(stream)).read_head()
            refused = await ask_stream(client, handler_id)
            others = await client.get(f"/handlers/{handler_id}")

        async def is_streamed() -> bool:
            async with read_stream(client, handler_id, "after_sequence=-1") as stream:
                return await stream.read_status() == 200

        await until(is_streamed)
    assert problem_of(refused) == (429, "too_many_streams")
    assert refused.headers["retry-after"] == "5"
    assert others.status_code == 202


async def test_streams_are_counted_by_credential(book: KeyBook) -> None:
    first, second = book.add("first", Scope.RUN), book.add("second", Scope.RUN)
    async with limited(book, max_streams_per_client=1) as client:
        client.headers["authorization"] = f"Bearer {first}"
        handler_id = await start_asker(client)
        url = f"/events/{handler_id}?after_sequence=-1"
        async with client.stream("GET", url, headers=bearer(first)) as opened:
            refused = await client.get(url, headers=bearer(first))
            async with client.stream("GET", url, headers=bearer(second)) as other:
                statuses = opened.status_code, other.status_code
    assert problem_of(refused) == (429, "too_many_streams")
    assert statuses == (200, 200)


async def test_requests_too_many_are_refused_and_told_when_to_come_back() -> None:
    async with limited(rate_limit=SLOW, rate_burst=3) as client:
        responses = [await client.get("/workflows") for _ in range(5)]
    assert [response.status_code for response in responses] == [200, 200, 200, 429, 429]
    assert problem_of(responses[3]) == (429, "too_many_requests")
    assert 900 < int(responses[3].headers["retry-after"]) <= 1_000


async def test_a_refused_request_starts_nothing() -> None:
    async with limited(rate_limit=SLOW, rate_burst=2) as client:
        await client.get("/workflows")
        await client.get("/workflows")
        refused = await client.post("/workflows/echo/run", json={})
        metrics = await client.get("/metrics")
    assert problem_of(refused) == (429, "too_many_requests")
    assert metrics.status_code == 429


async def test_probes_are_answered_at_any_rate() -> None:
    async with limited(rate_limit=SLOW, rate_burst=1) as client:
        await client.get("/workflows")
        paths = ["/health", "/livez", "/readyz"] * 3
        statuses = [(await client.get(path)).status_code for path in paths]
    assert statuses == [200] * 9


async def test_requests_are_counted_by_credential(book: KeyBook) -> None:
    first, second = bearer(book.add("first", Scope.READ)), bearer(book.add("second", Scope.READ))
    async with limited(book, rate_limit=SLOW, rate_burst=2) as client:
        statuses = [
            (await client.get("/workflows", headers=headers)).status_code
            for headers in [first, first, first, second]
        ]
    assert statuses == [200, 200, 429, 200]


async def test_without_a_rate_limit_nothing_is_counted() -> None:
    async with limited(rate_burst=1) as client:
        statuses = {(await client.get("/workflows")).status_code for _ in range(20)}
    assert statuses == {200}


def refused(buckets: Buckets, client: str, now: float) -> bool:
    """Return whether a request at this time is one too many."""
    try:
        buckets.take(client, now)
    except TooManyRequests:
        return True
    return False


@pytest.mark.parametrize("now", [0.0, 1e6, 1e9 + 1 / 3])
def test_a_bucket_fills_again_at_its_rate(now: float) -> None:
    buckets = Buckets(rate=2.0, burst=3)
    at_once = [refused(buckets, "a", now) for _ in range(4)]
    later = [refused(buckets, "a", now + 1.0) for _ in range(3)]
    much_later = [refused(buckets, "a", now + 100.0) for _ in range(4)]
    assert at_once == [False, False, False, True]
    assert later == [False, False, True]
    assert much_later == [False, False, False, True]


def test_the_table_of_buckets_is_bounded() -> None:
    buckets = Buckets(rate=0.01, burst=1)
    for number in range(MAX_BUCKETS + 1):
        buckets.take(f"client {number}", 0.0)
    assert not refused(buckets, "client 0", 0.0)
    assert refused(buckets, f"client {MAX_BUCKETS}", 0.0)
