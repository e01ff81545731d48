"""Tails of runs that are elsewhere: one stream a run from the server that has it.

All readers here share the run's tail, and notice nothing when another server goes on with the run.
"""

import asyncio
from collections.abc import Sequence
from typing import assert_never
from weakref import WeakKeyDictionary, ref

from workflow_server.app.errors import StoreFailed
from workflow_server.app.reads import Reads
from workflow_server.app.replicas.frames import Ended, News, Reached, read_news
from workflow_server.app.replicas.peers import Connections, PeerLost
from workflow_server.app.replicas.whereabouts import Watch
from workflow_server.app.scheduling.live import LiveRuns
from workflow_server.app.streams.tail import EventTail
from workflow_server.app.telemetry.logs import get_logger
from workflow_server.schemas.internal import FOLLOW, FollowMessage
from workflow_server.schemas.records import EventRecord, HandlerKey
from workflow_server.stores.replicas import Whereabouts

logger = get_logger(__name__)

BEAT_PAUSE = 1.0  # seconds after which a stream between servers says that it is alive
SILENCE = 4.0  # seconds after which one that says nothing is looked for elsewhere
HEAD_TIMEOUT = 2.0  # seconds
LONGEST_WAIT = 1.0  # seconds until the same server is asked again


class Feeds:
    """Feeds the tails that have readers here from the servers that have the runs.

    `bound` is how long the store may fail, in seconds, before readers are told.
    """

    def __init__(
        self, live: LiveRuns, reads: Reads, peers: Connections, watch: Watch, *, bound: float
    ) -> None:
        self._live = live
        self._reads = reads
        self._peers = peers
        self._watch = watch
        self._bound = bound
        self._fed: WeakKeyDictionary[EventTail, None] = WeakKeyDictionary()
        self._tasks: set[asyncio.Task[None]] = set()
        self._me = 0

    def start(self, me: int) -> None:
        """Begin with nothing fed, as an incarnation of this number."""
        self._me = me

    @property
    def count(self) -> int:
        """The number of tails that are fed."""
        return len(self._fed)

    def follow(
        self, key: HandlerKey, run_id: str, tail: EventTail, place: Whereabouts | None
    ) -> None:
        """Feed a tail for as long as somebody has it, unless it is fed already.

        `place` is where the run is now, where that is known.
        """
        if tail in self._fed:
            return
        self._fed[tail] = None
        loop = asyncio.get_running_loop()

        def leave(_: object) -> None:
            loop.call_soon_threadsafe(task.cancel)  # whoever collects it may be another thread

        # Weakly: it is the readers who keep it.
        feed = Feed(key, run_id, ref(tail, leave))
        task = asyncio.create_task(self._keep(feed, place), name=f"feed {run_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Stop all feeds."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep(self, feed: "Feed", place: Whereabouts | None) -> None:
        try:
            await self._feed(feed, place)
        except Exception:
            logger.exception("feed was broken off", run_id=feed.run_id)
            if (tail := feed.tail()) is not None:
                tail.fail()
        finally:
            if (tail := feed.tail()) is not None:
                self._fed.pop(tail, None)

    async def _feed(self, feed: "Feed", place: Whereabouts | None) -> None:
        """Feed a tail until its run has ended, or is in memory here, or nobody has it."""
        clock = asyncio.get_running_loop().time
        answered = clock()
        while feed.is_wanted and not self._is_here(feed):
            try:
                if place is None:
                    place = await self._watch.wait(feed.run_id, None, timeout=None)
                place = await self._go_on(feed, place)
            except StoreFailed:
                if clock() - answered > self._bound and (tail := feed.tail()) is not None:
                    tail.fail()
                await asyncio.sleep(LONGEST_WAIT)
            else:
                answered = clock()

    async def _go_on(self, feed: "Feed", place: Whereabouts | None) -> Whereabouts | None:
        """Feed a tail for as long as its run is at a place, and return where it is then."""
        if place is None or place.has_ended:
            await self._catch_up(feed)
            feed.end()
            return None
        owner = place.owner
        if owner is not None and owner.incarnation != self._me and owner.address is not None:
            await self._stream(feed, owner.address)
            if not feed.is_wanted:
                return None
            return await self._watch.wait(feed.run_id, place, timeout=LONGEST_WAIT)
        # At no server it does nothing; but it may have been at one since the last look.
        await self._catch_up(feed)
        pause = None if owner is None else LONGEST_WAIT
        return await self._watch.wait(feed.run_id, place, timeout=pause)

    async def _stream(self, feed: "Feed", address: str) -> None:
        """Pass on what a server says of a run, until it breaks off."""
        message = FollowMessage(
            tenant=feed.key.tenant, handler_id=feed.key.id, run_id=feed.run_id, after=feed.last
        )
        content = message.model_dump_json().encode()
        try:
            async with self._peers.stream(
                address, FOLLOW, content, timeout=HEAD_TIMEOUT
            ) as connection:
                if connection.status != 200:
                    return  # it has the run no more, or is about to stop
                async for news in read_news(connection, feed.run_id, silence=SILENCE):
                    if self._is_here(feed):
                        return
                    feed.take(news)
        except PeerLost:
            logger.info("stream of another server lost", run_id=feed.run_id, address=address)

    async def _catch_up(self, feed: "Feed") -> None:
        sequence = await self._reads.ask(self._reads.store.next_sequence(feed.run_id))
        if (tail := feed.tail()) is not None:
            tail.reach(sequence - 1)

    def _is_here(self, feed: "Feed") -> bool:
        run = self._live.get(feed.key)
        return run is not None and run.run_id == feed.run_id


class Feed:
    """Feeds one tail, which it does not keep."""

    def __init__(self, key: HandlerKey, run_id: str, tail: "ref[EventTail]") -> None:
        self.key = key
        self.run_id = run_id
        self.tail = tail

    @property
    def is_wanted(self) -> bool:
        """Return whether somebody still waits for what comes."""
        tail = self.tail()
        return tail is not None and not (tail.ended or tail.closed or tail.failed)

    @property
    def last(self) -> int:
        """The sequence of the last event that readers know of."""
        tail = self.tail()
        return -1 if tail is None else tail.last

    def end(self) -> None:
        """Say that no more events come."""
        if (tail := self.tail()) is not None:
            tail.end()

    def take(self, news: Sequence[News]) -> None:
        """Show readers what a server says of the run; what they know already is passed over."""
        tail = self.tail()
        if tail is None:
            return
        for item in news:
            match item:
                case Reached(sequence=sequence):
                    tail.reach(sequence)
                case Ended():
                    tail.end()
                case list() as events:
                    _publish(tail, events)
                case unreachable:
                    assert_never(unreachable)


def _publish(tail: EventTail, events: Sequence[EventRecord]) -> None:
    if events[0].sequence <= tail.last:
        events = events[tail.last + 1 - events[0].sequence :]
    if events:
        tail.reach(events[0].sequence - 1)
        tail.publish(events)
