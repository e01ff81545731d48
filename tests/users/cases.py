"""Cases: what is started, how it is answered, and what comes of it, on whichever way."""

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from workflows.events import StopEvent

from tests.users.files.equality import describe
from tests.users.files.kinds import KINDS
from workflow_server.app.engine.codec import NotSerializable, encode_event

Json = dict[str, Any]
PLACES = ("state", "event", "waiter", "result")
FAILED = "failed"  # in place of a result, where JSON cannot carry it


@dataclass(frozen=True)
class Case:
    """One run of a workflow that asks once; `read` takes from its result what is expected."""

    workflow: str
    start: Json
    answer: Json
    expected: Any
    read: Callable[[Any], Any] = lambda result: result


def kind_case(place: str, kind: str) -> Case:
    """Return the case of a kind of value in one of the places."""
    answer = {"type": "Reply", "value": {"kind": kind}}
    return Case(place, {"kind": kind}, answer, _expect(place, kind))


def _expect(place: str, kind: str) -> Any:
    match place:
        case "waiter":
            return kind
        case "result":
            return _as_json(KINDS[kind])
        case _:
            return describe(KINDS[kind])


def _as_json(value: Any) -> Any:
    with warnings.catch_warnings(action="ignore"):  # pydantic's, of fields that hold something else
        try:
            return json.loads(encode_event(StopEvent(result=value)))["value"].get("result")
        except NotSerializable:
            return FAILED


SAYS = {"type": "HumanResponseEvent", "value": {"response": "yes"}}
AGENT = {"user_msg": "May I?", "chat_history": [], "max_iterations": 5}

CASES: dict[str, Case] = {
    f"{kind} in {place}": kind_case(place, kind) for kind in KINDS for place in PLACES
} | {
    "nodes, a document and a memory": Case(
        "rag", {}, SAYS, ["yes", "a part", "d", {"page": 1}, ["what was asked"]]
    ),
    "an image in a message": Case("images", {}, SAYS, ["look", b"\x89PNG\x00".hex()]),
    "an agent whose tool asks": Case(
        "agent",
        AGENT,
        SAYS,
        "They said yes to {'May I?'}",
        lambda result: result["response"]["blocks"][0]["text"],
    ),
    "a memory with a database": Case("remembers", {}, SAYS, ["hello"]),
}
