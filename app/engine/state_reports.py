"""States of a run as clients see them, and what a step has changed in one.

A state is built again of the classes of the workflow, so that it goes out as events do, with its
secrets masked. What has changed is found between two such forms: in what the store has, a change
may lead into a secret.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic import BaseModel
from pydantic_core import from_json, to_json
from workflows.context.state_store import DictState
from workflows.events import Event

from workflow_server.app.engine.codec import NotSerializable, encode_value
from workflow_server.app.engine.served import ServedWorkflow
from workflow_server.app.engine.state import TrackedState
from workflow_server.app.engine.state_changes import Change, Comparison, Tree, apply_changes
from workflow_server.app.engine.state_documents import merge
from workflow_server.app.engine.step_reports import NOT_READABLE, NOT_SERVED
from workflow_server.app.json_size import building_values
from workflow_server.schemas.journals import CHANGED, WHOLE
from workflow_server.schemas.records import StoredState

NOT_KEPT = (
    "The state is not kept with the history: it is too large, or could not be stored, or what it"
    " builds upon went with the first steps."
)
OPERATION_SIZE = 30  # bytes, about, without its path and its value
MOST_BYTES = 4 << 20  # of a state with its changes, for which there is memory
FEW_BYTES = 1 << 16  # that a patch may have beside those of the state


@dataclass(frozen=True, slots=True)
class KeptState:
    """The state at a place in a history; `stored` is None where no step has written any by then.

    Where it is not kept, `is_known` is false.
    """

    stored: StoredState | None = None
    is_known: bool = True

    @property
    def size(self) -> int:
        """The bytes of what is stored."""
        stored = self.stored
        return 0 if stored is None else len(stored.state) + sum(map(len, stored.changes))


def follow(state: KeptState, beside: Sequence[bytes]) -> KeptState:
    """Return the state after the lines beside the next tick of a history."""
    for line in beside:
        document = line[1:]
        if line.startswith(WHOLE):
            state = KeptState(StoredState(document)) if document else KeptState(is_known=False)
        elif line.startswith(CHANGED):
            stored = state.stored
            if stored is None or state.size + len(document) > MOST_BYTES:
                state = KeptState(is_known=False)
            else:
                state = KeptState(StoredState(stored.state, (*stored.changes, document)))
    return state


class ShownState(Event):
    """An event in whose form a state goes out."""

    state: Any


class StateReport(NamedTuple):
    """A state as JSON, and a JSON Patch (RFC 6902) to it from the one before; or why not."""

    state: bytes | None
    changes: bytes | None
    left_out: str | None


def describe_state(
    before: KeptState, after: KeptState, workflow: ServedWorkflow | None
) -> StateReport:
    """Return the state that a step has left, and what that step has changed in it.

    Where the state before the step cannot be shown, there are no changes.
    """
    if not after.is_known:
        return StateReport(None, None, NOT_KEPT)
    if workflow is None:
        return StateReport(None, None, NOT_SERVED)
    try:
        now = _show(after, workflow)
    except NotSerializable as error:
        return StateReport(None, None, f"The state cannot be shown: {error}.")
    except BaseException:  # noqa: BLE001  # the classes are the user's, and may raise anything
        return StateReport(None, None, NOT_READABLE)
    if before == after:
        return StateReport(now, b"[]", None)
    if not before.is_known:
        return StateReport(now, None, None)
    try:
        then = _show(before, workflow)
    except BaseException:  # noqa: BLE001  # as above
        return StateReport(now, None, None)
    return StateReport(now, to_json(find_patch(then, now)), None)


def find_patch(then: bytes, now: bytes) -> list[dict[str, Any]]:
    """Return the operations of a JSON Patch that makes one JSON document of another.

    It puts in the whole where its paths would take much more than that: names may be long.
    """
    with building_values(then), building_values(now):
        document, tree, target = from_json(then), from_json(then), from_json(now)
    comparison = Comparison(None)
    comparison.compare(tree, target, [])
    patch: list[dict[str, Any]] = []
    size = 0
    for change in comparison.changes:
        kind, path, *rest = change
        operations = rest[1] + len(rest[2]) if kind == "splice" else 1
        size += operations * (OPERATION_SIZE + len(_point_to(path)))
        if size > len(now) + FEW_BYTES:
            return [{"op": "replace", "path": "", "value": target}]
        patch += _to_operations(change, document)
        if change[1]:
            apply_changes(document, [change])
    return patch


def _show(kept: KeptState, workflow: ServedWorkflow) -> bytes:
    if kept.stored is None:
        return b"{}"
    encoded = merge(kept.stored)
    with building_values(encoded):
        tracked = TrackedState.decode(encoded, workflow.codec, workflow.older_serializer)
    state: BaseModel = tracked.kept
    shown = ShownState(state=state._data if type(state) is DictState else state)
    return encode_value(shown)[len(b'{"state":') : -1]


def _to_operations(change: Change, document: Tree) -> Sequence[dict[str, Any]]:
    """Return the operations of a change, which is not yet in the document."""
    kind, path, *rest = change
    place = _point_to(path)
    match kind:
        case "set":
            is_new = bool(path) and not _has(document, path)
            return [{"op": "add" if is_new else "replace", "path": place, "value": rest[0]}]
        case "del":
            return [{"op": "remove", "path": place}]
        case _:
            return _splice(place, *rest)


def _splice(place: str, start: int, count: int, trees: Sequence[Tree]) -> list[dict[str, Any]]:
    at = f"{place}/{start}"
    removed = [{"op": "remove", "path": at} for _ in range(count)]
    added = [{"op": "add", "path": at, "value": tree} for tree in reversed(trees)]
    return [*removed, *added]


def _has(document: Tree, path: Sequence[str | int]) -> bool:
    node = document
    for step in path[:-1]:
        node = node[step]
    return not isinstance(node, dict) or path[-1] in node


def _point_to(path: Sequence[str | int]) -> str:
    """Return a path as a JSON Pointer (RFC 6901)."""
    return "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in path)
