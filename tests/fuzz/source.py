"""Bytes as a source of choices, so that whatever makes bytes can make values."""

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Source:
    """Reads choices from bytes; where they are used up, each choice is the first one."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0

    def below(self, bound: int) -> int:
        """Return a number from 0 to `bound` - 1; bounds go up to 65,536."""
        width = 1 if bound <= 256 else 2
        return int.from_bytes(self.take(width), "big") % bound

    def pick(self, options: Sequence[T]) -> T:
        """Return one of the options."""
        return options[self.below(len(options))]

    def take(self, count: int) -> bytes:
        """Return the next bytes, fewer where they are used up."""
        taken = self._data[self._place : self._place + count]
        self._place += count
        return taken
