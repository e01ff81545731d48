"""Forwarding, wherever a run is by now: what is sent again, and what never is."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from tests.support.ports import find_port
from tests.support.replica_metrics import make_replica_metrics
from workflow_server.app.errors import (
    Draining,
    HandlerEnded,
    NothingToCancel,
    NotStarted,
    OutcomeUnknown,
    QuestionNotOpen,
    RunElsewhere,
    ServiceError,
)
from workflow_server.app.replicas.forwarding import Forwarding
from workflow_server.app.replicas.peers import Connections
from workflow_server.routers.problems import service_problem
from workflow_server.schemas.internal import SEND, Done, MoveMessage
from workflow_server.schemas.records import HandlerKey
from workflow_server.stores.replicas import Owner

BOUND = 0.3  # seconds
KEY = HandlerKey("", "it")
MESSAGE = MoveMessage(lease="it", cursor=1, released=False)
Answer = tuple[int, bytes]


class OtherServer:
    """A server that gives the same answers in order, the last one for ever, and counts requests."""

    def __init__(self, *answers: Answer | None) -> None:
        self._answers = list(answers)
        self.requests = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request, or hang up where there is no answer."""
        await reader.readuntil(b"\r\n\r\n")
        self.requests += 1
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if answer is not None:
            status, body = answer
            head = f"HTTP/1.1 {status} It\r\nconnection: close\r\ncontent-length: {len(body)}"
            writer.write(head.encode() + b"\r\n\r\n" + body)
        writer.close()


@asynccontextmanager
async def standing(server: OtherServer) -> AsyncIterator[Owner]:
    listener = await asyncio.start_server(server, "127.0.0.1", 0)
    try:
        yield Owner(1, f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}")
    finally:
        listener.close()


@pytest.fixture
async def forwarding() -> AsyncIterator[Forwarding]:
    peers = Connections()
    peers.start("secret")
    yield Forwarding(peers, bound=BOUND, is_draining=lambda: False, metrics=make_replica_metrics())
    peers.stop()


def elsewhere(*owners: Owner) -> Callable[[], Awaitable[str]]:
    """Return work that finds the run at these servers in order, and then here."""
    left = list(owners)

    async def work() -> str:
        if left:
            raise RunElsewhere("It is there.", owner=left.pop(0))
        return "here"

    return work


async def send(forwarding: Forwarding, here: Callable[[], Awaitable[str]]) -> str:
    async def there(owner: Owner) -> str:
        await forwarding.ask(owner, SEND, MESSAGE, Done)
        return "there"

    return await forwarding.carry_out(here, there)


def problem(error: type[ServiceError]) -> Answer:
    response = service_problem(error("A sentence."))
    return response.status_code, bytes(response.body)


def misdirected(owner: Owner) -> Answer:
    return 421, f'{{"incarnation":{owner.incarnation},"address":"{owner.address}"}}'.encode()


async def test_what_the_owner_has_done_is_done(forwarding: Forwarding) -> None:
    server = OtherServer((200, b"{}"))
    async with standing(server) as owner:
        assert await send(forwarding, elsewhere(owner)) == "there"
    assert server.requests == 1


@pytest.mark.parametrize("error", [HandlerEnded, NothingToCancel, QuestionNotOpen])
async def test_what_the_owner_refuses_is_refused_by_the_same_error(
    forwarding: Forwarding, error: type[ServiceError]
) -> None:
    server = OtherServer(problem(error))
    async with standing(server) as owner:
        with pytest.raises(error, match=r"A sentence\."):
            await send(forwarding, elsewhere(owner))
    assert server.requests == 1


async def test_an_owner_that_hangs_up_is_not_asked_again(forwarding: Forwarding) -> None:
    server = OtherServer(None)
    async with standing(server) as owner:
        with pytest.raises(OutcomeUnknown):
            await send(forwarding, elsewhere(owner, owner))
    assert server.requests == 1


async def test_an_answer_of_no_server_of_ours_leaves_the_outcome_unknown(
    forwarding: Forwarding,
) -> None:
    server = OtherServer((502, b"<h1>Bad Gateway</h1>"))
    async with standing(server) as owner:
        with pytest.raises(OutcomeUnknown):
            await send(forwarding, elsewhere(owner))


async def test_the_server_that_a_wrong_one_names_is_asked(forwarding: Forwarding) -> None:
    right = OtherServer((200, b"{}"))
    async with standing(right) as owner:
        wrong = OtherServer(misdirected(owner))
        async with standing(wrong) as former:
            assert await send(forwarding, elsewhere(former)) == "there"
    assert (wrong.requests, right.requests) == (1, 1)


async def test_two_servers_that_name_each_other_are_asked_once_a_look(
    forwarding: Forwarding,
) -> None:
    first, second = OtherServer((200, b"")), OtherServer((200, b""))
    async with standing(first) as one, standing(second) as other:
        first.__init__(misdirected(other))  # type: ignore[misc]  # it names what came after it
        second.__init__(misdirected(one))  # type: ignore[misc]  # the same
        assert await send(forwarding, elsewhere(one)) == "here"
    assert (first.requests, second.requests) == (1, 1)


@pytest.mark.parametrize("error", [NotStarted, Draining])
async def test_a_server_that_stops_has_not_taken_it(
    forwarding: Forwarding, error: type[NotStarted | Draining]
) -> None:
    server = OtherServer(problem(error))
    async with standing(server) as owner:
        assert await send(forwarding, elsewhere(owner)) == "here"


async def test_an_owner_that_is_not_reached_is_waited_for_and_then_told_of(
    forwarding: Forwarding,
) -> None:
    gone = Owner(1, f"http://127.0.0.1:{find_port()}")
    with pytest.raises(RunElsewhere) as raised:
        await send(forwarding, elsewhere(*[gone] * 100))
    assert raised.value.headers == {"Retry-After": "5"}


async def test_an_owner_that_is_dead_by_now_gives_way_to_this_server(
    forwarding: Forwarding,
) -> None:
    gone = Owner(1, f"http://127.0.0.1:{find_port()}")
    assert await send(forwarding, elsewhere(gone, gone)) == "here"


async def test_a_server_that_is_about_to_stop_waits_for_no_other() -> None:
    peers = Connections()
    forwarding = Forwarding(
        peers, bound=3_600.0, is_draining=lambda: True, metrics=make_replica_metrics()
    )
    gone = Owner(1, f"http://127.0.0.1:{find_port()}")
    with pytest.raises(RunElsewhere):
        await send(forwarding, elsewhere(gone))
