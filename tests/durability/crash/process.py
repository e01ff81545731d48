"""The server as a process that is killed, told to end, and started again."""

import asyncio
import shutil
import signal
from asyncio.subprocess import Process
from collections.abc import Mapping
from pathlib import Path

import httpx

from tests.support.command import COMMAND, make_environment
from tests.support.ports import find_port
from tests.support.waiting import DEADLINE, until

ROOT = Path(__file__).parents[3]
SERVED = Path(__file__).with_name("served.py")
STARTUP = 60.0  # seconds that a start may take


class ServerProcess:
    """One server after the other, on one port and one store.

    It serves the file `served`, which is told of `variables` by the environment.
    """

    def __init__(
        self,
        store: str,
        folder: Path,
        *,
        idle_timeout: float,
        retention: float | None = None,
        served: Path = SERVED,
        name: str = "server",
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.port = find_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / f"{name}.log"
        self.effects = folder / "effects"
        self.effects.touch()
        # A file by itself, and not one in the package of the tests.
        self._served = Path(shutil.copy(served, folder))
        self._environment = make_environment(
            CRASH_STORE=store,
            CRASH_EFFECTS=str(self.effects),
            CRASH_IDLE_TIMEOUT=str(idle_timeout),
            CRASH_RETENTION=str(retention or ""),
            PYTHONPATH=str(ROOT),
            **(variables or {}),
        )
        self._process: Process | None = None

    @property
    def pid(self) -> int:
        """The process, which may have ended."""
        assert self._process is not None
        return self._process.pid

    @property
    def status(self) -> int | None:
        """The exit status of the process; None while it runs."""
        return self._process.returncode if self._process is not None else 0

    @property
    def peak_memory(self) -> int:
        """The most bytes of memory that the process has had."""
        assert self._process is not None
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        kibibytes = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        return int(kibibytes.split()[1]) << 10

    async def start(self) -> None:
        """Start the server; it may not listen yet."""
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                COMMAND,
                "serve",
                str(self._served),
                "--port",
                str(self.port),
                "--log-level",
                "warning",
                env=self._environment,
                stdout=log,
                stderr=log,
            )

    async def wait_healthy(self) -> None:
        """Return when the server says that it is healthy; fail where it has ended."""
        async with httpx.AsyncClient(base_url=self.url, timeout=DEADLINE) as client:

            async def healthy() -> bool:
                assert self._process is not None
                if self._process.returncode is not None:
                    raise AssertionError(f"the server ended: {self.log.read_text()[-2000:]}")
                try:
                    return (await client.get("/health", timeout=5)).status_code == 200
                except httpx.TransportError:
                    return False

            await until(healthy, within=STARTUP)

    def send(self, how: signal.Signals) -> None:
        """Send a signal."""
        assert self._process is not None
        self._process.send_signal(how)

    async def end(self, how: signal.Signals) -> int | None:
        """Send a signal and return the exit status when the process is gone; None for none."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(how)
            async with asyncio.timeout(STARTUP):
                return await self._process.wait()
        return None
