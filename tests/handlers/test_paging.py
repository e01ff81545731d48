"""Slots that tenants take in turn."""

import asyncio
from functools import partial

from tests.support.waiting import until
from workflow_server.app.handlers.paging import TenantSlots


async def wait_in_line(slots: TenantSlots, tenant: str, taken: list[str]) -> None:
    """Take a slot, and note for whom."""
    await slots.take(tenant)
    taken.append(tenant)


def has_taken(taken: list[str], count: int) -> bool:
    """Return whether so many have taken a slot."""
    return len(taken) == count


async def test_tenants_have_slots_in_turn() -> None:
    slots, taken = TenantSlots(1), list[str]()
    await slots.take("")
    tasks = [asyncio.create_task(wait_in_line(slots, name, taken)) for name in "aaab"]
    await asyncio.sleep(0)
    for count in range(1, 5):
        slots.give_back()
        await until(partial(has_taken, taken, count))
    assert taken == ["a", "b", "a", "a"]
    await asyncio.gather(*tasks)


async def test_a_slot_that_is_given_back_while_others_are_cancelled_is_not_lost() -> None:
    slots, taken = TenantSlots(1), list[str]()
    await slots.take("")
    tasks = [asyncio.create_task(wait_in_line(slots, name, taken)) for name in "aabc"]
    await asyncio.sleep(0)
    for task in tasks[:3]:
        task.cancel()
    slots.give_back()
    await asyncio.wait(tasks)
    assert taken == ["c"]
    slots.give_back()
    assert slots.take_free()
