"""The number of values in a JSON text, counted in its bytes before any of it is built.

A value takes many times the bytes of its text, so a limit of bytes alone lets a small body fill
memory and keep the event loop. Counted are the values, the names of members, and 50 more for each
500 digits in a row: a number takes longer to write, the longer it is.
"""

import asyncio
import gc
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

SLICE = 128 * 1024  # bytes that are looked at before others have the event loop
DIGITS = bytes.maketrans(b"123456789", b"0" * 9)
LONG_NUMBER = b"0" * 500  # digits
LONG_NUMBER_VALUES = 50
WHITESPACE = b" \t\r\n"
LARGE = 16 * 1024  # bytes of a text whose values are built without a look for garbage in between


async def has_more_values(text: bytes, limit: int) -> bool:
    """Return whether a text has more than `limit` values; the event loop turns in between.

    A text that is no JSON is never found to have fewer than a parser would build of it.
    """
    if not _may_have_more(text, limit):
        return False
    for values in _count(text):
        if values > limit:
            return True
        await asyncio.sleep(0)
    return False


def count_values(text: bytes, limit: int) -> int:
    """Return the number of values in a text, as far as they are counted when there are too many."""
    values = 0
    for values in _count(text):
        if values > limit:
            break
    return values


def building_values(text: bytes | str) -> AbstractContextManager[None]:
    """Return what `without_collection` does, for values that are built of a large text."""
    return nullcontext() if len(text) < LARGE else without_collection()


class without_collection:  # noqa: N801  # as the context managers of contextlib are named
    """Keeps the collector of garbage from looking at values that are being built.

    There is no garbage among them, and to look again and again takes longer than to build them.
    """

    __slots__ = ("_was_enabled",)

    def __enter__(self) -> None:
        """Turn the collector off, where it is on."""
        self._was_enabled = gc.isenabled()
        if self._was_enabled:
            gc.disable()

    def __exit__(self, *_raised: object) -> None:
        """Turn it on again, where it was on."""
        if self._was_enabled:
            gc.enable()


def _may_have_more(text: bytes, limit: int) -> bool:
    """Return whether a closer look is needed: most texts have too few marks of values anywhere."""
    if len(text) <= limit:
        return False
    marks = sum(map(text.count, (b",", b"[", b"{", b":")))
    digits = len(text) // len(LONG_NUMBER) * LONG_NUMBER_VALUES
    return 1 + marks + (digits if _has_long_number(text) else 0) > limit


def _has_long_number(text: bytes) -> bool:
    """Return whether there may be a long number, by one byte of each row that it would have."""
    step = len(LONG_NUMBER)
    return b"0" in text[step - 1 :: step].translate(DIGITS)


def _count(text: bytes) -> Iterator[int]:
    """Yield the number of values up to the end of each slice of a text."""
    values, is_in_text, last, start = 1, False, b"", 0
    while start < len(text):
        piece = text[start : start + SLICE]
        start += len(piece)
        if start < len(text) and (len(piece) - len(piece.rstrip(b"\\"))) % 2:
            piece, start = piece[:-1], start - 1  # an escape is not cut in two
        # Escapes stand only in strings, where none of them is a quotation mark that ends one.
        parts = piece.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        # A string leaves nothing but a mark, so that what is around it does not meet.
        outside = b'"'.join(parts[is_in_text::2]).translate(None, WHITESPACE)
        values += _count_marks(last + outside) - _count_marks(last)
        is_in_text ^= len(parts) % 2 == 0
        last = b'"' if is_in_text else outside[-1:] or last
        yield values


def _count_marks(outside: bytes) -> int:
    """Return how many values what is outside of strings has, beside the first one."""
    brackets = outside.count(b"[") + outside.count(b"{")
    empty = outside.count(b"[]") + outside.count(b"{}")
    numbers = outside.translate(DIGITS).count(LONG_NUMBER) * LONG_NUMBER_VALUES
    return outside.count(b",") + outside.count(b":") + brackets - empty + numbers
