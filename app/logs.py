"""How the log looks: one line an event, its values behind it."""

import logging
from logging import LogRecord

# What every record carries, and uvicorn's second wording of its messages.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}


class EventFormatter(logging.Formatter):
    """Writes the values that an event was logged with: `run resumed run_id='x' ticks=3`."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: LogRecord) -> str:  # noqa: N802 - logging's name
        """Return the line without a traceback."""
        values = (
            f" {key}={value!r}" for key, value in vars(record).items() if key not in _STANDARD
        )
        return super().formatMessage(record) + "".join(values)


def configure_logs(level: str) -> None:
    """Log to the standard error, from a level on."""
    handler = logging.StreamHandler()
    handler.setFormatter(EventFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler])
