"""A line of the log is an event with its values, wherever it goes."""

import json
import logging
import pickle
import re
from typing import Any

import pytest
import structlog
from structlog.contextvars import bound_contextvars, merge_contextvars
from structlog.dev import ConsoleRenderer

from tests.support.calls import run
from tests.support.live import open_client
from workflow_server.app.server import WorkflowServer
from workflow_server.app.telemetry.bound import bind_contextvars, reset_contextvars
from workflow_server.app.telemetry.logs import (
    SERVICE_LOGGERS,
    EventFormatter,
    Traceback,
    get_logger,
)
from workflow_server.app.telemetry.renderers import make_renderer
from workflow_server.stores.base import StoreUnavailable


def format_record(
    *,
    as_json: bool = False,
    name: str = "workflow_server.app.handlers",
    error: Exception | None = None,
    tracebacks: bool = False,
    **extra: Any,
) -> str:
    """Return what is written of an event that was logged with these values."""
    logger = logging.getLogger(name)
    info = (type(error), error, error.__traceback__) if error is not None else None
    record = logger.makeRecord(
        logger.name, logging.WARNING, __file__, 1, "run %s", ("resumed",), info, extra=extra
    )
    formatter = EventFormatter(make_renderer(as_json=as_json), tracebacks=tracebacks)
    return formatter.format(record)


def read_json(**values: Any) -> Any:
    """Return an event that was written as JSON, read again, without its time."""
    line = format_record(as_json=True, **values)
    assert "\n" not in line
    fields = json.loads(line)
    del fields["time"]
    return fields


def raise_error(message: str) -> Exception:
    """Return an exception that was raised, because of another one."""
    try:
        try:
            raise StoreUnavailable("The disk is full.")
        except StoreUnavailable as cause:
            raise ValueError(message) from cause
    except ValueError as error:
        return error


def test_the_values_of_an_event_follow_its_name() -> None:
    line = format_record(run_id="a b", ticks=3)
    time, _, rest = line.partition(" ")
    assert time.endswith("+00:00")
    assert rest.split() == [
        *(
            "[warning",
            "]",
            "run",
            "resumed",
            "[workflow_server.app.handlers]",
            "run_id='a",
            "b'",
            "ticks=3",
        )
    ]


def test_a_value_cannot_break_the_line() -> None:
    assert r"reason='one\ntwo'" in format_record(reason="one\ntwo")


def test_what_uvicorn_says_twice_is_written_once() -> None:
    assert "colour" not in format_record(color_message="colour")


def test_as_json_an_event_is_one_object_with_its_values() -> None:
    assert read_json(run_id="a b", ticks=3) == {
        "level": "warning",
        "logger": "workflow_server.app.handlers",
        "event": "run resumed",
        "run_id": "a b",
        "ticks": 3,
    }


def test_an_event_carries_what_is_bound_where_it_happens() -> None:
    with bound_contextvars(request_id="r1", handler_id="h1"):
        assert read_json(name="users.flows") == {
            "level": "warning",
            "logger": "users.flows",
            "event": "run resumed",
            "request_id": "r1",
            "handler_id": "h1",
        }


def test_structlog_puts_the_ids_into_its_own_events_too() -> None:
    tokens = bind_contextvars(request_id="r1", run_id="u1")
    bound = merge_contextvars(None, "info", {"event": "counted", "run_id": "its own"})
    reset_contextvars(**tokens)
    assert bound == {"event": "counted", "run_id": "its own", "request_id": "r1"}
    assert merge_contextvars(None, "info", {}) == {}


EVENT = {
    "time": "2026-11-29T11:41:54+00:00",
    "level": "warning",
    "event": "run resumed",
    "logger": "workflow_server.app.runs",
    "ticks": 3,
    "reason": "a b",
    "exception": "Traceback:\n  here",
}


def test_a_line_for_people_looks_as_structlog_would_write_it() -> None:
    structlogs = ConsoleRenderer(colors=False, timestamp_key="time", repr_native_str=True)
    line = make_renderer(as_json=False)(EVENT)
    assert line == structlogs(None, "warning", dict(EVENT))


def test_colours_change_nothing_of_what_a_line_says() -> None:
    coloured = make_renderer(as_json=False, colors=True)(EVENT)
    plain = make_renderer(as_json=False)(EVENT)
    assert coloured != plain
    assert re.sub(r"\x1b\[\d+m", "", coloured) == plain


def test_an_error_of_the_users_code_is_shown_whole() -> None:
    shown = read_json(name="users.flows", error=raise_error("a reason"))["exception"]
    assert shown.endswith("ValueError: a reason")
    assert "StoreUnavailable: The disk is full." in shown


@pytest.mark.parametrize("name", sorted(SERVICE_LOGGERS))
def test_what_an_error_quotes_is_left_out_where_the_service_logs_it(name: str) -> None:
    lines = read_json(name=f"{name}.part", error=raise_error("a payload"))["exception"].split("\n")
    places = [line for line in lines if line.startswith("  File ")]
    assert [line for line in lines if not line.startswith(" ")] == [
        "ValueError",
        "because of",
        "workflow_server.stores.base.StoreUnavailable: The disk is full.",
    ]
    assert len(places) == 2
    assert all(__file__ in place for place in places)


@pytest.mark.parametrize("as_json", [False, True])
def test_the_traceback_of_a_step_is_shown_where_it_is_asked_for(as_json: bool) -> None:
    traceback = Traceback(raise_error("Xyzzy"))
    shown = format_record(as_json=as_json, tracebacks=True, traceback=traceback)
    left_out = format_record(as_json=as_json, traceback=traceback)
    told = ("in raise_error" in shown, "ValueError" in shown, "Xyzzy" in shown)
    assert told == (True, True, False)
    assert "raise_error" not in left_out


def test_the_traceback_of_a_step_can_be_sent_to_another_process() -> None:
    traceback = Traceback(raise_error("Xyzzy"))
    assert pickle.loads(pickle.dumps(traceback)) == str(traceback)


def test_a_program_around_the_server_decides_where_events_go(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="app.tests")
    get_logger("app.tests").info("run resumed", run_id="a", ticks=3)
    [record] = caplog.records
    assert (record.getMessage(), record.levelname, vars(record)["ticks"]) == (
        *("run resumed", "INFO", 3),
    )


async def test_a_server_leaves_the_log_of_a_program_around_it_as_it_is(
    server: WorkflowServer,
) -> None:
    def look() -> tuple[object, ...]:
        root = logging.root
        return [*root.handlers], root.level, logging.getLoggerClass(), structlog.is_configured()

    before = look()
    async with open_client(server) as client:
        await run(client, "greeter", name="Ada")
    assert look() == before


def test_a_record_names_who_logged_it(caplog: pytest.LogCaptureFixture) -> None:
    logger = get_logger("app.tests")
    caplog.set_level(logging.INFO, logger="app.tests")
    logger.info("one")
    logger.warning("two")
    logger.error("three")
    try:
        raise ValueError("why")
    except ValueError:
        logger.exception("four")
    callers = [(record.pathname, record.funcName) for record in caplog.records]
    assert callers == [(__file__, test_a_record_names_who_logged_it.__name__)] * 4
    assert caplog.records[-1].exc_info is not None


def test_an_event_below_the_level_is_not_made(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, logger="app.tests")
    get_logger("app.tests").warning("run resumed", run_id="a")
    assert caplog.records == []
