"""Results that are unwrapped without a value of them being built."""

import tracemalloc

import pytest
from pydantic_core import from_json
from workflows.events import Event, StopEvent

from workflow_server.app.engine.codec import encode_event, unwrap_result

TRAP = ',"type":"StopEvent","types":null,"qualified_name":"x"}'


class Answered(StopEvent):
    """A stop event with a field that looks like the end of an envelope."""

    text: str = TRAP


# A class whose name looks like one.
Trap: type[Event] = type(TRAP, (StopEvent,), {"__module__": TRAP})

UNWRAPPED = [
    (StopEvent(), None),
    (StopEvent(result={"a": [1, TRAP, {"type": "StopEvent"}], "result": "\u2028"}), ...),
    (StopEvent(result=TRAP, other=1), TRAP),
    (Answered(), {"text": TRAP}),
    (Answered.model_validate({"result": 1}), {"text": TRAP, "result": 1}),
    (Trap.model_validate({"result": TRAP}), {"result": TRAP}),
]


@pytest.mark.parametrize(("event", "expected"), UNWRAPPED)
def test_a_plain_stop_event_is_unwrapped_to_its_result_and_others_to_their_value(
    event: StopEvent, expected: object
) -> None:
    expected = event.result if expected is ... else expected
    assert from_json(unwrap_result(encode_event(event))) == expected


@pytest.mark.parametrize(
    ("envelope", "expected"),
    [
        (b'{"type":"StopEvent","types":null,"value":{"result":1}}', 1),
        (b'{"value": {"result": 1}, "type": "StopEvent", "types": null}', 1),
        (b'{"value":{"other":2,"result":1},"type":"StopEvent","types":null,"x":1}', 1),
        (b'{"type":"Other","types":["StopEvent"],"value":{"a":1}}', {"a": 1}),
    ],
)
def test_an_envelope_that_is_written_otherwise_is_unwrapped_too(
    envelope: bytes, expected: object
) -> None:
    assert from_json(unwrap_result(envelope)) == expected


@pytest.mark.parametrize("event", [StopEvent(result=[[]] * 100_000), Answered(text="x" * 300_000)])
def test_a_large_result_is_unwrapped_without_a_value_of_it(event: StopEvent) -> None:
    envelope = encode_event(event)
    tracemalloc.start()
    try:
        unwrap_result(envelope)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 * len(envelope)  # its values take 20 times as much
