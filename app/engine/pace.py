"""Pace of a step: a run that has much uncommitted goes on when the store has taken it.

A step writes events without waiting for anything, and the engine has no place at which it could be
made to. So a step is carried out here from one of its own waits to the next. What it writes between
two of them nobody can store meanwhile, so that is bounded too.
"""

from collections.abc import Awaitable, Generator
from types import coroutine
from typing import Any, Protocol, TypeVar

MAX_AT_ONCE_BYTES = 64 << 20  # of events that a run has not committed, while its step waits never
TOO_MUCH = (
    f"A step has written {MAX_AT_ONCE_BYTES >> 20} MiB of events without giving way to the event"
    " loop, and the server can store none of them meanwhile. Put `await asyncio.sleep(0)` into its"
    " loop."
)
MAX_SENT_AT_ONCE = 100_000  # events that a step sends to others, and that it has not waited for
TOO_MANY = (
    f"A step has sent {MAX_SENT_AT_ONCE:,} events without giving way to the event loop, and no"
    " step can take one of them meanwhile. Put `await asyncio.sleep(0)` into its loop."
)

T = TypeVar("T")


class TooMuchAtOnce(RuntimeError):
    """A step writes or sends more events than may be while it does not wait."""


class Room(Protocol):
    """The bound of what a run may have uncommitted."""

    @property
    def has_room(self) -> bool:
        """Return whether the run is within its bound."""

    async def wait_for_room(self) -> None:
        """Return when the run is within its bound again."""


@coroutine
def paced(attempt: Awaitable[T], room: Room) -> Generator[Any, Any, T]:
    """Carry out an attempt of a step that begins, and goes on after its waits, where there is room.

    What ends a wait early, such as a cancellation, reaches the step at once.
    """
    work = attempt.__await__()
    waits_for, has_begun = None, False
    while True:
        raised: BaseException | None = None
        try:
            if has_begun:
                yield waits_for
            if not room.has_room:
                yield from room.wait_for_room().__await__()
        except GeneratorExit:
            work.close()
            raise
        except BaseException as error:  # noqa: BLE001  # it is the step's
            raised = error
        try:
            waits_for = work.send(None) if raised is None else work.throw(raised)
        except StopIteration as ended:
            result: T = ended.value
            return result
        has_begun = True
