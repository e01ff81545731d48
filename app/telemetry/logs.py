"""The log: an event a line with its values, for people or for programs.

Values never hold what workflows carry: ids, names, numbers and reasons only. Our records go through
the standard library's loggers, so that whoever embeds the server decides where they end; only the
command line calls `configure_logs`.
"""

import logging
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from logging import LogRecord
from traceback import format_exception, format_tb

from workflow_server.app.telemetry.bound import merge_contextvars
from workflow_server.app.telemetry.renderers import Renderer, make_renderer
from workflow_server.stores.base import StoreError

# The first part of the names of loggers that are not the user's own.
SERVICE_LOGGERS = frozenset(
    {
        "asyncio",
        "fastapi",
        "sse_starlette",
        "starlette",
        "uvicorn",
        "workflow_server",
        "workflows",
    }
)
# Loggers of libraries that quote at the level debug what workflows carry.
QUOTING_LOGGERS = ("sse_starlette",)
# Exceptions whose messages quote nothing of what workflows carry.
PLAIN_ERRORS = (OSError, StoreError)
# What every record has, and uvicorn's second, coloured wording.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}


class EventLogger:
    """Logs events with values, as structlog does, but for next to nothing below the level."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def info(self, event: str, **values: object) -> None:
        """Log what happens as it should."""
        if self._logger.isEnabledFor(logging.INFO):
            self._logger.info(event, extra=values, stacklevel=2)

    def warning(self, event: str, **values: object) -> None:
        """Log what somebody should look at."""
        if self._logger.isEnabledFor(logging.WARNING):
            self._logger.warning(event, extra=values, stacklevel=2)

    def error(self, event: str, *, exc_info: BaseException | None = None, **values: object) -> None:
        """Log what is broken, with the exception that says why."""
        self._logger.error(event, exc_info=exc_info, extra=values, stacklevel=2)

    def exception(self, event: str, **values: object) -> None:
        """Log what is broken, with the exception that is being handled."""
        self._logger.error(event, exc_info=sys.exception(), extra=values, stacklevel=2)


def get_logger(name: str) -> EventLogger:
    """Return the logger of a module, on top of the standard library's of the same name."""
    return EventLogger(logging.getLogger(name))


def place_of(error: BaseException) -> str | None:
    """Return file and line in which an exception was raised, or None where it was not."""
    at, trace = None, error.__traceback__
    while trace is not None:
        at, trace = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}", trace.tb_next
    return at


class Traceback:
    """The traceback of a step's failure as a value of an event: a text without any message.

    The text is made where it is written, and there alone.
    """

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __str__(self) -> str:
        return "".join(_format_plainly(self._error)).rstrip("\n")

    __repr__ = __str__

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        # A handler may send records to another process, and a traceback cannot go there.
        return str, (str(self),)


def configure_logs(level: str, *, as_json: bool = False, tracebacks: bool | None = None) -> None:
    """Log to the standard error, from a level on, for people or as JSON for programs.

    `tracebacks` is whether the failures of steps come with theirs; None: where a person reads the
    log, on a terminal.
    """
    handler = logging.StreamHandler()
    is_terminal = sys.stderr.isatty()
    colors = is_terminal and "NO_COLOR" not in os.environ
    if tracebacks is None:
        tracebacks = is_terminal and not as_json
    renderer = make_renderer(as_json=as_json, colors=colors)
    handler.setFormatter(EventFormatter(renderer, tracebacks=tracebacks))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    for name in QUOTING_LOGGERS:
        logging.getLogger(name).setLevel(max(logging.INFO, logging.root.level))


class EventFormatter(logging.Formatter):
    """Turns every record, ours or not, into an event with its values, and writes that."""

    def __init__(self, renderer: Renderer, *, tracebacks: bool = False) -> None:
        super().__init__()
        self._renderer = renderer
        self._has_tracebacks = tracebacks

    def format(self, record: LogRecord) -> str:
        """Return the event as the renderer writes it."""
        event: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        merge_contextvars(event)
        event.update(item for item in vars(record).items() if item[0] not in _STANDARD)
        traceback = event.get("traceback")
        if isinstance(traceback, Traceback):
            del event["traceback"]
            if self._has_tracebacks:
                event["exception"] = str(traceback)
        if record.exc_info and record.exc_info[1]:
            event["exception"] = _show(record.exc_info[1], record.name)
        return self._renderer(event)


def _show(error: BaseException, logger: str) -> str:
    """Return the traceback of an exception.

    What it says of itself may quote what a workflow carries. That is shown where the user's own
    code has logged it, and left out of what the service and its libraries log.
    """
    of_service = logger.partition(".")[0] in SERVICE_LOGGERS
    lines = _format_plainly(error) if of_service else format_exception(error)
    return "".join(lines).rstrip("\n")


def _format_plainly(error: BaseException) -> Iterator[str]:
    """Yield the traceback of an exception and of what caused it, the last one first."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        if seen:
            yield "because of\n"
        seen.add(id(current))
        yield from format_tb(current.__traceback__)
        name = f"{type(current).__module__}.{type(current).__qualname__}"
        message = f": {current}" if isinstance(current, PLAIN_ERRORS) else ""
        yield f"{name.removeprefix('builtins.')}{message}\n"
        current = current.__cause__ or (
            None if current.__suppress_context__ else current.__context__
        )
