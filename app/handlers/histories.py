"""Histories: the steps of a run, read from its packs and from the ticks that follow them."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

from workflow_server.app.engine.attempt import MAX_KEPT_BYTES, shorten
from workflow_server.app.engine.giving_way import GivingWay
from workflow_server.app.engine.payloads import (
    PayloadMissing,
    has_payloads,
    measure_whole,
    put_back,
    without_payloads,
)
from workflow_server.app.engine.served import ServedWorkflow
from workflow_server.app.engine.step_reports import describe_step
from workflow_server.app.errors import HistoryNotKept
from workflow_server.app.handlers.paging import TenantSlots
from workflow_server.app.reads import Reads
from workflow_server.schemas.records import RunRecord, TickRecord
from workflow_server.stores.compression import expand

PAGE_BYTES = 4 << 20  # of steps, after which a page ends
READ_PACKS = 8
READ_TICKS = 200
READ_PAYLOADS = 1_000
LARGE = 1 << 14  # bytes of a tick that is read beside the event loop
MOST_PAYLOAD_BYTES = 16 << 20  # of a run that goes on, for which a page has memory


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
    if not record.keeps_history:
        raise HistoryNotKept(
            f"What the run '{record.run_id}' did is not kept step by step: it, its workflow or the"
            " server was told so, or it is from before histories were kept."
        )
    oldest = await reads.ask(reads.store.read_history(record.run_id, after=-1, limit=1))
    steps: list[bytes] = []
    size, last, give_way = 0, after, GivingWay()
    following: int | None = None
    async with aclosing(_read_ticks(record.run_id, reads, after)) as ticks:
        async for sequence, tick in ticks:
            await give_way()
            read = partial(describe_step, sequence, tick, workflow, with_traceback=with_tracebacks)
            if len(tick) < LARGE:
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
            size, last = size + len(step), sequence
    dropped = bool(oldest) and oldest[0].first > 0
    return StepPage(record.run_id, steps, following, dropped)


async def _read_ticks(
    run_id: str, reads: Reads, after: int
) -> AsyncGenerator[tuple[int, bytes], None]:
    """Yield the ticks of a run after a number, each with its number."""
    store = reads.store
    while True:
        # First, since ticks go into packs meanwhile, and never back.
        page = await reads.ask(store.read_ticks(run_id, after=after, limit=READ_TICKS))
        packs = await reads.ask(store.read_history(run_id, after=after, limit=READ_PACKS))
        payloads: dict[int, bytes] | None = None
        if not packs and any(has_payloads(record.tick) for record in page.ticks):
            payloads = await _read_payloads(run_id, reads)
            # Payloads go in the commit that packs the ticks which have them.
            packs = await reads.ask(store.read_history(run_id, after=after, limit=READ_PACKS))
        for pack in packs:
            for sequence, tick in enumerate(expand(pack.ticks).split(b"\n"), start=pack.first):
                if sequence > after:
                    after = sequence
                    yield sequence, tick
        if packs:
            continue
        for record in page.ticks:
            after = record.sequence
            if payloads is None:
                yield record.sequence, record.tick
            else:
                yield record.sequence, await asyncio.to_thread(_whole, record, payloads)
        if page.is_last:
            return


async def _read_payloads(run_id: str, reads: Reads) -> dict[int, bytes]:
    """Return the first payloads of a run, as many as a page has memory for."""
    payloads: dict[int, bytes] = {}
    size, after = 0, -1
    while size < MOST_PAYLOAD_BYTES:
        page = await reads.ask(reads.store.read_payloads(run_id, after=after, limit=READ_PAYLOADS))
        if not page:
            break
        payloads |= {record.number: record.payload for record in page}
        size, after = size + sum(len(record.payload) for record in page), page[-1].number
    return payloads


def _whole(record: TickRecord, payloads: dict[int, bytes]) -> bytes:
    """Return a tick with its large values, or without any.

    That is where one of them is missing, or where it has more than is kept once the run has ended.
    """
    if measure_whole(record.tick, payloads) <= MAX_KEPT_BYTES:
        try:
            return put_back(record.tick, payloads)
        except PayloadMissing:
            pass
    return shorten(without_payloads(record.tick), most=0)
