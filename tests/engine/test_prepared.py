"""Large events are written beforehand, and ticks have them as they would have written them."""

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from workflows.events import Event, StartEvent, StopEvent
from workflows.runtime.types.internal_state import BrokerState
from workflows.runtime.types.results import StepWorkerResult
from workflows.runtime.types.step_id import StepId
from workflows.runtime.types.ticks import TickAddEvent, TickStepResult, WorkflowTick

from tests.engine.test_tick_log import Once
from tests.properties.values import SETTINGS, json_like, text
from workflow_server.app.engine.codec import NotSerializable, encode_event
from workflow_server.app.engine.payloads import put_back
from workflow_server.app.engine.prepared import prepare_event
from workflow_server.app.engine.tick_log import TickLog
from workflow_server.app.engine.ticks import encode_tick
from workflow_server.app.engine.values.codec import Codec

MARKED = [{"$": {"!": [1]}, "text": '{"a": [1]}' + " " * 300}, {"!": "x" * 300}]


class Keeping:
    """A journal that keeps what is written."""

    keeps_history = True
    is_base_due = False

    def __init__(self) -> None:
        self.ticks: list[bytes] = []
        self.history: list[bytes] = []
        self.payloads: dict[int, bytes] = {}

    def add_tick(self, tick: bytes) -> None:
        self.ticks.append(tick)

    def keep_tick(self, tick: bytes) -> None:
        self.history.append(tick)

    def keep_base(self, snapshot: bytes, encode_state: Callable[[], bytes | None]) -> None: ...

    def set_snapshot(self, snapshot: bytes) -> None: ...

    def add_payloads(self, payloads: Iterable[tuple[int, bytes]]) -> None:
        self.payloads.update(payloads)

    def drop_payloads(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            del self.payloads[number]


def make_event(**fields: Any) -> StartEvent:
    """Return a start event of any fields."""
    return StartEvent.model_validate(fields)


def result_of(event: Event, result: Any = None) -> TickStepResult:
    """Return the tick of a step that has taken an event and given a result."""
    given = StepWorkerResult(result=StopEvent(result=result))
    return TickStepResult(step_id=StepId.root("end"), worker_id=0, event=event, result=[given])


def log_of(event: Event) -> tuple[Keeping, TickLog]:
    """Return a journal, and the log that writes a prepared event into it."""
    journal, codec = Keeping(), Codec([StartEvent, StopEvent])
    log = TickLog(journal, codec)
    log.use(prepare_event(event, codec, encode_event))
    return journal, log


def read(journal: Keeping) -> list[Any]:
    """Return what the ticks of a journal hold."""
    codec = Codec([StartEvent, StopEvent])
    return [codec.decode(put_back(tick, journal.payloads)) for tick in journal.ticks]


def written(*ticks: WorkflowTick) -> list[bytes]:
    """Return ticks as they are written where no event was prepared."""
    return [encode_tick(tick, Codec([StartEvent, StopEvent])) for tick in ticks]


@pytest.mark.parametrize("beside", [MARKED, ["a", 1.5, None] * 100])
def test_ticks_have_a_prepared_event_as_they_would_write_it(beside: Any) -> None:
    @SETTINGS
    @given(json_like(text))
    def check(value: object) -> None:
        event = make_event(x=value, beside=beside)
        ticks: list[WorkflowTick] = [TickAddEvent(event=event), result_of(event)]
        ticks.append(result_of(event, beside))
        journal, log = log_of(event)
        sizes = [log.add(tick) for tick in ticks]
        assert journal.history == written(*ticks)
        assert len(journal.payloads) >= 1
        codec = Codec([StartEvent, StopEvent])
        # As texts, for NaN is not equal to itself.
        events = [codec.serialize(tick["event"]) for tick in read(journal)]
        assert events == [codec.serialize(event)] * 3
        expected = [codec.decode(tick)["result"] for tick in written(*ticks[1:])]
        results = [tick["result"] for tick in read(journal)[1:]]
        assert codec.serialize(results) == codec.serialize(expected)
        assert all(abs(size - len(w)) < 10 for size, w in zip(sizes, written(*ticks), strict=True))

    check()


@pytest.mark.parametrize("other", [2, True, 1.0, (1,)])
def test_an_event_that_a_step_has_changed_is_written_as_it_is_now(other: Any) -> None:
    event = make_event(x=[1], beside=["a"] * 1_000)
    journal, log = log_of(event)
    log.add(TickAddEvent(event=event))
    event.x[0] = other
    log.add(result_of(event))
    first, second = (repr(tick["event"].x) for tick in read(journal))
    assert (first, second) == ("[1]", repr([other]))


def test_an_event_of_which_nobody_can_tell_whether_it_changed_is_written_again() -> None:
    event = make_event(x=[Decimal(1)], beside=["a"] * 1_000)
    journal, log = log_of(event)
    log.add(TickAddEvent(event=event))
    event.x[0] = Decimal(2)
    log.add(result_of(event))
    assert [tick["event"].x for tick in read(journal)] == [[Decimal(1)], [Decimal(2)]]


def test_an_event_whose_payload_a_snapshot_has_dropped_is_written_again() -> None:
    event = make_event(beside=["a"] * 1_000)
    journal, log = log_of(event)
    log.add(TickAddEvent(event=event))
    log.put_snapshot(log.encode_snapshot(BrokerState.from_workflow(Once()), (), lambda: None))
    journal.ticks.clear()
    log.add(result_of(event))
    assert [tick["event"] for tick in read(journal)] == [event]


def test_marks_that_would_make_an_event_too_deep_are_left_in_the_tick() -> None:
    deep: Any = 1
    for _ in range(120):
        deep = {"$": deep}
    event = make_event(x=deep, beside=["a"] * 1_000)
    journal, log = log_of(event)
    ticks: list[WorkflowTick] = [TickAddEvent(event=event), result_of(event)]
    for tick in ticks:
        log.add(tick)
    assert journal.ticks == written(*ticks)


def test_what_cannot_be_written_is_refused_with_its_place() -> None:
    event = make_event(x=[object()])
    journal, log = log_of(event)
    with pytest.raises(NotSerializable, match=r"StartEvent.*x"):
        log.add(TickAddEvent(event=event))
    assert journal.ticks == []
