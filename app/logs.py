"""How the log looks: an event a line with its values, to be read by people or by programs.

Values never hold what workflows carry: ids, names, numbers and reasons only.
"""

import json
import logging
from contextvars import ContextVar
from datetime import UTC, datetime
from logging import LogRecord

request_id: ContextVar[str | None] = ContextVar("workflow_server_request_id", default=None)

# What every record carries, and uvicorn's second wording of its messages.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}


class EventFormatter(logging.Formatter):
    """Writes the values that an event was logged with: `run resumed run_id='x' ticks=3`."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: LogRecord) -> str:  # noqa: N802 - logging's name
        """Return the line without a traceback."""
        values = (f" {key}={value!r}" for key, value in _values(record).items())
        return super().formatMessage(record) + "".join(values)


class JsonFormatter(logging.Formatter):
    """Writes an event as one JSON object, its values beside what every event has."""

    def format(self, record: LogRecord) -> str:
        """Return the object, with the traceback under `exception` where there is one."""
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **_values(record),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=str)


def configure_logs(level: str, *, as_json: bool = False) -> None:
    """Log to the standard error, from a level on, for people or as JSON for programs."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if as_json else EventFormatter())
    handler.addFilter(_add_request_id)
    logging.basicConfig(level=level.upper(), handlers=[handler])


def _values(record: LogRecord) -> dict[str, object]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


def _add_request_id(record: LogRecord) -> bool:
    current = request_id.get()
    if current is not None:
        record.request_id = current
    return True
