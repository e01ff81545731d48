"""A run that ends the process is found and given up, and costs the others nothing."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from tests.durability.supervised import SupervisedServer
from tests.support.backends import DURABLE, FRESH_URLS
from tests.support.calls import send, start
from tests.support.waiting import until

SERVED = Path(__file__).with_name("poison.py")
GUILTY = (
    "The process ended {} while no run but this one was at work, before a step of it had finished;"
    " it is not resumed again."
)
PERIOD = 0.2  # seconds
KILLS = 8
FOUND = 240.0  # seconds within which a run is found on a machine that is busy


@asynccontextmanager
async def supervised(
    kind: str, folder: Path, *, max_resumes: int, probation: float = 0.05
) -> AsyncIterator[SupervisedServer]:
    """Yield a server that is started again as often as it ends."""
    served = Path(shutil.copy(SERVED, folder))
    async with FRESH_URLS[kind](folder) as url:
        server = SupervisedServer(
            served,
            url,
            *("--max-resumes", str(max_resumes)),
            POISON_PROBATION=str(probation),
        )
        async with server.running():
            yield server


async def is_at_work(client: httpx.AsyncClient, handler_id: str) -> bool:
    """Return whether a handler's run is at work."""
    found: bool = (await client.get(f"/handlers/{handler_id}")).json()["phase"] == "working"
    return found


async def start_all(server: SupervisedServer, poison: str, others: int, **fields: float) -> str:
    """Start the others, and in the midst of them one run that ends the process."""
    for number in range(others):
        if number == others // 2:
            await start(server.client, poison, "guilty", **fields)
        await start(server.client, "held", f"held-{number}")
    return "guilty"


@pytest.mark.parametrize("kind", DURABLE)
@pytest.mark.parametrize(
    ("poison", "fields", "others"),
    [("poison", {}, 20), ("poison", {"seconds": 0.3}, 4), ("sealed", {}, 4)],
)
async def test_a_run_that_ends_the_process_fails_and_all_others_complete(
    kind: str, poison: str, fields: dict[str, float], others: int, tmp_path: Path
) -> None:
    async with supervised(kind, tmp_path, max_resumes=1) as server:
        guilty = await start_all(server, poison, others, **fields)
        await until(lambda: is_at_work(server.client, f"held-{others - 1}"))
        (tmp_path / "armed").touch()
        if poison == "sealed":
            server.kill()  # it does nothing before it is read back
        handler = await server.wait_ended(guilty, within=FOUND)
        assert (handler["status"], handler["error"]) == ("failed", GUILTY.format("2 times"))
        (tmp_path / "released").touch()
        ended = [await server.wait_ended(f"held-{number}") for number in range(others)]
        assert [handler["error"] for handler in ended] == [None] * others
        assert server.starts <= 20


@pytest.mark.parametrize("kind", DURABLE)
async def test_a_run_that_ends_the_process_when_it_is_answered_fails(
    kind: str, tmp_path: Path
) -> None:
    async with supervised(kind, tmp_path, max_resumes=1) as server:
        await start(server.client, "waiting", "guilty")
        await start(server.client, "held", "held")
        await until(lambda: is_at_work(server.client, "held"))
        server.kill()
        await server.wait_starts(2)
        await server.wait_healthy()
        (tmp_path / "armed").touch()
        with pytest.raises(httpx.TransportError):
            await send(server.client, "guilty", "HumanResponseEvent", {})
        handler = await server.wait_ended("guilty", within=FOUND)
        assert handler["error"] == GUILTY.format("2 times")
        (tmp_path / "released").touch()
        assert (await server.wait_ended("held"))["error"] is None


@pytest.mark.parametrize("kind", DURABLE)
async def test_a_server_that_is_killed_again_and_again_fails_none_of_its_runs(
    kind: str, tmp_path: Path
) -> None:
    async with supervised(kind, tmp_path, max_resumes=1) as server:
        names = [await start(server.client, "held", f"held-{number}") for number in range(3)]
        await until(lambda: is_at_work(server.client, names[-1]))
        for _ in range(KILLS):
            await server.wait_healthy()
            await asyncio.sleep(PERIOD)  # of what kills it
            starts = server.starts
            server.kill()
            await server.wait_starts(starts + 1)
        (tmp_path / "released").touch()
        ended = [await server.wait_ended(name, within=FOUND) for name in names]
        assert [handler["error"] for handler in ended] == [None] * 3


async def list_in_phase(client: httpx.AsyncClient, phase: str) -> list[str]:
    """Return the handlers whose runs are in a phase."""
    listed = (await client.get("/handlers", params={"phase": phase})).json()["handlers"]
    return sorted(handler["handler_id"] for handler in listed)


@pytest.mark.parametrize("kind", DURABLE)
async def test_suspects_that_wait_can_be_cancelled_and_survive_further_crashes(
    kind: str, tmp_path: Path
) -> None:
    names = [f"held-{number}" for number in range(4)]
    async with supervised(kind, tmp_path, max_resumes=1, probation=3600.0) as server:
        for name in names:
            await start(server.client, "held", name)
        await until(lambda: is_at_work(server.client, names[-1]))
        for starts in (2, 3):
            server.kill()
            await server.wait_starts(starts)
            await server.wait_healthy()
        put_off = await list_in_phase(server.client, "queued")
        answer = await server.client.post(f"/handlers/{put_off[0]}/cancel")
        assert answer.json() == {"status": "cancelled"}
        assert (await server.find(put_off[0]) or {})["status"] == "cancelled"
        server.kill()
        await server.wait_starts(4)
        await server.wait_healthy()
        (tmp_path / "released").touch()
        ended = [await server.wait_ended(name, within=FOUND) for name in names]
        statuses = {handler["handler_id"]: handler["status"] for handler in ended}
        assert statuses == {**dict.fromkeys(names, "completed"), put_off[0]: "cancelled"}
