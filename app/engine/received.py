"""Events from outside as the stream shows them: what came, from whom, when, for which question."""

from datetime import datetime
from typing import Any, NamedTuple

from pydantic import Field
from pydantic_core import from_json, to_json
from workflows.events import Event, InternalDispatchEvent

from workflow_server.app.engine.codec import (
    NotSerializable,
    enclose,
    encode_event,
    escape_line_breaks,
)
from workflow_server.schemas.times import from_micros


class Origin(NamedTuple):
    """The sender of an event, None where access is not restricted, and when the event was taken.

    `sent_at` is in whole microseconds since the epoch. `reply_to` is the sequence of the question
    that the sender says it answers.
    """

    sent_by: str | None
    sent_at: int
    reply_to: int | None

    def encode(self) -> bytes:
        """Return the origin as one line of JSON."""
        return to_json(self)

    @classmethod
    def decode(cls, line: bytes) -> "Origin":
        """Return the origin that was encoded; ValueError where it is none."""
        try:
            return cls(*from_json(line))
        except TypeError as error:
            raise ValueError("what was kept of a sender is damaged") from error


class EventReceivedEvent(InternalDispatchEvent):
    """An event from outside has reached the run."""

    event: dict[str, Any] | None = Field(
        description="Its envelope; null where JSON cannot carry it."
    )
    step: str | None = Field(description="The step that was to take it; null for any.")
    reply_to: int | None = Field(description="The sequence of the question that it answers.")
    sent_by: str | None = Field(
        description="The name of the credential that sent it; null where access is open."
    )
    sent_at: datetime = Field(description="When the server took it.")


def encode_received(
    event: Event, step: str | None, origin: Origin, envelope: bytes | None = None
) -> bytes:
    """Return the envelope of the `EventReceivedEvent` of an event.

    The event's own envelope goes into it as it is, with its secrets masked; it is given where it
    was made already.
    """
    if envelope is None:
        try:
            envelope = encode_event(event)
        except NotSerializable:
            envelope = b"null"
    rest = to_json(
        {
            "step": step,
            "reply_to": origin.reply_to,
            "sent_by": origin.sent_by,
            "sent_at": from_micros(origin.sent_at),
        }
    )
    value = b'{"event":%b,%b' % (envelope, escape_line_breaks(rest[1:]))
    return enclose(EventReceivedEvent, value)
