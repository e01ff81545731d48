"""Heavy values: to write or to read them takes so long that it is done beside the event loop.

A thread does it, and the loop has its turns meanwhile: Python's own code gives way every few
milliseconds, and no single call of a library takes long.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future
from contextvars import copy_context
from functools import partial
from itertools import islice
from threading import Semaphore, Thread
from typing import Any, TypeVar

from workflows.events import Event

T = TypeVar("T")

MANY = 4_000  # values that are written at once, in about 2 ms
LARGE = 1 << 18  # characters of text, or bytes, of which the same holds
AT_ONCE = 2
_ATOMS = frozenset({int, float, bool, type(None)})
_TEXTS = frozenset({str, bytes, bytearray})
_LISTS = frozenset({list, tuple, set, frozenset})
_ROWS: tuple[type[Collection[Any]], ...] = (list, tuple, set, frozenset, deque)


class Beside:
    """Threads for heavy values, of which so many are at work at a time.

    They are daemons: code of the user's that takes part, and does not end, keeps no process.
    """

    def __init__(self) -> None:
        self._turns = Semaphore(AT_ONCE)

    async def do(self, work: Callable[[], T]) -> T:
        """Return what work returns, or raise what it raises.

        A cancellation is raised when the work is done, for until then it looks at its values.
        """
        answer: Future[T] = Future()
        call = partial(self._call, partial(copy_context().run, work), answer)
        Thread(target=call, name="heavy-values", daemon=True).start()
        doing = asyncio.wrap_future(answer)
        try:
            return await asyncio.shield(doing)
        except asyncio.CancelledError:
            await asyncio.wait({doing})
            raise

    def _call(self, work: Callable[[], T], answer: Future[T]) -> None:
        with self._turns:
            try:
                result = work()
            except BaseException as error:  # noqa: BLE001  # who waits raises it
                answer.set_exception(error)
            else:
                answer.set_result(result)

    async def read(self, size: int, work: Callable[[], T]) -> T:
        """Return what work on so many bytes returns; beside the loop where they are many."""
        return await self.do(work) if size >= LARGE else work()


def is_heavy(event: Event | None) -> bool:
    """Return whether an event is heavy; most are not at the first look, of a microsecond."""
    return not _is_light(event) and are_heavy((event,))


def _is_light(event: Event | None) -> bool:
    """Return whether nothing in an event holds others, or is a long text."""
    if event is None:
        return True
    for members in (event.__dict__, event.__pydantic_private__ or {}):
        for value in members.values():
            kind = type(value)
            is_light = kind in _ATOMS or (kind is str and len(value) < LARGE)
            if not is_light and (kind is not dict or value):
                return False
    return True


def are_heavy(values: Iterable[Any], *, size: int = LARGE) -> bool:
    """Return whether values are heavy, with all that they hold; few are looked at.

    They are where they have more than `size` characters.
    """
    level, left = list(values), MANY
    while level:
        deeper: list[Any] = []
        for value in level:
            kind = type(value)
            if kind in _ATOMS:
                continue
            if kind in _TEXTS:
                size -= len(value)
                continue
            for members in _members_of(value, kind):
                left -= len(members)
                if left < 0:
                    return True
                deeper += members
        if size < 0:
            return True
        left -= 1  # so that values which hold themselves come to an end
        level = deeper
    return left < 0


def _members_of(value: Any, kind: type) -> Iterator[Collection[Any]]:
    """Yield what a value holds, without a call of its own code."""
    if kind in _LISTS:
        yield value
        return
    if issubclass(kind, dict):
        yield dict.keys(value)
        yield dict.values(value)
    row = next((row for row in _ROWS if issubclass(kind, row)), None)
    if row is not None:
        yield list(islice(row.__iter__(value), MANY + 1))
    if kind is dict:
        return
    for name in ("__dict__", "__pydantic_private__", "__pydantic_extra__"):
        try:
            members = object.__getattribute__(value, name)
        except (AttributeError, TypeError):
            continue
        if type(members) is dict:
            yield members.values()
