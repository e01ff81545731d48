"""The steps of a run as tasks: how they fail, and how they end when the run does.

A step may heed nothing, and asyncio passes some exceptions of it through the event loop. So no run
waits for its steps for ever, and what they raise is a failure like any other.
"""

import asyncio
import time
from collections.abc import Iterable
from functools import partial
from types import CoroutineType
from typing import Any

from workflows.errors import WorkflowRuntimeError
from workflows.runtime.control_loop.runner import _ControlLoopRunner
from workflows.runtime.types.internal_state import InProgressState
from workflows.runtime.types.results import (
    RetryDecision,
    StepFunctionResult,
    StepWorkerFailed,
    StepWorkerOutput,
)
from workflows.runtime.types.step_function import StepWorkerFunction
from workflows.runtime.types.step_id import StepId

from workflow_server.app.engine.outcome import describe

WORKER = "_run_worker"  # what the engine calls the coroutine that executes a step
CANCEL_PATIENCE = 5.0  # seconds that the steps of a run get to end once they are cancelled


class CutOffSteps:
    """The tasks of a run that were cancelled because the run ends.

    The run waits `CANCEL_PATIENCE` seconds for them, counted from the first one.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._until = 0.0

    def __contains__(self, task: asyncio.Task[Any] | None) -> bool:
        return task in self._tasks

    def list_unended(self) -> list[asyncio.Task[Any]]:
        """Return those that still go on."""
        return [task for task in self._tasks if not task.done()]

    def cancel(self, tasks: Iterable[asyncio.Task[Any]]) -> None:
        """Cancel tasks."""
        going_on = [task for task in tasks if not task.done()]
        if not going_on:
            return
        if not self.list_unended():
            self._until = asyncio.get_running_loop().time() + CANCEL_PATIENCE
        self._tasks.update(going_on)
        for task in going_on:
            task.cancel()

    async def wait(self) -> None:
        """Return when all have ended, or the patience has."""
        unended = self._tasks and self.list_unended()
        if unended:
            left = self._until - asyncio.get_running_loop().time()
            ended, _ = await asyncio.wait(unended, timeout=max(left, 0))
            self._tasks -= ended


class Runner(_ControlLoopRunner):
    """The engine's control loop, which does not wait for ever for a step that was cancelled."""

    cut_off: CutOffSteps

    async def cleanup_tasks(self) -> None:
        """Cancel all steps, and return when they have ended, or the patience has."""
        for pending in self._pending_workers:
            pending.coro.close()
        self._pending_workers.clear()
        tasks, self.worker_tasks = self.worker_tasks, set()
        self._task_keys.clear()
        self.cut_off.cancel(tasks)
        await self.cut_off.wait()

    def _stamp_retry_decisions(
        self,
        step_id: StepId,
        invocation_namespace: tuple[str, ...],
        worker: InProgressState | None,
        results: list[StepFunctionResult],
    ) -> list[StepFunctionResult]:
        """Return the results with what the retry policy says of each failure.

        The engine lets the run fail where the policy raises an `Exception`; here any other one does
        so, too.
        """
        try:
            return super()._stamp_retry_decisions(step_id, invocation_namespace, worker, results)
        except BaseException as raised:  # noqa: BLE001  # the policy is the user's
            error = as_failure(raised)
        update = {"retry_decision": RetryDecision(delay=None), "exception": error}
        if worker is not None:
            update["first_attempt_at"] = worker.first_attempt_at
        return [
            result.model_copy(update=update) if isinstance(result, StepWorkerFailed) else result
            for result in results
        ]


def guard_runner(coroutine: "CoroutineType[Any, Any, Any]") -> None:
    """Make the control loop one of ours whose step a coroutine, which has not begun, executes.

    So a run that a step starts for itself fails where the served one would: the engine forgets a
    task of a step that raises what is no `Exception`, and waits for it until the timeout.
    """
    frame = coroutine.cr_frame if coroutine.__name__ == WORKER else None
    runner = frame.f_locals.get("self") if frame is not None else None
    if type(runner) is _ControlLoopRunner:
        # The engine has no way to bring a control loop of one's own.
        runner.__class__ = Runner
        runner.cut_off = CutOffSteps()  # type: ignore[attr-defined]  # it is a `Runner` now
        runner.step_workers = {
            name: partial(attempt_step, function, runner.cut_off)  # type: ignore[attr-defined]
            for name, function in runner.step_workers.items()
        }


async def attempt_step(
    function: StepWorkerFunction, cut_off: CutOffSteps | None, *args: Any, **kwargs: Any
) -> list[StepWorkerOutput]:
    """Run a step, which fails where it raises what is no `Exception`, or cancels its own task.

    The engine forgets a task that ends as cancelled, so that its run would wait for ever.
    """
    try:
        outputs = await function(*args, **kwargs)
        task = asyncio.current_task()
        if task is None or not task.cancelling() or _is_cut_off(cut_off):
            return outputs
        await asyncio.sleep(0)  # raises where the step was cancelled and did not wait since
    except Exception:
        raise  # the engine's to answer
    except BaseException as raised:  # the step is the user's, and may raise anything
        if isinstance(raised, asyncio.CancelledError | GeneratorExit) and _is_cut_off(cut_off):
            raise
        return [StepWorkerFailed(exception=as_failure(raised), failed_at=time.time())]
    else:
        return outputs


def as_failure(raised: BaseException) -> Exception:
    """Return what is raised as an exception that fails a step, and ends nothing else."""
    match raised:
        case Exception():
            return raised
        case KeyboardInterrupt() | SystemExit():
            sentence = f"The step asked the process to end: {raised!r}."
        case asyncio.CancelledError():
            sentence = "The step raised CancelledError; nobody cancelled it."
        case _:
            sentence = f"The step raised {describe(raised)}."
    return WorkflowRuntimeError(sentence).with_traceback(raised.__traceback__)


def _is_cut_off(cut_off: CutOffSteps | None) -> bool:
    """Return whether the present step was cancelled with its run, or is closed with its loop."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return True
    if cut_off is None:  # a run of which nothing more is known
        return task is None or task.cancelling() > 0
    return task in cut_off
