"""An event of the log as text: an object of JSON for programs, or a line for people."""

import json
from collections.abc import Callable, Mapping

Renderer = Callable[[Mapping[str, object]], str]

EVENT_WIDTH = 30  # to which an event is padded, so that most values begin in one column
LEVEL_WIDTH = 9
HEAD = ("time", "level", "event", "logger", "exception")

RESET, BRIGHT, DIM = "\x1b[0m", "\x1b[1m", "\x1b[2m"
RED, GREEN, YELLOW, BLUE, MAGENTA, CYAN = (f"\x1b[{number}m" for number in range(31, 37))
LEVELS = {"critical": RED, "error": RED, "warning": YELLOW, "info": GREEN, "debug": GREEN}


def make_renderer(*, as_json: bool, colors: bool = False) -> Renderer:
    """Return what writes an event, as one JSON object or as a line for people."""
    if as_json:
        return _render_json
    return lambda event: _render_line(event, _paint if colors else _leave_plain)


def _render_json(event: Mapping[str, object]) -> str:
    return json.dumps(event, default=repr)


def _render_line(event: Mapping[str, object], paint: Callable[[str, str], str]) -> str:
    level = str(event["level"])
    # Values as Python writes them: one that holds a line break would forge a line.
    values = [
        f"{paint(name, CYAN)}={paint(repr(event[name]), MAGENTA)}"
        for name in sorted(event.keys() - HEAD)
    ]
    line = " ".join(
        (
            paint(str(event["time"]), DIM),
            f"[{paint(level.ljust(LEVEL_WIDTH), LEVELS.get(level, '') + BRIGHT)}]",
            paint(str(event["event"]).ljust(EVENT_WIDTH), BRIGHT),
            f"[{paint(str(event['logger']), BRIGHT + BLUE)}]",
            *values,
        )
    )
    exception = event.get("exception")
    return line if exception is None else f"{line}\n{exception}"


def _paint(text: str, style: str) -> str:
    return f"{style}{text}{RESET}"


def _leave_plain(text: str, _style: str) -> str:
    return text
