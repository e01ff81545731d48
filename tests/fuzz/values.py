"""JSON values that are hostile, and sound ones that were damaged, made from a source."""

import json
from collections.abc import Sequence
from typing import Any

from tests.fuzz.source import Source
from tests.properties.values import HOSTILE

WORDS = (
    "", "type", "value", "data", "_data", "types", "qualified_name", "result", "name", "times",
    "event", "step", "start_event", "kwargs", "context", "handler_id", "reply_to", "text",
    "__class__", "__dict__", "__proto__", "__is_pydantic", "__is_component", "model_config", "self",
    "Greet", "StartEvent", "StopEvent", "Answer", "Question", "Extra", "Event", "Asked",
    "tests.support.workflows.Greet", "workflows.events.StartEvent", "os.system", "builtins.eval",
    "is_running", "state", "state_type", "state_data", "DictState", "workers", "queue",
    "2026-01-01", "2026-01-01T00:00:00+00:00", "0001-01-01T00:00:00+23:59", "1e400", "9" * 400,
    "{}", "[]", "null", "begin", "take", "now", "-1", "x" * 5000, *HOSTILE,
)  # fmt: skip
NUMBERS = (
    0, -1, 1, 7, 2**31, 2**53 + 1, 2**63, -(2**63) - 1, 2**64, 10**30, 10**400, 0.5, -0.0,
    1e308, 5e-324,
)  # fmt: skip
SCALARS: tuple[Any, ...] = (None, True, False, *NUMBERS, *WORDS)
MOST_DEPTH = 4
MOST_DAMAGE = 4
# Around the depths at which a parser, pydantic and Python's own recursion give up.
DEPTHS = (1, 3, 50, 190, 198, 199, 200, 201, 210)


def make_value(source: Source, depth: int = 0) -> Any:
    """Return a value of the kinds that JSON has."""
    kind = source.below(8) if depth < MOST_DEPTH else 0
    match kind:
        case 5:
            return [make_value(source, depth + 1) for _ in range(source.below(4))]
        case 6:
            return {
                make_text(source): make_value(source, depth + 1) for _ in range(source.below(4))
            }
        case 7:
            return make_text(source)
        case _:
            return source.pick(SCALARS)


def make_text(source: Source) -> str:
    """Return words, characters of any kind, lone surrogates among them, or both."""
    characters = "".join(map(chr, source.take(source.below(6)))) if source.below(2) else ""
    code = source.below(65_536) if characters else None
    word: str = source.pick(WORDS)
    return word + characters + (chr(code) if code is not None else "")


def damage(source: Source, value: Any) -> Any:
    """Return a value that was damaged in up to a few places; the one given stays whole."""
    for _ in range(source.below(MOST_DAMAGE + 1)):
        value = _damage_once(source, value)
    return value


def _damage_once(source: Source, value: Any) -> Any:
    """Walk down at random, and change what is found there."""
    if isinstance(value, dict | list) and value and source.below(4):
        copy = value.copy()
        key: Any = source.pick(list(copy)) if isinstance(copy, dict) else source.below(len(copy))
        copy[key] = _damage_once(source, copy[key])
        return copy
    match source.below(7):
        case 0:
            return make_value(source)
        case 1:
            return nest(source, value)
        case 2:
            return json.dumps(value)
        case 3 if isinstance(value, dict) and value:
            gone = source.pick(list(value))
            return {key: item for key, item in value.items() if key != gone}
        case 4 if isinstance(value, dict):
            return {**value, make_text(source): make_value(source)}
        case 5 if isinstance(value, dict) and value:
            moved = source.pick(list(value))
            return {make_text(source) if key == moved else key: value[key] for key in value}
        case 6 if isinstance(value, list):
            return [*value, make_value(source)] * source.pick((1, 2, 50))
        case _:
            return source.pick(SCALARS)


def nest(source: Source, value: Any) -> Any:
    """Return a value inside many lists or objects."""
    word = source.pick(("", "value", "_data"))
    for _ in range(source.pick(DEPTHS)):
        value = {word: value} if word else [value]
    return value


def write_body(source: Source, value: Any) -> bytes:
    """Return a value as the body of a request, seldom with bytes that are not JSON's."""
    body = json.dumps(value, ensure_ascii=bool(source.below(2))).encode("utf-8", "surrogatepass")
    if source.below(8) != 7:
        return body
    place = source.below(min(len(body) + 1, 65_536))
    return body[:place] + source.take(source.below(5)) + body[place + source.below(3) :]


def write_text(source: Source, sound: Sequence[str]) -> str:
    """Return text for a cursor or the like: sound, damaged, or nothing of the kind."""
    text = source.pick(sound) if source.below(3) else make_text(source)
    for _ in range(source.below(4)):
        place = source.below(len(text) + 1)
        text = text[:place] + make_text(source)[:3] + text[place + source.below(3) :]
    return text
