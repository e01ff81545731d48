"""Threads of steps: known until they end, and waited for no longer than their runs go on."""

import asyncio
import threading
from contextvars import ContextVar

import pytest

from tests.support.waiting import until
from workflow_server.app.engine.step_threads import StepThreads


async def test_threads_at_work_are_counted_to_the_last_and_nobody_waits_for_them() -> None:
    threads, began, go_on = StepThreads(), threading.Barrier(3), [threading.Event() for _ in "ab"]

    def work(number: int) -> None:
        began.wait()
        go_on[number].wait()

    steps = [asyncio.create_task(asyncio.to_thread(threads.run, work, n)) for n in range(2)]
    await asyncio.to_thread(began.wait)
    ended = threads.close()
    assert ended is not None
    cut_off = await asyncio.gather(*steps, return_exceptions=True)
    assert [type(error) for error in cut_off] == [asyncio.CancelledError] * 2
    go_on[0].set()
    await until(lambda: threads.at_work == 1)
    assert not ended.done()
    go_on[1].set()
    await ended
    assert threads.at_work == 0


async def test_a_thread_does_not_keep_the_process_and_has_the_context_of_its_step() -> None:
    threads, variable = StepThreads(), ContextVar[str]("variable")
    variable.set("as it was")
    work = await asyncio.to_thread(
        threads.run, lambda: (threading.current_thread().daemon, variable.get())
    )
    assert work == (True, "as it was")


async def test_a_step_whose_run_has_ended_does_not_begin() -> None:
    threads, calls = StepThreads(), list[int]()
    assert threads.close() is None
    with pytest.raises(asyncio.CancelledError):
        await asyncio.to_thread(threads.run, calls.append, 1)
    assert calls == []
