"""The input of a run: what it starts from, and what comes to it from outside."""

from dataclasses import dataclass

from workflows.context.serializers import BaseSerializer
from workflows.events import Event, StartEvent
from workflows.runtime.types.internal_state import BrokerState
from workflows.runtime.types.step_id import StepId
from workflows.runtime.types.ticks import TickAddEvent

from workflow_server.app.engine.codec import NotSerializable, encode_start
from workflow_server.app.engine.decoding import comes_back_from_json
from workflow_server.app.engine.state import TrackedState
from workflow_server.app.engine.ticks import decode_tick, encode_tick
from workflow_server.app.engine.values.codec import Codec
from workflow_server.app.errors import InvalidStartEvent

START = b"start "  # before what is kept of a start event; a tick is a JSON object


@dataclass(slots=True)
class RunInput:
    """The input of a run: its start event, the engine's state and `ctx.store`.

    `start_event` is None when the context was running. `has_context` says that the engine's state
    is one that a client, or the workflow's own `run()`, gave. `is_fresh` is false where the run
    goes on from a context, or from the state that an earlier one left, and `is_from_json` where the
    start event is what was built from a client's JSON.
    """

    start_event: StartEvent | None
    broker: BrokerState
    state: TrackedState
    codec: Codec
    has_context: bool = False
    is_fresh: bool = True
    is_from_json: bool = True

    @property
    def start_envelope(self) -> bytes | None:
        """The start event as an envelope, to be shown with the run."""
        if self.start_event is None:
            return None
        try:
            return encode_start(self.start_event)
        except NotSerializable as error:
            raise InvalidStartEvent(f"The start event cannot be stored: {error}.") from error

    def find_start_delivery(self, envelope: bytes) -> "Delivery | None":
        """Return the start event as it is kept, where its envelope may not hold all of it."""
        event = self.start_event
        if event is None:
            return None
        # A number that is too large for a float is null in the envelope.
        is_whole = self.is_from_json and b"null" not in envelope[: envelope.rfind(b',"type":')]
        if is_whole and comes_back_from_json(type(event)):
            return None
        return Delivery(event, None, starts=True)


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event from outside for a run, and the step that shall take it, or None for any step.

    `starts` says that it is the run's start event.
    """

    event: Event
    step: str | None
    starts: bool = False

    def to_tick(self) -> TickAddEvent:
        """Return the tick that hands the event to the engine."""
        step_id = StepId.root(self.step) if self.step is not None else None
        return TickAddEvent(event=self.event, step_id=step_id)

    def encode(self, codec: Codec) -> bytes:
        """Return the delivery as bytes to be kept; `NotSerializable` where it cannot be."""
        return (START if self.starts else b"") + encode_tick(self.to_tick(), codec)

    @classmethod
    def decode(cls, encoded: bytes, codec: Codec, older: BaseSerializer) -> "Delivery":
        """Return the delivery that was kept; ValueError where its class no longer fits."""
        tick = decode_tick(encoded.removeprefix(START), codec, older)
        if not isinstance(tick, TickAddEvent):
            raise ValueError("what was kept for the run is no event")
        step = str(tick.step_id) if tick.step_id is not None else None
        return cls(tick.event, step, starts=encoded.startswith(START))
