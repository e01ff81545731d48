"""Leaves: values of the standard library's classes, and pydantic's, that JSON has no form for.

Each is written as text, a number, or a list of such; only exactly these classes are, for a
subclass is another type.
"""

import math
import re
import struct
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from uuid import UUID, SafeUUID
from zoneinfo import ZoneInfo

from pydantic_core import MultiHostUrl, TzInfo, Url

from workflow_server.app.engine.values.faults import NotFaithful


@dataclass(frozen=True, slots=True)
class Leaf:
    """Form of the values of one class: `dump` writes one, `load` makes it again."""

    kind: str
    dump: Callable[[Any], Any]
    load: Callable[[Any], Any]


def _dump_bytes(value: bytes | bytearray) -> str:
    return b64encode(value).decode("ascii")


def _load_float(text: str) -> float:
    return float(text) if "inf" in text else struct.unpack(">d", bytes.fromhex(text))[0]


def dump_float(value: float) -> Any:
    """Return a number as JSON has it, or what it has none for as text."""
    if math.isfinite(value):
        return value
    if math.isnan(value):
        return struct.pack(">d", value).hex()  # with its sign and its payload
    return "inf" if value > 0 else "-inf"


def _load_number(number: Any) -> float:
    return _load_float(number) if isinstance(number, str) else float(number)


def _dump_complex(value: complex) -> list[Any]:
    return [dump_float(value.real), dump_float(value.imag)]


def _load_complex(parts: list[Any]) -> complex:
    return complex(*map(_load_number, parts))


def _dump_timedelta(value: timedelta) -> list[int]:
    return [value.days, value.seconds, value.microseconds]


def _dump_timezone(value: timezone) -> list[Any]:
    offset, *name = value.__getinitargs__()  # type: ignore[attr-defined]  # what pickle uses
    return [*_dump_timedelta(offset), *name]


def _load_timezone(parts: list[Any]) -> timezone:
    offset = timedelta(*parts[:3])
    if parts == [0, 0, 0]:
        return timezone.utc  # noqa: UP017  # the object itself
    return timezone(offset, *parts[3:])


def _dump_zone(value: ZoneInfo) -> str:
    if value.key is None:
        raise NotFaithful("a ZoneInfo that was made of a file has no name to be found by")
    return value.key


def _dump_tz(value: TzInfo) -> float:
    offset = value.utcoffset(None)
    assert offset is not None
    return offset.total_seconds()


def _dump_uuid(value: UUID) -> list[Any]:
    return [value.hex, value.is_safe.name]


def _load_uuid(parts: list[Any]) -> UUID:
    return UUID(hex=parts[0], is_safe=SafeUUID[parts[1]])


def _dump_range(value: range) -> list[int]:
    return [value.start, value.stop, value.step]


def _dump_pattern(value: re.Pattern[Any]) -> list[Any]:
    if isinstance(value.pattern, bytes):
        return [_dump_bytes(value.pattern), value.flags, "bytes"]
    return [value.pattern, value.flags]


def _load_pattern(parts: list[Any]) -> re.Pattern[Any]:
    pattern: Any = b64decode(parts[0]) if parts[2:] else parts[0]
    return re.compile(pattern, parts[1])


def _dump_text(value: str) -> str:
    """Return a text with lone surrogates, which JSON cannot carry."""
    return _dump_bytes(value.encode("utf-8", "surrogatepass"))


def _load_text(text: str) -> str:
    return b64decode(text).decode("utf-8", "surrogatepass")


def _load_fraction(parts: list[int]) -> Fraction:
    return Fraction(parts[0], parts[1])


def _dump_fraction(value: Fraction) -> list[int]:
    return [value.numerator, value.denominator]


def _load_int(text: str) -> int:
    return int(text, 16)


_PATHS = (PurePosixPath, PureWindowsPath, type(Path()))
_ADDRESSES = (IPv4Address, IPv4Network, IPv4Interface, IPv6Address, IPv6Network, IPv6Interface)

LEAVES: dict[type, Leaf] = {
    bytes: Leaf("bytes", _dump_bytes, b64decode),
    bytearray: Leaf("bytearray", _dump_bytes, lambda text: bytearray(b64decode(text))),
    complex: Leaf("complex", _dump_complex, _load_complex),
    Decimal: Leaf("decimal", str, Decimal),
    Fraction: Leaf("fraction", _dump_fraction, _load_fraction),
    date: Leaf("date", date.isoformat, date.fromisoformat),
    timedelta: Leaf("timedelta", _dump_timedelta, lambda parts: timedelta(*parts)),
    timezone: Leaf("timezone", _dump_timezone, _load_timezone),
    ZoneInfo: Leaf("zone", _dump_zone, ZoneInfo),
    TzInfo: Leaf("offset", _dump_tz, TzInfo),
    UUID: Leaf("uuid", _dump_uuid, _load_uuid),
    range: Leaf("range", _dump_range, lambda parts: range(*parts)),
    re.Pattern: Leaf("pattern", _dump_pattern, _load_pattern),
    type(...): Leaf("ellipsis", lambda _value: None, lambda _nothing: ...),
    Url: Leaf("url", str, Url),
    MultiHostUrl: Leaf("urls", str, MultiHostUrl),
    **{cls: Leaf(cls.__name__, str, cls) for cls in (*_PATHS, *_ADDRESSES)},
}
FLOAT = Leaf("float", dump_float, _load_float)
INT = Leaf("int", hex, _load_int)
TEXT = Leaf("str", _dump_text, _load_text)

LOADERS = {leaf.kind: leaf.load for leaf in (*LEAVES.values(), FLOAT, INT, TEXT)}
