"""A server as a process of its own, soaked for some seconds."""

import asyncio
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from tests.durability.crash.process import ROOT
from tests.soak.gauges import FileDisk, Judgement, Sample, SchemaDisk, judge, take_sample
from tests.soak.load import Load
from tests.support.command import COMMAND, make_environment
from tests.support.ports import find_port
from tests.support.postgres import temporary_schema
from tests.support.waiting import DEADLINE, until

SERVED = Path(__file__).with_name("served.py")
CLIENTS = 12
STARTUP = 60.0
TIMEOUT = 60.0

Tell = Callable[[str], None]


async def soak(store: str, seconds: float, folder: Path, tell: Tell) -> list[Judgement]:
    """Soak a server over a store of a kind, fresh and gone afterwards; judge what it holds."""
    if store == "sqlite":
        file = folder / "runs.db"
        return await _soak(f"sqlite:///{file}", FileDisk(file), seconds, folder, tell)
    async with temporary_schema() as url:
        return await _soak(url, SchemaDisk(url), seconds, folder, tell)


async def _soak(
    url: str, disk: FileDisk | SchemaDisk, seconds: float, folder: Path, tell: Tell
) -> list[Judgement]:
    samples: list[Sample] = []
    limits = httpx.Limits(max_connections=None)
    async with (
        _running(url, folder) as (process, base_url),
        httpx.AsyncClient(base_url=base_url, timeout=TIMEOUT, limits=limits) as client,
    ):
        load = Load(client)
        end = asyncio.get_running_loop().time() + seconds
        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(load.go_on())
            while asyncio.get_running_loop().time() < end:
                await asyncio.sleep(seconds / 100)
                samples.append(await take_sample(process, client, disk))
            load.stop()
    counted = ", ".join(f"{count} {name}" for name, count in sorted(load.done.items()))
    tell(f"  {load.done.total()} errands in {seconds:.0f} s: {counted}")
    return judge(samples)


@asynccontextmanager
async def _running(store: str, folder: Path) -> AsyncIterator[tuple[int, str]]:
    """Run the server until the end of the block; yield its process and its address."""
    port = find_port()
    url = f"http://127.0.0.1:{port}"
    # A file by itself, and not one in the package of the tests.
    file = Path(shutil.copy(SERVED, folder))
    with (folder / "server.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(COMMAND, "serve", str(file), "--port", str(port), "--log-level", "error"),
            env=make_environment(SOAK_STORE=store, PYTHONPATH=str(ROOT)),
            stdout=log,
            stderr=log,
        )
    try:
        async with httpx.AsyncClient(base_url=url, timeout=DEADLINE) as client:

            async def is_ready() -> bool:
                assert process.returncode is None, (folder / "server.log").read_text()
                try:
                    return (await client.get("/readyz")).status_code == 200
                except httpx.TransportError:
                    return False

            await until(is_ready, within=STARTUP)
        yield process.pid, url
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        assert await process.wait() in (0, -signal.SIGTERM)
