"""Histories: what a run did, read from its packs and from the ticks that follow them."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

from workflow_server.app.engine.attempt import MAX_KEPT_BYTES, shorten
from workflow_server.app.engine.giving_way import GivingWay
from workflow_server.app.engine.payloads import (
    PayloadMissing,
    find_numbers,
    has_payloads,
    measure_whole,
    put_back,
    without_payloads,
)
from workflow_server.app.engine.served import ServedWorkflow
from workflow_server.app.engine.state_reports import (
    KeptState,
    StateReport,
    describe_state,
    follow,
)
from workflow_server.app.engine.step_reports import describe_step, is_step
from workflow_server.app.errors import HistoryNotKept, StepNotFound
from workflow_server.app.handlers.paging import TenantSlots
from workflow_server.app.reads import Reads
from workflow_server.app.runs.history import KeptTick, unpack
from workflow_server.schemas.records import RunRecord

PAGE_BYTES = 4 << 20  # of steps, after which a page ends
READ_PACKS = 8
READ_TICKS = 200
LARGE = 1 << 14  # bytes of a tick that is read beside the event loop


@dataclass(frozen=True, slots=True)
class StepPage:
    """Some attempts of steps of a run as JSON, and the tick after which the next page begins.

    `dropped` is whether the first ones of the run are not kept any more.
    """

    run_id: str
    steps: Sequence[bytes]
    next: int | None
    dropped: bool


async def read_steps(
    record: RunRecord,
    workflow: ServedWorkflow | None,
    reads: Reads,
    large_steps: TenantSlots,
    *,
    after: int,
    limit: int,
    with_tracebacks: bool,
) -> StepPage:
    """Return a page of the attempts of steps of a run, in the order in which it took them.

    A step with large values is read in a thread, in one of the slots for that: its values take many
    times the bytes of its tick. Raises `HistoryNotKept` where they are not kept.
    """
    _check_kept(record)
    steps: list[bytes] = []
    size, last, give_way = 0, after, GivingWay()
    following: int | None = None
    async with aclosing(_read_ticks(record.run_id, reads, after)) as ticks:
        async for kept in ticks:
            await give_way()
            read = partial(
                describe_step,
                kept.sequence,
                kept.tick,
                workflow,
                with_traceback=with_tracebacks,
                changed_state=kept.changed_state,
            )
            if len(kept.tick) < LARGE:
                step = read()
            else:
                async with large_steps.hold(record.tenant):
                    step = await asyncio.to_thread(read)
            if step is None:
                continue
            if len(steps) == limit or (steps and size + len(step) > PAGE_BYTES):
                following = last
                break
            steps.append(step)
            size, last = size + len(step), kept.sequence
    return StepPage(record.run_id, steps, following, await _is_cut(record.run_id, reads))


async def read_state(
    record: RunRecord,
    workflow: ServedWorkflow | None,
    reads: Reads,
    large_steps: TenantSlots,
    *,
    sequence: int,
) -> StateReport:
    """Return the state that a step of a run has left, and what it has changed in it.

    Large states are built in a thread, in one of the slots for large steps. Raises `HistoryNotKept`
    where nothing is kept, and `StepNotFound` where there is no such step.
    """
    _check_kept(record)
    give_way = GivingWay()
    before = after = KeptState()
    expected = 0
    async with aclosing(_read_ticks(record.run_id, reads, -1, with_values=False)) as ticks:
        async for kept in ticks:
            await give_way()
            before = after if kept.sequence == expected else KeptState(is_known=False)
            after, expected = follow(before, kept.beside), kept.sequence + 1
            if kept.sequence >= sequence:
                break
        else:
            raise _unknown_step(record, sequence)

    def describe() -> StateReport:
        if kept.sequence != sequence or not is_step(kept.tick):
            raise _unknown_step(record, sequence)
        return describe_state(before, after, workflow)

    if len(kept.tick) + before.size + after.size < LARGE:
        return describe()
    async with large_steps.hold(record.tenant):
        return await asyncio.to_thread(describe)


def _check_kept(record: RunRecord) -> None:
    if not record.keeps_history:
        raise HistoryNotKept(
            f"What the run '{record.run_id}' did is not kept step by step: it, its workflow or the"
            " server was told so, or it is from before histories were kept."
        )


async def _is_cut(run_id: str, reads: Reads) -> bool:
    """Return whether the first ticks of a run are not kept any more."""
    oldest = await reads.ask(reads.store.read_history(run_id, after=-1, limit=1))
    return bool(oldest) and oldest[0].first > 0


def _unknown_step(record: RunRecord, sequence: int) -> StepNotFound:
    return StepNotFound(
        f"The run '{record.run_id}' has no attempt of a step with the sequence {sequence}, or it is"
        " not kept any more."
    )


async def _read_ticks(
    run_id: str, reads: Reads, after: int, *, with_values: bool = True
) -> AsyncGenerator[KeptTick, None]:
    """Yield the ticks of a run after a number; those that are no packs yet, without large values.

    With those, where they are asked for.
    """
    store = reads.store
    while True:
        # First, since ticks go into packs meanwhile, and never back.
        page = await reads.ask(store.read_ticks(run_id, after=after, limit=READ_TICKS))
        packs = await reads.ask(store.read_history(run_id, after=after, limit=READ_PACKS))
        for pack in packs:
            for kept in unpack(pack):
                if kept.sequence > after:
                    after = kept.sequence
                    yield kept
        if packs:
            continue
        for record in page.ticks:
            tick = record.tick
            if with_values and has_payloads(tick):
                payloads = await _read_payloads(run_id, reads, tick)
                # Payloads go in the commit that packs the ticks which have them.
                if await reads.ask(store.read_history(run_id, after=after, limit=1)):
                    break
                tick = await asyncio.to_thread(_whole, tick, payloads)
            after = record.sequence
            yield KeptTick(after, tick, record.beside.split(b"\n") if record.beside else ())
        else:
            if page.is_last:
                return


async def _read_payloads(run_id: str, reads: Reads, tick: bytes) -> dict[int, bytes]:
    """Return the payloads to which a tick refers, until they are more than is kept of a tick."""
    payloads: dict[int, bytes] = {}
    size, wanted = 0, set(find_numbers(tick))
    while wanted and size <= MAX_KEPT_BYTES:
        first = min(wanted)
        limit = next(count for count in range(1, len(wanted) + 1) if first + count not in wanted)
        page = await reads.ask(reads.store.read_payloads(run_id, after=first - 1, limit=limit))
        if not page:
            break
        found = {record.number: record.payload for record in page if record.number in wanted}
        payloads |= found
        size += sum(map(len, found.values()))
        wanted = {number for number in wanted if number > page[-1].number}
        inner = {number for payload in found.values() for number in find_numbers(payload)}
        wanted |= inner - payloads.keys()
    return payloads


def _whole(tick: bytes, payloads: dict[int, bytes]) -> bytes:
    """Return a tick with its large values, or without any.

    That is where one of them is missing, or where it has more than is kept once the run has ended.
    """
    if measure_whole(tick, payloads) <= MAX_KEPT_BYTES:
        try:
            return put_back(tick, payloads)
        except PayloadMissing:
            pass
    return shorten(without_payloads(tick), most=0)
