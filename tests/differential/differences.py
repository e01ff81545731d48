"""What differs between the answers of the two servers, read from `differences.toml`."""

import tomllib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from tests.differential.asking import Outcome

TABLE = tomllib.loads(Path(__file__).with_name("differences.toml").read_text(encoding="utf-8"))
WORDS = ("what", "theirs", "ours", "because")
ENDED_MEANWHILE = ("status", "completed_at", "result")


@dataclass(frozen=True)
class Difference:
    """A difference that is meant: the parts of the answer that differ, and the requests."""

    differs: frozenset[str]
    requests: tuple[str, ...]

    def is_in(self, request: str) -> bool:
        """Return whether the difference shows in the answers to a request."""
        return any(fnmatchcase(request, pattern) for pattern in self.requests)


DIFFERENCES = tuple(
    Difference(frozenset(entry["differs"]), tuple(entry["requests"]))
    for entry in TABLE["difference"]
)
# The rows of the table in the documentation.
ROWS = [
    "| " + " | ".join(entry[word] for word in WORDS) + " |"
    for entry in TABLE["habit"] + TABLE["difference"]
]


def expect(request: str) -> frozenset[str]:
    """Return which parts of the answers to a request are to differ."""
    return frozenset().union(*(each.differs for each in DIFFERENCES if each.is_in(request)))


def compare(theirs: Outcome, ours: Outcome) -> frozenset[str]:
    """Return which parts of two answers differ, habits aside."""
    for habit in TABLE["habit"]:
        ours = HABITS[habit["name"]](theirs, ours)
    one, other = asdict(theirs), asdict(ours)
    return frozenset(part for part in one if one[part] != other[part])


def _take_error_form(theirs: Outcome, ours: Outcome) -> Outcome:
    """Give our error the form, and the words, of theirs, where both say why."""
    both_say_why = all(_says_why(outcome) for outcome in (theirs, ours))
    if not both_say_why or ours.media != "application/problem+json":
        return ours
    return replace(ours, media=theirs.media, body=theirs.body)


def _leave_out_fields(theirs: Outcome, ours: Outcome) -> Outcome:
    return replace(ours, body=_keep_known(theirs.body, ours.body))


def _leave_out_headers(theirs: Outcome, ours: Outcome) -> Outcome:
    kept = {name: value for name, value in ours.headers.items() if name in theirs.headers}
    return replace(ours, headers=kept)


def _leave_out_ids(theirs: Outcome, ours: Outcome) -> Outcome:
    if ours.media != "text/event-stream" or "id" in (theirs.body or ()):
        return ours
    return replace(ours, body=[each for each in ours.body if each != "id"])


def _forget_the_end(theirs: Outcome, ours: Outcome) -> Outcome:
    """Give our run, which has completed, the state of theirs, which goes on at this moment."""
    states = [outcome.body.get("status") for outcome in (theirs, ours) if _is_handler(outcome)]
    if states != ["running", "completed"]:
        return ours
    return replace(ours, body={**ours.body, **{key: theirs.body[key] for key in ENDED_MEANWHILE}})


HABITS: dict[str, Callable[[Outcome, Outcome], Outcome]] = {
    "error form": _take_error_form,
    "more fields": _leave_out_fields,
    "more headers": _leave_out_headers,
    "ids": _leave_out_ids,
    "already ended": _forget_the_end,
}


def _is_handler(outcome: Outcome) -> bool:
    is_object = isinstance(outcome.body, dict)
    return outcome.status == 200 and is_object and outcome.body.keys() >= {"handler_id", "run_id"}


def _says_why(outcome: Outcome) -> bool:
    body = outcome.body
    return outcome.status >= 400 and isinstance(body, dict) and bool(body.get("detail"))


def _keep_known(theirs: Any, ours: Any) -> Any:
    """Return our handler, or list of handlers, with the fields that theirs has."""
    if not (isinstance(theirs, dict) and isinstance(ours, dict)):
        return ours
    if not theirs.keys() & {"handlers", "handler_id"}:
        return ours
    known = {key: value for key, value in ours.items() if key in theirs}
    if "handlers" in known and len(known["handlers"]) == len(theirs["handlers"]):
        pairs = zip(theirs["handlers"], known["handlers"], strict=True)
        known["handlers"] = [_keep_known(*pair) for pair in pairs]
    return known
