"""The input of a run: what it starts from, and what comes to it from outside."""

from dataclasses import dataclass, field
from functools import partial

from workflows.context.serializers import BaseSerializer
from workflows.events import Event, StartEvent
from workflows.runtime.types.internal_state import BrokerState
from workflows.runtime.types.step_id import StepId
from workflows.runtime.types.ticks import TickAddEvent

from workflow_server.app.engine.codec import NotSerializable, encode_start
from workflow_server.app.engine.decoding import comes_back_from_json
from workflow_server.app.engine.heavy import are_heavy
from workflow_server.app.engine.payloads import Payloads
from workflow_server.app.engine.prepared import PreparedEvent, prepare_event
from workflow_server.app.engine.received import Origin
from workflow_server.app.engine.state import TrackedState, encode_if_faithful
from workflow_server.app.engine.tick_log import EncodedSnapshot, encode_snapshot
from workflow_server.app.engine.ticks import decode_tick, encode_tick
from workflow_server.app.engine.values.codec import Codec
from workflow_server.app.errors import InvalidStartEvent

# What stands before the tick that is kept of an event, which is a JSON object.
START = b"start "  # it is the run's start event
ORIGIN = b"from "  # a line follows that says from whom it is


@dataclass(slots=True)
class RunInput:
    """The input of a run: its start event, the engine's state and `ctx.store`.

    `start_event` is None when the context was running. `has_context` says that the engine's state
    is one that a client, or the workflow's own `run()`, gave. `is_fresh` is false where the run
    goes on from a context, or from the state that an earlier one left, and `is_from_json` where the
    start event is what was built from a client's JSON. `prepared` is a large one as it is written,
    and `snapshot` a large state of the engine, whose large values are in `payloads`.
    """

    start_event: StartEvent | None
    broker: BrokerState
    state: TrackedState
    codec: Codec
    has_context: bool = False
    is_fresh: bool = True
    is_from_json: bool = True
    prepared: PreparedEvent | None = None
    payloads: Payloads = field(default_factory=Payloads)
    snapshot: EncodedSnapshot | None = None

    @property
    def is_heavy(self) -> bool:
        """Return whether it may take long to write what the run goes on from."""
        if self.is_fresh and not self.has_context:
            return False
        return are_heavy((self.state.kept, self.broker.workers))

    @property
    def start_envelope(self) -> bytes | None:
        """The start event as an envelope, to be shown with the run."""
        if self.start_event is None:
            return None
        if self.prepared is not None and self.prepared.envelope is not None:
            return self.prepared.envelope
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
        return Delivery(event, None, starts=True, prepared=self.prepared)

    def prepare(self) -> None:
        """Write all of it beforehand; nothing in that needs the event loop."""
        if self.start_event is not None:
            self.prepared = prepare_event(self.start_event, self.codec, encode_start)
        if self.has_context or not self.is_fresh:
            self.state.prepare(self.codec)
        if self.has_context:
            encode = partial(encode_if_faithful, self.state, self.codec)
            self.snapshot = encode_snapshot(self.broker, self.codec, (), self.payloads, encode)


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event from outside for a run, and the step that shall take it, or None for any step.

    `starts` says that it is the run's start event, and `size` has the bytes of its JSON. `origin`
    is None where a release before that field has kept it. `prepared` is a large one as it is
    written, and `envelope` its envelope.
    """

    event: Event
    step: str | None
    starts: bool = False
    size: int = 0
    origin: Origin | None = None
    prepared: PreparedEvent | None = None
    envelope: bytes | None = None

    def to_tick(self) -> TickAddEvent:
        """Return the tick that hands the event to the engine."""
        step_id = StepId.root(self.step) if self.step is not None else None
        return TickAddEvent(event=self.event, step_id=step_id)

    def encode(self, codec: Codec) -> bytes:
        """Return the delivery as bytes to be kept; `NotSerializable` where it cannot be."""
        if self.prepared is not None and not self.prepared.is_used:
            tick = self.prepared.encode_tick(self.to_tick(), codec)
        else:
            tick = encode_tick(self.to_tick(), codec)
        if self.origin is not None:
            return b"%b%b\n%b" % (ORIGIN, self.origin.encode(), tick)
        return START + tick if self.starts else tick

    @classmethod
    def decode(cls, encoded: bytes, codec: Codec, older: BaseSerializer) -> "Delivery":
        """Return the delivery that was kept; ValueError where its class no longer fits."""
        origin, kept = None, encoded.removeprefix(START)
        if kept.startswith(ORIGIN):
            line, _, kept = kept.removeprefix(ORIGIN).partition(b"\n")
            origin = Origin.decode(line)
        tick = decode_tick(kept, codec, older)
        if not isinstance(tick, TickAddEvent):
            raise ValueError("what was kept for the run is no event")
        step = str(tick.step_id) if tick.step_id is not None else None
        starts = encoded.startswith(START)
        return cls(tick.event, step, starts=starts, size=len(encoded), origin=origin)
