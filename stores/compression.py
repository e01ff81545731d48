"""Large documents, compressed by LZ4 where that costs less than to write them as they are.

What it costs to compress a document, and what that saves, both go with how small it becomes. So a
sample of each is compressed first, which takes a few microseconds and tells: of the base64 of a
picture that nothing is won, and of rows of a table that most of them is. A store knows what it pays
for a byte, and from which part of a document on it had better not compress it.

A stored document that begins with `LZ4` is compressed; JSON cannot begin so. Its size comes next,
in four bytes, little-endian. No document grows more than `MOST_GROWN` times when it is expanded.
"""

import struct

import lz4.block  # type: ignore[import-untyped]  # it has no stubs

LZ4 = b"\x01"
LARGE = 1 << 14  # bytes of a document that is compressed; SQLite's pages are as large
SAMPLE = 1 << 12
MOST_GROWN = 255  # times; the most that the format of LZ4 can do
_HEAD = struct.Struct("<cI")


def compress_small(document: bytes) -> bytes:
    """Return a document as it is stored where it is kept for long: compressed, if that wins."""
    shrunk = _shrink(document)
    is_smaller = len(shrunk) + _HEAD.size < len(document)
    return _HEAD.pack(LZ4, len(document)) + shrunk if is_smaller else document


def compress(document: bytes, *, worth: float) -> bytes:
    """Return a document as it is stored: compressed, where it becomes a part of this size or less.

    That is guessed by its middle. The interpreter's lock is free meanwhile.
    """
    size = len(document)
    if size < LARGE:
        return document
    middle = (size - SAMPLE) // 2
    if len(_shrink(document[middle : middle + SAMPLE])) > worth * SAMPLE:
        return document
    shrunk = _shrink(document)
    return _HEAD.pack(LZ4, size) + shrunk if len(shrunk) <= worth * size else document


def _shrink(document: bytes) -> bytes:
    shrunk: bytes = lz4.block.compress(document, store_size=False)
    return shrunk


def size_of(stored: bytes) -> int:
    """Return the size of a stored document; ValueError where it cannot be of that size."""
    if not stored.startswith(LZ4):
        return len(stored)
    if len(stored) < _HEAD.size:
        raise ValueError("it is cut off")
    size: int = _HEAD.unpack_from(stored)[1]
    if size > MOST_GROWN * len(stored):
        raise ValueError(f"{len(stored)} bytes cannot be {size} of them")
    return size


def expand(stored: bytes) -> bytes:
    """Return a stored document as it was before; ValueError where it is damaged."""
    if not stored.startswith(LZ4):
        return stored
    size = size_of(stored)
    try:
        document: bytes = lz4.block.decompress(
            memoryview(stored)[_HEAD.size :], uncompressed_size=size
        )
    except lz4.block.LZ4BlockError as error:
        raise ValueError(str(error)) from error
    if len(document) != size:
        raise ValueError(f"{len(document)} bytes are left of {size}")
    return document
