"""Threads of steps: they are known until they end, and none begins after the end of its run."""

import asyncio
import threading

import pytest

from workflow_server.app.engine.step_threads import StepThreads


async def test_threads_at_work_are_waited_for_to_the_last() -> None:
    threads, began, go_on = StepThreads(), threading.Barrier(3), [threading.Event() for _ in "ab"]

    def work(number: int) -> int:
        began.wait()
        go_on[number].wait()
        return number

    steps = [asyncio.create_task(asyncio.to_thread(threads.run, work, n)) for n in range(2)]
    await asyncio.to_thread(began.wait)
    ended = threads.close()
    assert ended is not None
    go_on[0].set()
    await steps[0]
    assert (threads.at_work, ended.done()) == (1, False)
    go_on[1].set()
    await ended
    assert [await step for step in steps] == [0, 1]


async def test_a_step_whose_run_has_ended_does_not_begin() -> None:
    threads, calls = StepThreads(), list[int]()
    assert threads.close() is None
    with pytest.raises(asyncio.CancelledError):
        await asyncio.to_thread(threads.run, calls.append, 1)
    assert calls == []
