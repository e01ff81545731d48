"""A line of the log is an event with its values."""

import json
import logging
from typing import Any

from app.logs import EventFormatter, JsonFormatter


def format_event(extra: dict[str, object]) -> str:
    """Return the line of an event that was logged with these values, from its level on."""
    logger = logging.getLogger("app.registry")
    record = logger.makeRecord(
        logger.name, logging.INFO, __file__, 1, "run %s", ("resumed",), None, extra=extra
    )
    return EventFormatter().format(record).partition(" INFO ")[2]


def test_the_values_of_an_event_follow_its_name() -> None:
    line = format_event({"run_id": "a b", "ticks": 3})
    assert line == "app.registry: run resumed run_id='a b' ticks=3"


def test_a_value_cannot_break_the_line() -> None:
    assert format_event({"reason": "one\ntwo"}) == r"app.registry: run resumed reason='one\ntwo'"


def test_what_uvicorn_says_twice_is_written_once() -> None:
    assert format_event({"color_message": "run"}) == "app.registry: run resumed"


def format_as_json(extra: dict[str, object], *, error: Exception | None = None) -> Any:
    """Return the JSON line of an event, read again, without its time."""
    logger = logging.getLogger("app.registry")
    info = (type(error), error, None) if error is not None else None
    record = logger.makeRecord(
        logger.name, logging.WARNING, __file__, 1, "run %s", ("resumed",), info, extra=extra
    )
    line = JsonFormatter().format(record)
    assert "\n" not in line
    fields = json.loads(line)
    del fields["time"]
    return fields


def test_as_json_an_event_is_one_object_with_its_values() -> None:
    assert format_as_json({"run_id": "a b", "ticks": 3}) == {
        "level": "warning",
        "logger": "app.registry",
        "event": "run resumed",
        "run_id": "a b",
        "ticks": 3,
    }


def test_as_json_a_traceback_stays_in_the_line() -> None:
    fields = format_as_json({}, error=ValueError("one\ntwo"))
    assert fields["exception"] == "ValueError: one\ntwo"
