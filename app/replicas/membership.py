"""Membership: this server's heartbeat, and what it may do while that is not heard.

The heart beats in a thread with a connection of its own, so that a step that blocks the event loop
is no death, until it has blocked it for a minute.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from workflow_server.app.clocks import StoreClock
from workflow_server.app.telemetry.logs import get_logger
from workflow_server.app.telemetry.replicas import ServerState, read_state
from workflow_server.stores.base import StoreError, StoreFenced, StoreUnavailable
from workflow_server.stores.replicas import Beat, Pulse, Replicas

logger = get_logger(__name__)

SUSPECT_PART = 0.6  # of the time to be stale, after which a server does not trust itself
LONGEST_BLOCK = 60.0  # seconds that the event loop may be blocked
HURRY = 0.1  # of a heartbeat until the next one, while another server may have lost its connection
DOUBT_PAUSE = 0.1  # seconds between two looks whether the heart is heard again


class Membership:
    """Beats for this server among others, and removes those that have not beaten for long.

    `on_fenced` is called in the event loop where this server is dead to the others, and
    `on_changed` where others have come or gone. The store's clock follows each beat.
    """

    def __init__(
        self,
        replicas: Replicas,
        clock: StoreClock,
        *,
        on_fenced: Callable[[], None],
        on_changed: Callable[[], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.members: tuple[int, ...] = ()
        self._states: tuple[str | None, ...] = ()
        self._replicas = replicas
        self._clock = clock
        self._on_fenced = on_fenced
        self._on_changed = on_changed
        self._monotonic = monotonic
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._beating: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None
        self._heard = self._turned = self._on_time_since = 0.0
        self._is_fenced = False

    async def start(self, pulse: Pulse) -> None:
        """Beat once, and go on in a thread; `StoreError` where that is not heard."""
        now = self._monotonic()
        beat = await pulse.beat()
        await pulse.close()  # it is for the loop that uses it
        self._heard = self._turned = self._on_time_since = now
        self._is_fenced = False
        self._take(beat, now)
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._beat(pulse)), name="heartbeat", daemon=True
        )
        self._thread.start()

    async def stop(self) -> None:
        """Beat no more."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        while thread.is_alive():
            if self._beating is not None:
                loop, leaving = self._beating
                with suppress(RuntimeError):  # the loop of the thread has just ended
                    loop.call_soon_threadsafe(leaving.set)
            await asyncio.to_thread(thread.join, 1.0)
        self._beating = None

    @property
    def is_in_doubt(self) -> bool:
        """Return whether this server may be dead to the others: it begins nothing then."""
        limit = SUSPECT_PART * self._replicas.stale_after
        return self._is_fenced or self.measure_silence() > limit

    def measure_silence(self) -> float:
        """Return the seconds since the last heartbeat that was heard."""
        return self._monotonic() - self._heard

    def count_servers(self, state: ServerState) -> int:
        """Return how many servers were alive in a state at the last heartbeat."""
        return sum(read_state(written) is state for written in self._states)

    async def wait_certain(self) -> None:
        """Return when this server is known to be alive, under its old number or a new one."""
        while self.is_in_doubt:  # noqa: ASYNC110  # what ends it is time, too
            await asyncio.sleep(DOUBT_PAUSE)

    # In the thread.

    async def _beat(self, pulse: Pulse) -> None:
        leaving = asyncio.Event()
        self._beating = asyncio.get_running_loop(), leaving
        try:
            while not leaving.is_set():
                began, pause = self._monotonic(), self._replicas.heartbeat
                if not self._tell(lambda: setattr(self, "_turned", self._monotonic())):
                    return
                # That the loop turned is known since the last heartbeat, or the one before it.
                if began - self._turned < LONGEST_BLOCK + 2 * self._replicas.heartbeat:
                    if await self._beat_once(pulse, began):
                        pause *= HURRY
                else:
                    logger.error("event loop is blocked; the others go on with the runs")
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(
                        asyncio.get_running_loop().time()
                        + max(began + pause - self._monotonic(), 0)
                    ):
                        await leaving.wait()
        except StoreFenced:
            self._tell(self._fence)
        finally:
            await pulse.close()

    async def _beat_once(self, pulse: Pulse, began: float) -> bool:
        """Beat; return whether another server may soon be removed, as it was cut off."""
        stale = self._replicas.stale_after
        try:
            beat = await pulse.beat()
            if began - self._heard > SUSPECT_PART * stale:
                self._on_time_since = began
            self._heard = began
            self._tell(lambda: self._take(beat, began))
            # Not before: after an outage of the store all servers are stale.
            takes_stale = began - self._on_time_since >= stale
            if takes_stale or beat.is_one_cut:
                await pulse.prune(takes_stale=takes_stale, takes_hints=beat.is_one_cut)
            return beat.is_one_cut
        except StoreUnavailable as error:
            logger.warning("heartbeat is not heard", error=str(error))
        except StoreFenced:
            raise
        except StoreError as error:
            logger.error("heartbeat failed", error=str(error))
        return False

    def _tell(self, told: Callable[[], None]) -> bool:
        """Call a function in the event loop of the server; false where that has ended."""
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(told)
        except RuntimeError:
            return False
        return True

    # In the event loop of the server.

    def _take(self, beat: Beat, at: float) -> None:
        self._clock.follow(beat.time, beat.uptime, at=at)
        self._states = beat.states
        if beat.members != self.members:
            logger.info("members", incarnations=beat.members)
            self.members = beat.members
            self._on_changed()

    def _fence(self) -> None:
        self._is_fenced = True
        self._on_fenced()
