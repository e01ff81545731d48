"""The registry of one of many servers: each answers for the runs of all."""

import asyncio
from functools import partial
from typing import Any, Literal, NamedTuple, NoReturn, assert_never

from workflow_server.app.errors import (
    HandlerNotFound,
    RunUnfinished,
    ServiceUnavailable,
)
from workflow_server.app.handlers.reading import Elsewhere, Here, Place, Recent, Stored
from workflow_server.app.handlers.refusals import elsewhere, taken
from workflow_server.app.handlers.registry import HandlerRegistry
from workflow_server.app.replicas.exchange import Exchange
from workflow_server.app.replicas.positions import WAIT_AT_ONCE
from workflow_server.app.runs.answers import unfinished
from workflow_server.app.runs.run import LiveRun
from workflow_server.app.streams.subscription import Subscription
from workflow_server.app.streams.tail import EventTail
from workflow_server.schemas.internal import (
    CANCEL,
    SEND,
    TAKE_POSITION,
    Cancelled,
    CancelMessage,
    Done,
    FollowMessage,
    Position,
    PositionMessage,
    SendMessage,
)
from workflow_server.schemas.records import HandlerKey, Phase, RunRecord
from workflow_server.stores.replicas import NOBODY, Owner, Whereabouts


class HeldPosition(NamedTuple):
    """The reading position of a run, where it is at another server, and that server."""

    run_id: str
    owner: Owner | None
    position: Position | None


