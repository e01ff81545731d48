"""Events to envelopes: an event that goes out is serialized here, once.

The bytes of an envelope go out as they are, inside an SSE `data:` line or as a line of NDJSON, so
they hold no byte that could break such a framing. JSON itself escapes the control characters
below U+0020; U+0085, U+2028 and U+2029, at which clients split lines too, are escaped here, and
lone surrogates, which UTF-8 cannot carry, become U+FFFD. NaN and infinities become null.
"""

from functools import lru_cache

from pydantic_core import from_json, to_json
from workflows.events import Event

from workflow_server.app.engine.places import (
    NOTHING,
    find_fault,
    find_iterator,
    find_unserializable,
    members_of,
    open_fields,
    replace_surrogates,
)
from workflow_server.app.json_size import building_values
from workflow_server.schemas.times import from_micros

MAX_DIGITS = 4300  # of an integer, as `sys.get_int_max_str_digits()` has it by default
TOO_LONG = b"0" * (MAX_DIGITS + 1)
MAX_DEPTH = 200  # of arrays and objects in one another, as JSON is read here
DIGITS = bytes.maketrans(b"123456789", b"0" * 9)
_QUALIFIED_NAME_KEY = b',"qualified_name":'
_VALUE_KEY, _TYPE_KEY = b'{"value":', b',"type":'
_PLAIN_STOP = b',"type":"StopEvent","types":null,'
_RESULT_KEY = b'{"result":'
_UNSAFE = ((b"\xc2\x85", b"\\u0085"), (b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029"))


class NotSerializable(Exception):
    """A value that JSON cannot carry; the sentence names its place and its class."""


def encode_event(event: Event, *, max_size: int | None = None) -> bytes:
    """Return the event's envelope as JSON; `NotSerializable` names the value that cannot be.

    That is also an envelope of more than `max_size` bytes.
    """
    envelope = enclose(type(event), encode_value(event))
    if max_size is not None and len(envelope) > max_size:
        raise NotSerializable(
            f"{type(event).__name__} has {len(envelope)} bytes of JSON, and {max_size} are allowed"
        )
    return envelope


def encode_start(event: Event) -> bytes:
    """Return a start event's envelope, without what JSON cannot carry.

    Where the event's own serializer fails, its members are written one by one.
    """
    try:
        return encode_event(event)
    except NotSerializable:
        members = members_of(event).items()
        written = {name: value for name, value in members if not find_fault(value, "")}
        value = to_json(replace_surrogates(written), inf_nan_mode="null")
        return enclose(type(event), _finish(event, value))


def enclose(event_class: type[Event], value: bytes) -> bytes:
    """Return the envelope of an event of a class, whose fields are given as a JSON object."""
    return b"".join((b'{"value":', value, _envelope_tail(event_class)))


def encode_value(event: Event) -> bytes:
    """Return the event's fields as a JSON object."""
    may_hold_iterators = event.__pydantic_private__ != NOTHING or open_fields(type(event))
    if may_hold_iterators and (place := find_iterator(event)):
        raise NotSerializable(
            f"{type(event).__name__}{place} cannot be serialized: it can be read only once"
        )
    try:
        value = type(event).__pydantic_serializer__.to_json(event)
    except BaseException as error:  # noqa: BLE001  # the classes are the user's, and may raise anything
        value = _encode_leniently(event, error)
    return _finish(event, value)


def _finish(event: Event, value: bytes) -> bytes:
    """Return JSON that every reader takes; `NotSerializable` where it is none."""
    if _may_be_too_long(value):
        _check_readable(value, f"{type(event).__name__} holds a number that is too long")
    if _may_be_deep(value):
        _check_readable(value, f"{type(event).__name__} is nested too deeply")
    if not value.startswith(b"{"):
        raise NotSerializable(f"{type(event).__name__} serializes to no JSON object")
    return escape_line_breaks(value)


def _may_be_too_long(value: bytes) -> bool:
    """Return whether there are more digits in a row than a number may have.

    Such a row has a digit in one of the places that are looked at first.
    """
    places = value[MAX_DIGITS :: MAX_DIGITS + 1].translate(DIGITS)
    return b"0" in places and TOO_LONG in value.translate(DIGITS)


def _may_be_deep(value: bytes) -> bool:
    """Return whether there are brackets enough for more depth than the parser takes.

    Of brackets of two kinds there are half as many of one. To count them takes longer than to look
    for them.
    """
    return len(value) > 2 * MAX_DEPTH and (_has_many(b"[", value) or _has_many(b"{", value))


def _has_many(bracket: bytes, value: bytes) -> bool:
    place = -1
    for _ in range(MAX_DEPTH // 2):
        place = value.find(bracket, place + 1)
        if place < 0:
            return False
    return True


def check_readable(document: bytes, *, depth: int) -> None:
    """Raise ValueError for JSON that could not be read so deep in another document."""
    if _may_be_too_long(document) or _may_be_deep(document):
        with building_values(document):
            from_json(b"[" * depth + document + b"]" * depth)


def _check_readable(value: bytes, sentence: str) -> None:
    """Refuse what JSON parsers, our own among them, do not take, though it can be written."""
    try:
        with building_values(value):
            from_json(b'{"value":%b}' % value)
    except ValueError as error:
        raise NotSerializable(sentence) from error


def unwrap_result(envelope: bytes) -> bytes:
    """Return the JSON of a stop event's value; of a plain `StopEvent`, of its `result`.

    No value is built where the envelope is as we write it: it may be large, and the event loop
    waits. Behind its value stands no string that holds the searched bytes, as below.
    """
    end = envelope.rfind(_TYPE_KEY)
    if not envelope.startswith(_VALUE_KEY) or end < 0:
        return _unwrap_values(envelope)
    value = envelope[len(_VALUE_KEY) : end]
    if not envelope.startswith(_PLAIN_STOP, end):
        return value
    if value == b"{}":
        return b"null"
    if not value.startswith(_RESULT_KEY):
        return _unwrap_values(envelope)
    return value[len(_RESULT_KEY) : -1]  # The engine gives a plain one no other member.


def _unwrap_values(envelope: bytes) -> bytes:
    event = from_json(envelope)
    is_plain = event["type"] == "StopEvent" and event["types"] is None
    return to_json(event["value"].get("result") if is_plain else event["value"])


def find_tail(envelope: bytes) -> int:
    """Return where the last member of an envelope begins, its `qualified_name`.

    The two functions below take what stands from there on, as they take a whole envelope.
    """
    return envelope.rindex(_QUALIFIED_NAME_KEY)


def without_qualified_name(envelope: bytes) -> bytes:
    """Return an envelope whose `qualified_name` is null.

    The name is the envelope's last member, and no string inside it can hold the searched bytes:
    there a quotation mark follows a backslash, not a comma.
    """
    return envelope[: find_tail(envelope)] + _QUALIFIED_NAME_KEY + b"null}"


def with_emission(envelope: bytes, emitted_at: int | None) -> bytes:
    """Return an envelope that also says when its event was emitted, in ISO 8601; null if unknown.

    The time is in whole microseconds since the epoch.
    """
    time = to_json(from_micros(emitted_at).isoformat() if emitted_at is not None else None)
    return b'%b,"emitted_at":%b}' % (envelope[:-1], time)


def base_names(event_class: type[Event]) -> list[str] | None:
    """Return the classes between an event's class and `Event`, nearest first; None for none."""
    bases = event_class.__mro__[1 : event_class.__mro__.index(Event)]
    names = [base.__name__ for base in bases if issubclass(base, Event)]
    return names or None


def qualified_name(event_class: type[Event]) -> str:
    """Return module and name of an event's class, as envelopes carry them."""
    return f"{event_class.__module__}.{event_class.__name__}"


@lru_cache(maxsize=4096)
def _envelope_tail(event_class: type[Event]) -> bytes:
    head = to_json({"type": event_class.__name__, "types": base_names(event_class)})
    name = to_json(qualified_name(event_class))
    return escape_line_breaks(b"," + head[1:-1] + _QUALIFIED_NAME_KEY + name + b"}")


def escape_line_breaks(text: bytes) -> bytes:
    """Return JSON without what some readers of streams take for the end of a line."""
    if not text.isascii() and (b"\xe2\x80" in text or b"\xc2\x85" in text):
        for raw, escaped in _UNSAFE:
            text = text.replace(raw, escaped)
    return text


def _encode_leniently(event: Event, error: BaseException) -> bytes:
    """Encode an event that holds lone surrogates, at which the fast way stops."""
    try:
        fields = event.model_dump(mode="python")
        return to_json(replace_surrogates(fields), inf_nan_mode="null")
    except BaseException:  # noqa: BLE001  # as above
        place = find_unserializable(event)
        raise NotSerializable(f"{type(event).__name__}{place} cannot be serialized") from error
