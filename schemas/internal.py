"""Messages between the servers that share a store.

Two releases may talk to each other while a new one is rolled out: a new field has a default, and
unknown ones are passed over.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict

from workflow_server.schemas.records import HandlerKey

PREFIX = "/internal/"
SEND = f"{PREFIX}events/send"
FOLLOW = f"{PREFIX}events/follow"
CANCEL = f"{PREFIX}cancel"
TAKE_POSITION = f"{PREFIX}position/take"
MOVE_POSITION = f"{PREFIX}position/move"
DRAIN = f"{PREFIX}drain"


class Message(BaseModel):
    """A message about a run of a handler."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    tenant: str
    handler_id: str

    @property
    def key(self) -> HandlerKey:
        """Return the identity of the handler."""
        return HandlerKey(self.tenant, self.handler_id)


class SendMessage(Message):
    """An event for the run that is the handler's current one, or for `run_id` alone."""

    run_id: str | None
    event: dict[str, Any] | str
    step: str | None
    reply_to: int | None
    sent_by: str | None


class CancelMessage(Message):
    """The wish to cancel the handler's current run, or `run_id` alone."""

    run_id: str | None


class Cancelled(BaseModel):
    """A run that has ended, and whether it was the cancellation that ended it."""

    run_id: str
    was_running: bool


class FollowMessage(Message):
    """The wish to follow the events of a run after a sequence."""

    run_id: str
    after: int


class PositionMessage(Message):
    """The wish to hold a run's shared reading position, or to look where it is (`timeout` None).

    `timeout` is in seconds.
    """

    run_id: str
    timeout: float | None


class Position(BaseModel):
    """A shared reading position; `lease` names the hold that the asker has of it now."""

    cursor: int
    is_held: bool
    lease: str | None


class MoveMessage(BaseModel):
    """The shared reading position of a lease moves on, and is given back where it is `released`."""

    lease: str
    cursor: int
    released: bool


class DrainMessage(BaseModel):
    """The wish that the server of this incarnation takes no more runs, and gives up its own."""

    incarnation: int


class Done(BaseModel):
    """The answer that all is done, or has begun."""


class Misdirected(BaseModel):
    """The run is neither at the server that was asked nor can it be had there."""

    incarnation: int
    address: str | None
