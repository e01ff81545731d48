"""What the clients of one run saw, and what must hold of it ever after."""

import json
import time
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
Effects = list[tuple[float, str]]  # when a work began, on the machine's clock, and its name
Spans = list[tuple[float, float]]  # on that clock

WRITTEN_OFF = "The run was ended because the store could not be reached."
TERMINAL = {"WorkflowCancelledEvent", "WorkflowFailedEvent", "WorkflowTimedOutEvent"}


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
