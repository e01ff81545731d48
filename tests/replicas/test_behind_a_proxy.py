"""Servers behind an nginx that has the configuration which is shipped."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from tests.replicas.serving import Member, members
from tests.replicas.working import Gated
from tests.support.calls import start
from tests.support.live import make_client
from tests.support.nginx import balancing
from tests.support.ports import find_port
from tests.support.streams import Frame, iterate_frames
from workflow_server.app.server import WorkflowServer
from workflow_server.schemas.problems import Problem

HTML = b"<h1>Busy</h1>"
BUSY = b"HTTP/1.1 503 Busy\r\nretry-after: 7\r\ncontent-length: %d\r\n\r\n" % len(HTML) + HTML


@contextmanager
def one_address(folder: Path, *ports: int) -> Iterator[httpx.AsyncClient]:
    """Yield a client of an nginx before the servers at some ports."""
    with balancing(folder, ports) as proxy:
        yield make_client(f"http://{proxy.host}:{proxy.port}")


@asynccontextmanager
async def raw_server(answer: bytes) -> AsyncIterator[tuple[int, list[bytes]]]:
    """Yield the port of a server that answers so and hangs up, and the requests that it got."""
    requests: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append((await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")[0])
        writer.write(answer)
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listener:
        yield listener.sockets[0].getsockname()[1], requests


def port_of(member: Member) -> int:
    """Return the port of a server."""
    port = urlsplit(member.server.lifecycle.address or "").port
    assert port is not None
    return port


async def read(client: httpx.AsyncClient, handler_id: str, begun: asyncio.Barrier) -> list[Frame]:
    """Return all events of a run; the second one comes when all readers have the first."""
    async with client.stream("GET", f"/events/{handler_id}?after_sequence=-1") as response:
        frames: list[Frame] = []
        async for frame in iterate_frames(response):
            if not frames:
                await begun.wait()
            frames.append(frame)
    return frames


async def test_any_of_three_servers_answers_and_events_come_one_by_one(
    url: str, tmp_path: Path
) -> None:
    def add(server: WorkflowServer) -> None:
        server.add_workflow("gated", Gated("it", tmp_path))

    async with members(url, 3, add=add) as servers:
        with one_address(tmp_path, *map(port_of, servers)) as client:
            async with client:
                handler_id = await start(client, "gated")
                begun = asyncio.Barrier(4)
                reading = [asyncio.create_task(read(client, handler_id, begun)) for _ in range(3)]
                await begun.wait()
                (tmp_path / "gate").touch()
                for frames in await asyncio.gather(*reading):
                    assert [frame.type for frame in frames] == ["Began", "StopEvent"]
                counts = [await count_streams(server) for server in servers]
    assert min(counts) > 0


async def count_streams(member: Member) -> float:
    """Return how many streams a server has answered."""
    lines = (await member.client.get("/metrics")).text.splitlines()
    counts = [line for line in lines if "_http_request_seconds_count" in line]
    return sum(float(line.rpartition(" ")[2]) for line in counts if '"/events/' in line)


async def test_what_is_internal_is_not_passed_on(tmp_path: Path) -> None:
    async with raw_server(BUSY) as (port, requests):
        with one_address(tmp_path, port) as client:
            async with client:
                assert (await client.post("/internal/send", json={})).status_code == 404
    assert requests == []


async def test_a_get_is_asked_of_the_next_server_and_a_post_gets_its_answer(
    tmp_path: Path,
) -> None:
    async with raw_server(BUSY) as (one, first), raw_server(BUSY) as (other, second):
        with one_address(tmp_path, one, other) as client:
            async with client:
                got = await client.get("/handlers")
                assert (got.status_code, got.headers["retry-after"]) == (503, "7")
                assert first == second == [b"GET /handlers HTTP/1.1"]
                posted = await client.post("/workflows/it/run-nowait", json={})
                assert (posted.status_code, posted.headers["retry-after"]) == (503, "7")
    assert len(first + second) == 3


async def test_a_post_whose_answer_is_lost_is_sent_once_and_its_outcome_unknown(
    tmp_path: Path,
) -> None:
    async with raw_server(b"") as (one, first), raw_server(b"") as (other, second):
        with one_address(tmp_path, one, other) as client:
            async with client:
                for path in ("/workflows/it/run-nowait", "/workflows/it/run"):
                    lost = await client.post(path, json={})
                    problem = Problem.model_validate({"errors": None, **lost.json()})
                    assert (lost.status_code, problem.code) == (503, "outcome_unknown")
                    assert lost.headers["content-type"] == "application/problem+json"
                    assert "retry-after" not in lost.headers
    assert len(first + second) == 2


async def test_a_post_finds_the_server_that_listens(tmp_path: Path) -> None:
    async with raw_server(BUSY) as (port, requests):
        with one_address(tmp_path, find_port(), port) as client:
            async with client:
                for _ in range(4):
                    assert (await client.post("/handlers/it/cancel")).headers["retry-after"] == "7"
    assert len(requests) == 4
