"""What holds of work beside the runs, whoever does it."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.background import serving
from tests.background.servers import Servers
from tests.support.waiting import until
from workflow_server.app.background.contract import Work

PERIOD = 0.05  # seconds


def make_work(do: Callable[[], Awaitable[None]], name: str = "work") -> Work:
    """Return work that is done again after a moment."""
    return Work(name=name, period=PERIOD, do=do)


class Counted:
    """Work that is counted, and how many servers were at it at most."""

    def __init__(self, lasts: float = 0.0) -> None:
        self.done = self.most = self._inside = 0
        self._lasts = lasts

    async def do(self) -> None:
        """Do it."""
        self._inside += 1
        self.most = max(self.most, self._inside)
        try:
            await asyncio.sleep(self._lasts)
            self.done += 1
        finally:
            self._inside -= 1

    async def wait(self, times: int) -> None:
        """Return once it was done so many times more."""
        enough = self.done + times
        await until(lambda: self.done >= enough)


class Held:
    """Work that lasts until it is cut off, and says how often it was."""

    def __init__(self) -> None:
        self.began = self.cut_off = 0

    async def do(self) -> None:
        """Last."""
        self.began += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.cut_off += 1


async def test_work_is_done_again_and_again(servers: Servers) -> None:
    counted = Counted()
    await servers.start_all(make_work(counted.do))
    await counted.wait(5)


async def test_work_is_done_by_one_server_at_a_time(servers: Servers) -> None:
    counted = Counted(lasts=2 * PERIOD)
    await servers.start_all(make_work(counted.do))
    await counted.wait(8)
    assert counted.most == 1


async def test_work_is_done_by_one_process_at_a_time(servers: Servers, tmp_path: Path) -> None:
    serving.open_gate(tmp_path)
    await servers.start_processes(tmp_path)
    await until(lambda: len(serving.read_log(tmp_path)) >= 30)
    log = serving.read_log(tmp_path)[:30]
    assert log[::2] == [("began", pid) for _, pid in log[1::2]]
    assert log[1::2] == [("ended", pid) for _, pid in log[::2]]


async def test_work_does_not_wait_for_other_work(servers: Servers) -> None:
    held, counted = Held(), Counted()
    await servers.start_all(make_work(held.do, "held"), make_work(counted.do, "counted"))
    await until(lambda: held.began == 1)
    await counted.wait(5)
    assert (held.began, held.cut_off) == (1, 0)


async def test_work_that_fails_is_logged_counted_and_done_again(
    servers: Servers, caplog: pytest.LogCaptureFixture
) -> None:
    counted, failures = Counted(), [ZeroDivisionError("one"), KeyError("two")]

    async def fail() -> None:
        if failures:
            raise failures.pop(0)
        await counted.do()

    all_servers = await servers.start_all(make_work(fail, "failing"))
    await counted.wait(2)
    assert sum(server.count("failing", "failed") for server in all_servers) == 2
    await until(lambda: sum(s.count("failing", "completed") for s in all_servers) >= 2)
    raised = [
        record.exc_info[0]
        for record in caplog.records
        if record.getMessage() == "work failed" and record.exc_info is not None
    ]
    assert raised == [ZeroDivisionError, KeyError]
    assert not any(server.background.is_broken_off for server in all_servers)


async def test_work_that_fails_stops_no_other_work(servers: Servers) -> None:
    counted, tries = Counted(), Counted()

    async def fail() -> None:
        await tries.do()
        raise ZeroDivisionError

    await servers.start_all(make_work(fail, "failing"), make_work(counted.do, "counted"))
    await asyncio.gather(tries.wait(3), counted.wait(3))


async def test_work_of_a_process_that_was_killed_is_done_by_another(
    servers: Servers, tmp_path: Path
) -> None:
    killed = await servers.start_process(tmp_path, stale_after=serving.STALE)
    await until(lambda: serving.read_log(tmp_path) == [("began", killed.pid)])
    other = await servers.replace(killed, tmp_path)
    began = [("began", killed.pid), ("began", other.pid)]
    await until(lambda: serving.read_log(tmp_path) == began)
    serving.open_gate(tmp_path)
    await until(lambda: ("ended", other.pid) in serving.read_log(tmp_path))


async def test_work_that_a_stop_cuts_off_is_done_by_another_server_at_once(
    servers: Servers,
) -> None:
    held, counted = Held(), Counted()
    stopped = await servers.start(make_work(held.do))
    await until(lambda: held.began == 1)
    await stopped.background.stop()
    assert held.cut_off == 1
    await servers.start(Work(name="work", period=3600, do=counted.do))
    await counted.wait(1)


async def test_nothing_is_done_after_a_stop(servers: Servers) -> None:
    before, after = Counted(), Counted()
    stopped = await servers.start(make_work(before.do))
    await before.wait(2)
    await stopped.background.stop()
    done = before.done
    await servers.start(make_work(after.do))
    await after.wait(5)
    assert before.done == done
    assert not stopped.background.is_broken_off


async def test_a_stop_ends_though_work_does_not(
    servers: Servers, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workflow_server.app.background.contract.STOP_TIMEOUT", PERIOD)
    counted, after, released = Counted(), Counted(), asyncio.Event()

    async def resist() -> None:
        await counted.do()
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                continue

    stopped = await servers.start(make_work(resist))
    await counted.wait(1)
    await stopped.background.stop()
    assert [r for r in caplog.records if r.getMessage() == "work does not end"] != []
    released.set()
    await servers.start(make_work(after.do))
    await after.wait(5)
    assert counted.done == 1


async def test_a_server_that_was_stopped_can_be_started_again(servers: Servers) -> None:
    counted = Counted()
    server = await servers.start(make_work(counted.do))
    await counted.wait(1)
    await server.background.stop()
    server.background.start()
    await counted.wait(2)


async def test_work_goes_on_after_the_store_was_away(
    servers: Servers, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workflow_server.stores.postgres_jobs.ASK_TIMEOUT", 20 * PERIOD)
    counted = Counted()

    async def read() -> None:
        servers.read()
        await counted.do()

    await servers.start_all(make_work(read))
    await counted.wait(2)
    async with servers.outage():
        await until(lambda: caplog.text.count("work was cut off") + count_put_off(caplog) >= 3)
    await counted.wait(2)


def count_put_off(caplog: pytest.LogCaptureFixture) -> int:
    """Return how often a server could not ask for work."""
    return caplog.text.count("work is put off")


async def test_work_that_is_not_done_any_more_is_told_of(
    servers: Servers, caplog: pytest.LogCaptureFixture
) -> None:
    counted = Counted()

    async def cancel() -> None:
        raise asyncio.CancelledError

    server = await servers.start(make_work(cancel, "cancelled"), make_work(counted.do))
    await until(lambda: server.background.is_broken_off)
    assert [r for r in caplog.records if r.getMessage() == "work was broken off"] != []
    await counted.wait(2)
