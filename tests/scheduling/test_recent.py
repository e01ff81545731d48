"""The runs that ended last: found without the store, and bounded."""

import pytest

from tests.support.calls import run
from tests.support.inspection import key_of
from tests.support.live import serve_workflow
from tests.support.records import make_record
from tests.support.stores import ScriptedStore
from tests.support.streams import read_frames
from tests.support.workflows import Greeter
from workflow_server.app.scheduling.recent import MAX_BYTES, MAX_RUNS, EndedRun, EndedRuns
from workflow_server.app.streams.tail import EventTail
from workflow_server.schemas.records import EventRecord


def make_ended(name: str, *, size: int = 1) -> EndedRun:
    """Return an ended run of a handler, with one event of so many bytes."""
    tail = EventTail()
    tail.publish([EventRecord(name, 0, b"x" * size, False)])
    return EndedRun(make_record(name), tail)


@pytest.mark.parametrize(("size", "kept"), [(1, MAX_RUNS), (MAX_BYTES // 4, 4)])
def test_a_bounded_number_and_size_of_ended_runs_is_kept(size: int, kept: int) -> None:
    ended = EndedRuns()
    names = [str(number) for number in range(2 * MAX_RUNS)]
    for name in names:
        ended.keep(make_ended(name, size=size))
    assert [name for name in names if ended.get(key_of(name))] == names[-kept:]


async def test_a_run_is_found_and_read_right_after_its_end_though_the_store_is_away() -> None:
    store = ScriptedStore()
    async with serve_workflow(Greeter(), workflow_store=store) as client:
        handler = await run(client, "it", name="Ada")
        store.down = True
        found = await client.get(f"/handlers/{handler['handler_id']}")
        frames = await read_frames(client, handler["handler_id"])
        store.down = False
    assert (found.status_code, found.json()["result"]) == (200, handler["result"])
    assert frames[-1].envelope == handler["result"]


async def test_a_handler_that_was_purged_right_after_its_end_is_not_found() -> None:
    async with serve_workflow(Greeter()) as client:
        handler = await run(client, "it", name="Ada")
        await client.post(f"/handlers/{handler['handler_id']}/cancel?purge=true")
        assert (await client.get(f"/handlers/{handler['handler_id']}")).status_code == 404
