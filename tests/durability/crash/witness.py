"""What the clients of one run saw, and what must hold of it ever after."""

import json
import time
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Json = dict[str, Any]
Effects = list[tuple[float, str]]  # when a work began, on the machine's clock, and its name
Spans = list[tuple[float, float]]  # on that clock

WRITTEN_OFF = "The run was ended because the store could not be reached."
TERMINAL = {"WorkflowCancelledEvent", "WorkflowFailedEvent", "WorkflowTimedOutEvent"}


class Effect(NamedTuple):
    """A work that a step of a run began in a process, and when, on that clock."""

    at: float
    run: str
    work: str
    process: int


@dataclass
class Witness:
    """The record of one run, or of a handler's runs; `violations` are sentences.

    `first` is the sequence of the first event of the last run.
    """

    name: str
    first: int = 0
    violations: list[str] = field(default_factory=list)
    events: dict[int, str] = field(default_factory=dict)
    seen_at: dict[int, float] = field(default_factory=dict)
    ended: Json | None = None
    finished_works: dict[str, float] = field(default_factory=dict)
    steps: dict[str, dict[int, Json]] = field(default_factory=dict)  # by run and sequence
    states: dict[tuple[str, int], Json] = field(default_factory=dict)

    def blame(self, sentence: str) -> None:
        """Note that something does not hold."""
        self.violations.append(f"{self.name}: {sentence}")

    def see_event(self, sequence: int, envelope: str) -> None:
        """Take an event in: it is new and next, or the same as before."""
        known = self.events.get(sequence)
        if known is not None:
            if known != envelope:
                self.blame(f"event {sequence} was {known} and is {envelope}")
            return
        if sequence != len(self.events):
            self.blame(f"event {sequence} follows event {len(self.events) - 1}")
        self.events[sequence] = envelope
        self.seen_at[sequence] = time.monotonic()
        event = json.loads(envelope)
        if event["type"] == "Done":
            for work in event["value"]["works"]:
                self.finished_works.setdefault(work, time.monotonic())

    def see_handler(self, handler: Json) -> None:
        """Take in what the server says of the handler: an end is for ever."""
        if self.ended is not None and handler != self.ended:
            self.blame(f"the handler was {self.ended} and is {handler}")
        if handler["status"] != "running":
            self.ended = handler

    def see_steps(self, run_id: str, attempts: list[Json], *, are_all: bool) -> None:
        """Take in attempts of steps of a run: each stays as it was, in its place, once."""
        seen = self.steps.setdefault(run_id, {})
        last = max(seen, default=-1)
        sequences = [attempt["sequence"] for attempt in attempts]
        if sequences != sorted(set(sequences)):
            self.blame(f"the steps of {run_id} come in the order {sequences}")
        if are_all and (gone := sorted(seen.keys() - set(sequences))):
            self.blame(f"the steps {gone} of {run_id} were seen, and are gone")
        for sequence, attempt in zip(sequences, attempts, strict=True):
            known = seen.setdefault(sequence, attempt)
            if known != attempt:
                self.blame(f"step {sequence} of {run_id} was {known} and is {attempt}")
            elif sequence < last and known is attempt:
                self.blame(f"step {sequence} of {run_id} came in before step {last}")

    def see_state(self, run_id: str, sequence: int, state: Json) -> None:
        """Take in the state that a step has left: it stays as it was."""
        known = self.states.setdefault((run_id, sequence), state)
        if known != state:
            self.blame(f"the state after step {sequence} of {run_id} was {known} and is {state}")

    def see_whole_stream(self, events: list[tuple[int, str]]) -> None:
        """Take in the stream of an ended run, read from the first event on."""
        for sequence, envelope in events:
            self.see_event(sequence, envelope)
        if [sequence for sequence, _ in events] != list(range(self.first, len(self.events))):
            seen = len(self.events) - self.first
            self.blame(f"{seen} events were seen, and {len(events)} are left")

    def parsed(self, event_type: str) -> list[tuple[int, Json]]:
        """Return sequences and fields of the events of a type."""
        found = []
        for sequence in sorted(self.events):
            event = json.loads(self.events[sequence])
            if event["type"] == event_type:
                found.append((sequence, event["value"]))
        return found

    def story(self) -> str:
        """Return the last events, to see what went wrong."""
        lines = [f"  {sequence} {self.events[sequence]:.300}" for sequence in sorted(self.events)]
        return "\n".join(lines[-25:])

    @property
    def ended_as(self) -> str | None:
        """The final status, or None while the run goes on."""
        return self.ended["status"] if self.ended is not None else None

    @property
    def is_written_off(self) -> bool:
        """Whether the server ended the run because its store failed for too long."""
        return self.ended is not None and self.ended["error"] == WRITTEN_OFF

    @property
    def has_terminal_event(self) -> bool:
        """Whether the last event that was seen says that the run did not complete."""
        return bool(self.events) and json.loads(self.events[max(self.events)])["type"] in TERMINAL

    def check_end(self) -> None:
        """Check that the last event, and no other, is the handler's end."""
        assert self.ended is not None
        last = json.loads(self.events[max(self.events)]) if self.events else {}
        if self.ended["status"] != "completed":
            self.blame(f"it ended as {self.ended['status']}: {self.ended['error']}")
        elif last != self.ended["result"]:
            self.blame(f"the last event is {last}, the result {self.ended['result']}")

    def check_effects(self, effects: Effects) -> None:
        """Check that no work was done again after a reader saw that it was finished."""
        for at, work in effects:
            seen = self.finished_works.get(work)
            if seen is not None and at > seen:
                self.blame(f"work {work} was done again {at - seen:.3f} s after its end was seen")
        done = {work for _, work in effects}
        if missing := set(self.finished_works) - done:
            self.blame(f"works {missing} are said to be finished and never began")
