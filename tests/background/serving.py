"""A server with two works, as a process of its own: `python -m tests.background.serving`.

`held` writes down its begin, lasts until a gate is open, and writes down its end. `looking` says in
a file that the server has looked for work.
"""

import asyncio
import os
import sys
from pathlib import Path

from tests.support.waiting import until
from workflow_server.app.background.choosing import make_background
from workflow_server.app.background.contract import Work
from workflow_server.app.clocks import StoreClock
from workflow_server.app.replicas.membership import Membership
from workflow_server.app.telemetry.metrics import Metrics
from workflow_server.stores.postgres import PostgresStore
from workflow_server.stores.replicas import Peers, Replicas

PERIOD = 0.05  # seconds
LASTS = 0.02  # seconds that the work takes at least
STALE = 5.0  # seconds


def read_log(folder: Path) -> list[tuple[str, int]]:
    """Return what the servers of a folder did, in order: `began` or `ended`, and the process."""
    log = folder / "log"
    lines = log.read_text().splitlines() if log.exists() else []
    return [(word, int(pid)) for word, pid in map(str.split, lines)]


def open_gate(folder: Path) -> None:
    """Let the work end."""
    (folder / "gate").touch()


async def wait_looked(folder: Path, pid: int) -> None:
    """Return once the server of a process has looked for work."""
    await until((folder / f"looked-{pid}").exists)


async def serve(folder: Path, url: str, stale_after: float) -> None:
    """Do both works until the process ends."""

    async def hold() -> None:
        note(folder, "began")
        await asyncio.sleep(LASTS)
        while not (folder / "gate").exists():  # noqa: ASYNC110  # another process opens it
            await asyncio.sleep(LASTS)
        note(folder, "ended")

    async def look() -> None:
        (folder / f"looked-{os.getpid()}").touch()

    works = (
        Work(name="held", period=PERIOD, do=hold),
        Work(name="looking", period=PERIOD, do=look),
    )
    peers = await join(url, Replicas(heartbeat=0.5, stale_after=stale_after)) if url else None
    make_background(works, Metrics(), peers).start()
    await asyncio.Event().wait()


async def join(url: str, replicas: Replicas) -> Peers:
    """Be one of the servers of a store."""
    store = PostgresStore(url, replicas=replicas)
    await store.start()
    assert store.peers is not None
    membership = Membership(
        replicas, StoreClock(), on_fenced=lambda: os._exit(1), on_changed=lambda: None
    )
    await membership.start(store.peers.open_pulse())
    return store.peers


def note(folder: Path, word: str) -> None:
    """Write down what this process does, in one piece."""
    with (folder / "log").open("a") as log:
        log.write(f"{word} {os.getpid()}\n")


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])))
