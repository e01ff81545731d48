"""What is logged, and how it looks: an event a line with its values, for people or for programs.

Values never hold what workflows carry: ids, names, numbers and reasons only. Our records go through
the standard library's loggers, so that whoever embeds the server decides where they end; only the
command line calls `configure_logs`.
"""

import logging
import os
import sys
from collections.abc import Iterator
from traceback import format_exception, format_tb

from structlog import BoundLoggerBase
from structlog.contextvars import merge_contextvars
from structlog.dev import ConsoleRenderer
from structlog.processors import JSONRenderer, TimeStamper
from structlog.stdlib import (
    ExtraAdder,
    ProcessorFormatter,
    add_log_level,
    add_logger_name,
    render_to_log_kwargs,
)
from structlog.typing import EventDict, Processor, WrappedLogger

from stores.base import StoreError

# From the standard library's logger to who has called one of ours, which is who logs.
FRAMES = 4

# The first part of the names of loggers that are not the user's own.
SERVICE_LOGGERS = frozenset(
    {
        "app",
        "asyncio",
        "fastapi",
        "routers",
        "sse_starlette",
        "starlette",
        "stores",
        "uvicorn",
        "workflows",
    }
)
# Loggers of libraries that quote at the level debug what workflows carry.
QUOTING_LOGGERS = ("sse_starlette",)
# Exceptions whose messages quote nothing of what workflows carry.
PLAIN_ERRORS = (OSError, StoreError)


class EventLogger(BoundLoggerBase):
    """Logs events with values; costs next to nothing where the level is not logged.

    structlog's own classes ask for the level only when the event is half made.
    """

    def info(self, event: str, **values: object) -> None:
        """Log what happens as it should."""
        self._log(logging.INFO, "info", event, values)

    def warning(self, event: str, **values: object) -> None:
        """Log what somebody should look at."""
        self._log(logging.WARNING, "warning", event, values)

    def error(self, event: str, **values: object) -> None:
        """Log what is broken; `exc_info` is the exception to show, or True for the current one."""
        self._log(logging.ERROR, "error", event, values)

    def exception(self, event: str, **values: object) -> None:
        """Log an error with the exception that is being handled."""
        self._log(logging.ERROR, "error", event, {**values, "exc_info": True})

    def _log(self, level: int, method: str, event: str, values: dict[str, object]) -> None:
        if self._logger.isEnabledFor(level):
            self._proxy_to_logger(method, event, stacklevel=FRAMES, **values)


def get_logger(name: str) -> EventLogger:
    """Return the logger of a module, on top of the standard library's of the same name."""
    return EventLogger(logging.getLogger(name), [render_to_log_kwargs], {})


def configure_logs(level: str, *, as_json: bool = False) -> None:
    """Log to the standard error, from a level on, for people or as JSON for programs."""
    handler = logging.StreamHandler()
    colors = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    handler.setFormatter(make_formatter(make_renderer(as_json=as_json, colors=colors)))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    for name in QUOTING_LOGGERS:
        logging.getLogger(name).setLevel(max(logging.INFO, logging.root.level))


def make_formatter(renderer: Processor) -> ProcessorFormatter:
    """Return what turns every record, ours or not, into an event with its values."""
    return ProcessorFormatter(
        foreign_pre_chain=[
            merge_contextvars,
            ExtraAdder(),
            add_logger_name,
            add_log_level,
            TimeStamper(fmt="iso", key="time"),
            _add_traceback,
        ],
        processors=[ProcessorFormatter.remove_processors_meta, renderer],
    )


def make_renderer(*, as_json: bool, colors: bool = False) -> Processor:
    """Return what writes an event, as one JSON object or as a line for people."""
    if as_json:
        return JSONRenderer()
    return ConsoleRenderer(
        colors=colors,
        timestamp_key="time",
        # A value that holds a line break would forge a line.
        repr_native_str=True,
    )


def _add_traceback(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Show the exception of a record; drop what uvicorn says a second time, in colour.

    What an exception says of itself may quote what a workflow carries. That is shown where the
    user's own code has logged it, and left out of what the service and its libraries log.
    """
    event.pop("color_message", None)
    info = event.pop("exc_info", None)
    error = info[1] if isinstance(info, tuple) else None
    if error is not None:
        of_service = event["logger"].partition(".")[0] in SERVICE_LOGGERS
        lines = _format_plainly(error) if of_service else format_exception(error)
        event["exception"] = "".join(lines).rstrip("\n")
    return event


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
