"""A line of the log is an event with its values."""

import logging

from app.logs import EventFormatter


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
