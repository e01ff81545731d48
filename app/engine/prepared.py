"""Large events from outside, written beside the event loop before their run takes them.

To write an event of 200,000 values takes most of a second. A thread does it while the sender waits,
and the ticks that hold the event take what it wrote, as long as the event is what it was: a step
may change the event that it takes.
"""

import marshal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from weakref import ReferenceType, ref

from workflows.events import Event
from workflows.runtime.types.ticks import TickAddEvent

from workflow_server.app.engine.attempt import MAX_KEPT_BYTES
from workflow_server.app.engine.codec import NotSerializable
from workflow_server.app.engine.payloads import Payload, make_payload
from workflow_server.app.engine.ticks import EVENT_DEPTH, encode_without_event, put_event
from workflow_server.app.engine.values.codec import Codec

NO_REFERENCES = 2  # the last version of `marshal` whose bytes depend on values alone


@dataclass(slots=True, eq=False)
class PreparedEvent:
    """An event as it is written: its envelope, and what ticks have of it.

    `envelope` is None where JSON cannot carry the event, and `fault` says why ticks cannot.
    `encoded` is None once it is written and too large for the history, and `payload` has its digest
    alone then; `payload` is None where the marks in it would make it too deep. `digest` tells
    whether the event has changed; it is None where the event holds more than plain data.
    """

    event: "ReferenceType[Event]"
    envelope: bytes | None = None
    fault: NotSerializable | None = None
    size: int = 0
    encoded: bytes | None = None
    payload: Payload | None = None
    digest: bytes | None = None
    is_used: bool = False

    def is_true(self) -> bool:
        """Return whether the event is still what was written; no step has had it before a tick."""
        if self.digest is None:
            return not self.is_used
        event = self.event()
        return event is not None and _digest_of(event) == self.digest

    def be_used(self) -> None:
        """Note that a tick has the event, and let go of what no later one needs."""
        self.is_used, self.envelope = True, None
        if self.payload is not None:
            self.payload = Payload(b"", self.payload.digest)
            if self.size > MAX_KEPT_BYTES:
                self.encoded = None

    def encode_tick(self, tick: TickAddEvent, codec: Codec) -> bytes:
        """Return the tick of the event, which no tick has yet; `NotSerializable` as told."""
        if self.fault is not None:
            raise self.fault
        assert self.encoded is not None  # it was not used
        return put_event(encode_without_event(tick, codec), self.encoded)


def prepare_event(event: Event, codec: Codec, encode: Callable[[Event], bytes]) -> PreparedEvent:
    """Return an event as it is written, where `encode` makes its envelope.

    Nothing in it needs the event loop.
    """
    prepared = PreparedEvent(ref(event), digest=_digest_of(event))
    with suppress(NotSerializable):  # whoever needs it finds out why
        prepared.envelope = encode(event)
    try:
        encoded = codec.encode(lambda writer: writer.write_root(event, EVENT_DEPTH))
    except NotSerializable as fault:
        prepared.fault = fault
    else:
        prepared.encoded, prepared.size = encoded, len(encoded)
        prepared.payload = make_payload(encoded)
    return prepared


def _digest_of(event: Event) -> bytes | None:
    """Return a digest of plain data, exact in its types; None of what holds anything else."""
    parts = (
        event.__dict__,
        event.__pydantic_private__,
        event.__pydantic_extra__,
        sorted(event.__pydantic_fields_set__),
    )
    try:
        return blake2b(marshal.dumps(parts, NO_REFERENCES), digest_size=16).digest()
    except ValueError:
        return None