class SharedRegistry(HandlerRegistry):
    """Starts and reads handlers here, and has the server that has a run do the rest.

    The methods whose names end in `here` are for other servers: they raise `RunElsewhere` for a run
    that this server neither has nor can have.
    """

    exchange: Exchange

    async def find(self, key: HandlerKey) -> Place:
        """Return where the handler's current run is, also where it is at another server.

        Raises `StoreFailed` for a run that is here while this server may be dead to the others.
        """
        while True:
            place = await super().find(key)
            match place:
                case Here():
                    if self._log.doubt.is_in_doubt:
                        # The others may have the run by now, and have shown its end.
                        raise self._reads.failed()
                    return place
                case Elsewhere():
                    return place
                case Recent(record=record):
                    # It may have begun anew at another server, or been purged there.
                    current = await self._reads.ask(self._store.get_handler(key))
                    if current is not None and current.run_id == record.run_id:
                        return place
                    self._live.forget_ended(key)
                case Stored(record=record):
                    if record.phase is Phase.ENDED:
                        return place
                    owner = await self.exchange.find_owner(record.run_id)
                    return place if owner is None else Elsewhere(owner, record)
                case unreachable:
                    assert_never(unreachable)

    async def _pass_on(self, key: HandlerKey, record: RunRecord) -> NoReturn:
        """Have another server bring the run into memory, where one takes runs of its workflow."""
        heir = await self.exchange.find_heir(record.workflow_name)
        if heir is None:
            await super()._pass_on(key, record)
        raise elsewhere(key, heir)

    async def send_event(
        self,
        key: HandlerKey,
        data: dict[str, Any] | str,
        *,
        step: str | None,
        reply_to: int | None,
        run_id: str | None = None,
        sent_by: str | None = None,
    ) -> None:
        """Return once the event is written down, by whichever server has the run.

        Raises `RunElsewhere` too, where that is not reached.
        """
        message = SendMessage(
            tenant=key.tenant,
            handler_id=key.id,
            run_id=run_id,
            event=data,
            step=step,
            reply_to=reply_to,
            sent_by=sent_by,
        )

        async def there(owner: Owner) -> None:
            await self.exchange.forwarding.ask(owner, SEND, message, Done)

        await self.exchange.forwarding.carry_out(partial(self.send_here, message), there)

    async def send_here(self, message: SendMessage) -> None:
        """Return once the event of another server's client is written down."""
        await super().send_event(
            message.key,
            message.event,
            step=message.step,
            reply_to=message.reply_to,
            run_id=message.run_id,
            sent_by=message.sent_by,
        )

    async def _cancel(self, key: HandlerKey, run_id: str | None) -> tuple[RunRecord, bool]:
        message = CancelMessage(tenant=key.tenant, handler_id=key.id, run_id=run_id)

        async def there(owner: Owner) -> tuple[RunRecord, bool]:
            cancelled = await self.exchange.forwarding.ask(owner, CANCEL, message, Cancelled)
            record = await self._reads.ask(self._store.get_run(cancelled.run_id))
            if record is None:
                raise HandlerNotFound(f"No handler has the id '{key.id}'.")
            return record, cancelled.was_running

        return await self.exchange.forwarding.carry_out(partial(self.cancel_here, message), there)

    async def cancel_here(self, message: CancelMessage) -> tuple[RunRecord, bool]:
        """Return the record of the run that was stopped, and whether it was running."""
        return await super()._cancel(message.key, message.run_id)

    async def subscribe(
        self, key: HandlerKey, *, after: int | Literal["now"], run_id: str | None = None
    ) -> Subscription:
        """Return a reader of a run's events after a cursor, wherever the run is."""
        if after == "now":
            place = await self._find_run(key, run_id)
            if isinstance(place, Elsewhere):
                # What is known of it here may be a little behind.
                run_id = place.record.run_id
                after = await self._reads.ask(self._store.next_sequence(run_id)) - 1
        return await super().subscribe(key, after=after, run_id=run_id)

    async def follow_here(self, message: FollowMessage) -> Subscription:
        """Return a reader of a run for another server."""
        place = await self._check_here(message.key, message.run_id)
        return self._read_place(place, await super()._tail_of(place), after=message.after)

    async def _check_here(self, key: HandlerKey, run_id: str) -> Place:
        """Return the place of a run that is here or has ended; `RunElsewhere` of others."""
        place = await self._find_run(key, run_id)
        match place:
            case Elsewhere(owner=owner):
                raise elsewhere(key, owner)
            case Stored(record=record) if record.phase is not Phase.ENDED:
                raise elsewhere(key, NOBODY)
            case Here() | Recent() | Stored():
                return place
            case unreachable:
                assert_never(unreachable)

    async def follow_shared(self, key: HandlerKey, *, run_id: str | None = None) -> Subscription:
        """Return a reader that begins at a run's shared reading position and leaves that alone."""
        held = await self._ask_for_position(key, run_id, timeout=None)
        if held.position is None:
            return await super().follow_shared(key, run_id=held.run_id)
        return await self.subscribe(key, after=held.position.cursor, run_id=held.run_id)

    async def look_shared(self, key: HandlerKey, *, run_id: str | None = None) -> Subscription:
        """Return a reader from a position that it neither holds nor moves.

        Raises `StreamTaken` where another one holds it.
        """
        held = await self._ask_for_position(key, run_id, timeout=None)
        if held.position is None:
            return await super().look_shared(key, run_id=held.run_id)
        if held.position.is_held:
            raise taken(key)
        return await self.subscribe(key, after=held.position.cursor, run_id=held.run_id)

    async def subscribe_shared(
        self, key: HandlerKey, *, acquire_timeout: float, run_id: str | None = None
    ) -> Subscription:
        """Return the reader that holds a run's one shared reading position, wherever that is.

        Raises `StreamTaken` when another one holds it for longer than `acquire_timeout` seconds.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + acquire_timeout
        while True:
            left = max(deadline - clock(), 0.0)
            held = await self._ask_for_position(key, run_id, timeout=min(left, WAIT_AT_ONCE))
            if held.position is None or held.owner is None:
                return await super().subscribe_shared(key, acquire_timeout=left, run_id=held.run_id)
            position = self.exchange.hold_position(held.owner, held.position)
            if position is not None:
                break
            if clock() >= deadline:
                raise taken(key)
        try:
            subscription = await self.subscribe(key, after=position.cursor, run_id=held.run_id)
        except BaseException:
            position.release()
            raise
        subscription.share(position)
        return subscription

    async def _ask_for_position(
        self, key: HandlerKey, run_id: str | None, *, timeout: float | None
    ) -> HeldPosition:
        """Return the reading position of a run, by default the current one, that is elsewhere."""
        place = await self._find_run(key, run_id)
        message = PositionMessage(
            tenant=key.tenant, handler_id=key.id, run_id=place.record.run_id, timeout=timeout
        )

        async def here() -> HeldPosition:
            place = await self._find_run(key, message.run_id)
            if isinstance(place, Elsewhere):
                raise elsewhere(key, place.owner)
            return HeldPosition(message.run_id, None, None)

        async def there(owner: Owner) -> HeldPosition:
            ask = self.exchange.forwarding.ask
            position = await ask(owner, TAKE_POSITION, message, Position, hops=1)
            return HeldPosition(message.run_id, owner, position)

        return await self.exchange.forwarding.carry_out(here, there)

    async def take_position_here(self, message: PositionMessage) -> Position:
        """Return the reading position of a run for a reader at another server."""
        await self._check_here(message.key, message.run_id)
        return await self.exchange.leases.take(self._positions, message)

    async def wait_ended(self, live: LiveRun) -> RunRecord:
        """Return the final record of a run, also where it goes on at another server."""
        try:
            return await live.wait_ended()
        except RunUnfinished:
            if self.is_draining:
                raise
        try:
            return await self._wait_elsewhere(live.key, live.run_id)
        except ServiceUnavailable as error:
            raise unfinished(live.key) from error

    async def _wait_elsewhere(self, key: HandlerKey, run_id: str) -> RunRecord:
        async def follow() -> Subscription:
            return await self.subscribe(key, after="now", run_id=run_id)

        while True:
            # This server may have been taken for dead, and begin anew.
            reader = await self.exchange.forwarding.carry_out(follow)
            while not reader.exhausted:
                await reader.next_pages(timeout=None)
            record = await self.get(key, run_id=run_id)
            if record.phase is Phase.ENDED:
                return record

    async def _tail_of(self, place: Place) -> EventTail | None:
        match place:
            case Here() | Recent():
                return await super()._tail_of(place)
            case Stored(record=record):
                owner = None
            case Elsewhere(owner=owner, record=record):
                pass
            case unreachable:
                assert_never(unreachable)
        tail = await super()._tail_of(Stored(record))
        if tail is not None:
            known = Whereabouts(record.run_id, False, record.epoch, owner)
            self.exchange.feeds.follow(record.key, record.run_id, tail, known)
        return tail
