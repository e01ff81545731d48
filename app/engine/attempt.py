"""Attempts of steps as the history of a run has them, beside what the engine's ticks say."""

import time
import traceback
from typing import Any, NamedTuple

from pydantic_core import from_json, to_json
from workflows.runtime.types.results import StepFunctionResult
from workflows.runtime.types.ticks import TickStepResult, WorkflowTick

from workflow_server.app.engine.outcome import clean_text, say
from workflow_server.app.engine.values.codec import FORMAT

MICROS = 1_000_000
KEY = "attempt"  # of a tick, where it is kept
MAX_KEPT_BYTES = 1 << 20  # of a tick, of which only the rest is kept for long where it has more
MOST_CHARACTERS = 16 << 10  # of a traceback; its middle is left out
MOST_OF_MESSAGE = 2 << 10  # characters


class AttemptError(NamedTuple):
    """An exception that an attempt raised: its class, its message, and where it came from."""

    type: str
    qualified_name: str
    message: str
    traceback: str


class Attempt(NamedTuple):
    """An attempt of a step: its number among those of its work, from 1 on, its times, its error.

    The times are those of the wall clock, in microseconds since the epoch.
    """

    number: int
    began_at: int
    ended_at: int
    error: AttemptError | None = None


def note_attempt(number: int, seconds: float, error: BaseException | None) -> Attempt:
    """Return an attempt that ends now, and has taken so many seconds."""
    now = time.time()
    return Attempt(
        number,
        round((now - seconds) * MICROS),
        round(now * MICROS),
        _describe(error) if error is not None else None,
    )


def read_attempt(tree: Any) -> Attempt | None:
    """Return the attempt of a tick; None where the tick has none."""
    if not isinstance(tree, list):
        return None
    number, began_at, ended_at, error = tree
    return Attempt(number, began_at, ended_at, AttemptError(*error) if error else None)


def _describe(error: BaseException) -> AttemptError:
    kind = type(error)
    return AttemptError(
        type=clean_text(kind.__name__),
        qualified_name=clean_text(f"{kind.__module__}.{kind.__qualname__}"),
        message=_cut(say(error), MOST_OF_MESSAGE),
        traceback=_cut(clean_text(_format(error)), MOST_CHARACTERS),
    )


def _format(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except BaseException as fault:  # noqa: BLE001  # the exception is the user's, and may do anything
        return f"(its traceback cannot be made: {type(fault).__name__})"


def _cut(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    return f"{text[: most // 4]}\n…\n{text[-(most * 3 // 4) :]}"


def encode_brief(tick: WorkflowTick, attempt: Attempt | None) -> bytes:
    """Return what is kept of a tick whose values are too large, or cannot be written."""
    fields: dict[str, Any] = {"format": FORMAT, "type": tick.type, "is_brief": True}
    if isinstance(tick, TickStepResult):
        fields |= {"step_id": str(tick.step_id), "worker_id": tick.worker_id}
        fields |= {"result": [_brief_result(result) for result in tick.result], KEY: attempt}
    return to_json(fields)


def shorten(tick: bytes, *, most: int = MAX_KEPT_BYTES) -> bytes:
    """Return what is kept of a tick that is written already; the whole of it, unless it is large.

    One that the engine's serializer wrote has the same parts.
    """
    if len(tick) <= most:
        return tick
    tree = from_json(tick)
    results = [
        {"type": result.get("type"), "retry_decision": result.get("retry_decision")}
        for result in tree.get("result", ())
    ]
    kept = {name: tree[name] for name in ("step_id", "worker_id", KEY) if name in tree}
    brief = {"format": FORMAT, "type": tree.get("type"), "is_brief": True, **kept}
    return to_json({**brief, "result": results})


def _brief_result(result: StepFunctionResult) -> dict[str, Any]:
    decision = getattr(result, "retry_decision", None)
    return {"type": result.type, "retry_decision": decision and {"delay": decision.delay}}
