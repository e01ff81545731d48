"""The waits of a run as clients see them: events, timers, and the events that answer questions.

The record says which waits are open; what is the same for every run of a workflow, the JSON Schemas
of events and what its steps take from outside, is looked up.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from pydantic_core import from_json
from workflows.events import Event

from workflow_server.app.clocks import StoreClock
from workflow_server.app.engine.codec import qualified_name
from workflow_server.app.engine.outcome import clean_text
from workflow_server.app.engine.served import ServedWorkflow
from workflow_server.app.engine.waiters import MAX_AWAITED
from workflow_server.app.runs.stuck import STUCK, is_stuck
from workflow_server.schemas.records import Awaited, Phase, Question, RunRecord

Fields = dict[str, Any]

LISTED = 10  # events of a run in a list of handlers


def describe_awaits(
    record: RunRecord,
    workflows: Mapping[str, ServedWorkflow],
    clock: StoreClock,
    *,
    is_listed: bool,
) -> tuple[Fields | None, list[Fields]]:
    """Return what a run waits for, or None, and its open questions."""
    if record.phase is not Phase.WAITING and not (record.awaits or record.questions):
        return None, []
    workflow = workflows.get(record.workflow_name)
    awaiting = _Awaiting(record, workflow, clock, is_listed=is_listed)
    return awaiting.describe(), awaiting.describe_questions()


class _Awaiting:
    """The waits of one run; `workflow` is None where it is not served now.

    In a list of handlers less is told, so that a page stays small: the first few events, without
    their JSON Schemas. Times are shown by the wall clock.
    """

    def __init__(
        self,
        record: RunRecord,
        workflow: ServedWorkflow | None,
        clock: StoreClock,
        *,
        is_listed: bool,
    ) -> None:
        self._record = record
        self._clock = clock
        self._workflow = workflow
        self._has_schemas = not is_listed
        self._limit = LISTED if is_listed else MAX_AWAITED
        asking = {q.waiter_id: q.sequence for q in record.questions if q.waiter_id is not None}
        waits = record.awaits or ()
        self._waits = [(wait.waiter_id, self._describe_wait(wait, asking)) for wait in waits]
        names = {wait.event_class for wait in waits}
        self._taken = [
            self._describe_taken(event_class, steps)
            for event_class, steps in self._list_taken()
            if qualified_name(event_class) not in names
        ]

    def describe(self) -> Fields | None:
        """Return what the run waits for, or None where it does not wait or that is not known."""
        record = self._record
        if record.awaits is None or not (record.awaits or record.phase is Phase.WAITING):
            return None
        stuck = self._workflow is not None and is_stuck(record, self._workflow)
        return {
            "events": [*(wait for _, wait in self._waits), *self._taken][: self._limit],
            "timers": self._describe_timers()[: self._limit],
            "stuck_because": STUCK if stuck else None,
        }

    def describe_questions(self) -> list[Fields]:
        """Return the open questions, each with the events that answer it."""
        return [
            {
                "sequence": question.sequence,
                "text": question.text,
                "awaits": self._list_answers(question),
            }
            for question in self._record.questions
        ]

    def _list_answers(self, question: Question) -> list[Fields]:
        """Return the events that answer a question.

        One that a step has returned or written is answered by any that the run waits for, but for
        those that other questions have asked for.
        """
        if question.waiter_id is not None:
            return [wait for waiter_id, wait in self._waits if waiter_id == question.waiter_id]
        free = (wait for _, wait in self._waits if wait["question"] is None)
        return [*free, *self._taken][: self._limit]

    def _list_taken(self) -> Iterable[tuple[type[Event], Iterable[str]]]:
        """Return the events that steps take from outside, where the run may wait for them.

        They answer what a step has asked, and else a run waits for them that has no other waits.
        """
        record = self._record
        is_asked = any(question.waiter_id is None for question in record.questions)
        if self._workflow is None or not (is_asked or record.awaits == ()):
            return ()
        return self._workflow.awaitable.outside.items()

    def _describe_taken(self, event_class: type[Event], steps: Iterable[str]) -> Fields:
        return {
            **self._describe_class(qualified_name(event_class), event_class),
            "requirements": {},
            "steps": list(steps),
            "waiter_id": None,
            "question": None,
            "due_at": None,
        }

    def _describe_wait(self, wait: Awaited, asking: Mapping[str, int]) -> Fields:
        name = wait.event_class
        event_class = self._workflow.awaitable.find(name) if self._workflow is not None else None
        return {
            **self._describe_class(name, event_class),
            "requirements": from_json(wait.requirements),
            "steps": [wait.step],
            "waiter_id": clean_text(wait.waiter_id),
            "question": asking.get(wait.waiter_id),
            "due_at": self._show(wait.due_at),
        }

    def _describe_class(self, name: str, event_class: type[Event] | None) -> Fields:
        schema = None
        if self._has_schemas and event_class is not None and self._workflow is not None:
            schema = self._workflow.awaitable.describe(event_class)
        name = clean_text(name)
        return {"type": name.rpartition(".")[2], "qualified_name": name, "schema": schema}

    def _describe_timers(self) -> list[Fields]:
        """Return the timers of a run, the first due first."""
        waits, idle = self._record.awaits or (), self._record.idle
        timers: list[tuple[datetime, str, str | None]] = [
            (wait.due_at, "wait", clean_text(wait.waiter_id))
            for wait in waits
            if wait.due_at is not None
        ]
        named = {due_at for due_at, _, _ in timers}
        if idle is not None and idle.wake_at is not None and idle.wake_at not in named:
            timers.append((idle.wake_at, "wait", None))  # of a wait that the record does not name
        if idle is not None and idle.timeout_left is not None:
            left = timedelta(seconds=max(idle.timeout_left, 0))
            # Time in which no server runs does not count.
            since = idle.since if idle.uptime is None else self._clock.find_time(idle.uptime)
            timers.append((since + left, "workflow", None))
        return [
            {"due_at": self._show(due_at), "kind": kind, "waiter_id": waiter_id}
            for due_at, kind, waiter_id in sorted(timers, key=lambda timer: timer[0])
        ]

    def _show(self, time: datetime | None) -> str | None:
        return self._clock.show(time).isoformat() if time is not None else None
