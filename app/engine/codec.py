"""Engine objects to bytes: an event or a tick is serialized here, once.

The bytes of an envelope go out as they are, inside an SSE `data:` line or as a line of NDJSON, so
they hold no byte that could break such a framing. JSON itself escapes the control characters
below U+0020; U+0085, U+2028 and U+2029, at which clients split lines too, are escaped here, and
lone surrogates, which UTF-8 cannot carry, become U+FFFD. NaN and infinities become null.
"""

from functools import lru_cache
from typing import Any

from pydantic_core import PydanticSerializationError, from_json, to_json, to_jsonable_python
from workflows.events import Event
from workflows.runtime.types.results import AddWaiter, StepFunctionResult
from workflows.runtime.types.ticks import TickStepResult, WorkflowTick

from schemas.times import from_micros

MAX_DIGITS = 4300  # of an integer, as `sys.get_int_max_str_digits()` has it by default
TOO_LONG = b"0" * (MAX_DIGITS + 1)
MAX_DEPTH = 200  # of arrays and objects in one another, as JSON is read here
DIGITS = bytes.maketrans(b"123456789", b"0" * 9)
_QUALIFIED_NAME_KEY = b',"qualified_name":'
_UNSAFE = ((b"\xc2\x85", b"\\u0085"), (b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029"))
# What pydantic raises, itself or through a serializer of the user's, for a value it cannot write.
_SERIALIZATION_ERRORS = (PydanticSerializationError, TypeError, ValueError, RecursionError)


class NotSerializable(Exception):
    """A value that JSON cannot carry; the sentence names its place and its class."""


def encode_event(event: Event, *, max_size: int | None = None) -> bytes:
    """Return the event's envelope as JSON; `NotSerializable` names the value that cannot be.

    That is also an envelope of more than `max_size` bytes.
    """
    envelope = b"".join((b'{"value":', encode_value(event), _envelope_tail(type(event))))
    if max_size is not None and len(envelope) > max_size:
        raise NotSerializable(
            f"{type(event).__name__} has {len(envelope)} bytes of JSON, and {max_size} are allowed"
        )
    return envelope


def encode_value(event: Event) -> bytes:
    """Return the event's fields as a JSON object."""
    try:
        value = type(event).__pydantic_serializer__.to_json(event)
    except _SERIALIZATION_ERRORS as error:
        value = _encode_leniently(event, error)
    if _may_be_too_long(value):
        _check_readable(value, f"{type(event).__name__} holds a number that is too long")
    if _may_be_deep(value):
        _check_readable(value, f"{type(event).__name__} is nested too deeply")
    if not value.startswith(b"{"):
        raise NotSerializable(f"{type(event).__name__} serializes to no JSON object")
    return _escape_line_breaks(value)


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


def _check_readable(value: bytes, sentence: str) -> None:
    """Refuse what JSON parsers, our own among them, do not take, though it can be written."""
    try:
        from_json(b'{"value":%b}' % value)
    except ValueError as error:
        raise NotSerializable(sentence) from error


def encode_tick(tick: WorkflowTick) -> bytes:
    """Return a tick as JSON, from which `WorkflowTickAdapter` makes it again."""
    try:
        encoded = type(tick).__pydantic_serializer__.to_json(tick)
        if isinstance(tick, TickStepResult) and any(map(_required, tick.result)):
            encoded = _with_requirements(tick, encoded)
    except _SERIALIZATION_ERRORS as error:
        raise NotSerializable(str(error)) from error
    if _may_be_deep(encoded):
        _check_readable(encoded, "it is nested too deeply")
    return encoded


def _required(result: StepFunctionResult) -> dict[str, Any]:
    """Return what a `wait_for_event` requires of its event."""
    return result.requirements if isinstance(result, AddWaiter) else {}


def _with_requirements(tick: TickStepResult, encoded: bytes) -> bytes:
    """Put in what the engine leaves out: replayed without it, a waiter would take any event."""
    fields = from_json(encoded)
    for result, written in zip(tick.result, fields["result"], strict=True):
        if required := _required(result):
            written["requirements"] = to_jsonable_python(required)
    return to_json(fields)


def without_qualified_name(envelope: bytes) -> bytes:
    """Return an envelope whose `qualified_name` is null.

    The name is the envelope's last member, and no string inside it can hold the searched bytes:
    there a quotation mark follows a backslash, not a comma.
    """
    return envelope[: envelope.rindex(_QUALIFIED_NAME_KEY)] + _QUALIFIED_NAME_KEY + b"null}"


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
    return _escape_line_breaks(b"," + head[1:-1] + _QUALIFIED_NAME_KEY + name + b"}")


def _escape_line_breaks(text: bytes) -> bytes:
    if not text.isascii() and (b"\xe2\x80" in text or b"\xc2\x85" in text):
        for raw, escaped in _UNSAFE:
            text = text.replace(raw, escaped)
    return text


def _encode_leniently(event: Event, error: Exception) -> bytes:
    """Encode an event that holds lone surrogates, at which the fast way stops."""
    try:
        fields = event.model_dump(mode="python")
        return to_json(_replace_surrogates(fields), inf_nan_mode="null")
    except _SERIALIZATION_ERRORS:
        place = _find_unserializable(event)
        raise NotSerializable(f"{type(event).__name__}{place} cannot be serialized") from error


def _replace_surrogates(value: Any) -> Any:
    match value:
        case str():
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case dict():
            return {_replace_surrogates(k): _replace_surrogates(v) for k, v in value.items()}
        case list() | tuple():
            return [_replace_surrogates(item) for item in value]
        case _:
            return value


def _find_unserializable(event: Event) -> str:
    """Return the place and class of the first value that JSON cannot carry, for a sentence."""
    # A StopEvent keeps its result, and every event its undeclared fields, outside the fields.
    fields = {**dict(event.__dict__), **event._data}
    result = getattr(event, "_result", None)
    if result is not None:
        fields["result"] = result
    for name, value in fields.items():
        found = _describe_unserializable(value, f".{name}", depth=0)
        if found:
            return found
    return ""


def _describe_unserializable(value: Any, path: str, *, depth: int) -> str:
    try:
        to_json(_replace_surrogates(value))
    except _SERIALIZATION_ERRORS:
        for step, item in _children(value) if depth < 20 else ():
            found = _describe_unserializable(item, f"{path}{step}", depth=depth + 1)
            if found:
                return found
        return f"{path} (of class {type(value).__name__})"
    return ""


def _children(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [(f"[{key!r:.40}]", item) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return [(f"[{index}]", item) for index, item in enumerate(value)]
    return []
