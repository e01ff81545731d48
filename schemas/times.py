"""Times as whole microseconds since the epoch, and back."""

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def to_micros(time: datetime) -> int:
    """Return a time as whole microseconds since the epoch."""
    return (time - EPOCH) // MICROSECOND


def from_micros(micros: int) -> datetime:
    """Return the time of whole microseconds since the epoch."""
    return EPOCH + micros * MICROSECOND
