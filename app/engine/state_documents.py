"""The stored form of a state: a document of it whole, and documents of what changed since.

A document of the whole is the state as the codec writes it, and says beside it which writes are
settled. One of changes has these changes, and the settled writes after them.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic_core import from_json, to_json
from workflows.context.state_store import DictState

from workflow_server.app.engine.codec import check_readable
from workflow_server.app.engine.state_changes import Change, apply_changes, is_named
from workflow_server.app.engine.values.codec import FORMAT, Codec
from workflow_server.schemas.records import StoredState

SETTLED = "standing"  # the stored key of the settled writes, beside the state
CHANGES = "changes"
DATA = "_data"  # the private attribute in which a `DictState` has its fields
FIELDS_SET = "fields_set"  # the kind of a change of which fields of a model were set
MODEL = b'{"format":%d,"state":{"!":"model",' % FORMAT
CAREFUL = b'{"!":"str",'  # a text with lone surrogates, which no other document has
LONGEST_PATH = 20  # of a change: what lies deeper is written with the whole

Settled = Mapping[str, Mapping[str, int]]


def encode_whole(state: BaseModel, settled: Settled, codec: Codec) -> bytes:
    """Return the document of a state; `NotSerializable` where it would not come back."""
    more = {SETTLED: settled} if settled else {}
    return codec.encode(
        lambda writer: {"format": FORMAT, "state": writer.write_root(state, 1), **more}
    )


def takes_changes(document: bytes) -> bool:
    """Return whether the paths of changes lead to the same places in a document of the whole.

    The state is not written by functions of its author's, and no key needs the codec's care.
    """
    return document.startswith(MODEL) and CAREFUL not in document


def encode_changes(changes: Sequence[Change], settled: Settled) -> bytes | None:
    """Return the document of changes; None where something in it needs the codec's care.

    That is a lone surrogate, a number that is too long, or much depth.
    """
    if any(len(path) > LONGEST_PATH for _, path, *_ in changes):
        return None
    try:
        document = to_json({CHANGES: changes, SETTLED: settled}, inf_nan_mode="constants")
        check_readable(document, depth=LONGEST_PATH)
    except ValueError:
        return None
    return document


def merge(stored: StoredState) -> bytes:
    """Return the document of the whole state, with all changes in it."""
    if not stored.changes:
        return stored.state
    payload = from_json(stored.state)
    documents = [from_json(document) for document in stored.changes]
    state = payload["state"]
    private = state.get("p", {})
    fields = private[DATA] if DATA in private else state["f"]
    changes = [change for document in documents for change in document[CHANGES]]
    apply_changes(fields, [change for change in changes if change[0] != FIELDS_SET])
    for _, _, names in (change for change in changes if change[0] == FIELDS_SET):
        state["s"] = names
    payload.pop(SETTLED, None)
    if settled := documents[-1][SETTLED]:
        payload[SETTLED] = settled
    return to_json(payload, inf_nan_mode="constants")


class Fields:
    """The fields of a state, as they are in its document, one by one.

    `are_set` are the names of those that were set, of a typed state. `None` in place of an object
    of this class says that the fields of a state cannot be told apart in its document.
    """

    def __init__(self, values: dict[str, Any], are_set: frozenset[str]) -> None:
        self._values = values
        self.are_set = are_set

    @classmethod
    def of(cls, state: BaseModel) -> "Fields | None":
        """Return the fields of a state, or None where its document does not have them as such."""
        if type(state) is DictState:
            data = state._data
            return cls(data, frozenset()) if _is_named(data) else None
        declared = type(state).model_fields
        if state.__pydantic_private__ or state.__pydantic_extra__:
            return None
        if state.__dict__.keys() != declared.keys():
            return None
        if any(field.exclude for field in declared.values()):
            return None
        return cls(state.__dict__, frozenset(state.__pydantic_fields_set__))

    @property
    def names(self) -> Iterable[str]:
        """The names of the fields, in order."""
        return self._values

    def get(self, name: str) -> Any:
        """Return the value of a field."""
        return self._values[name]


def _is_named(data: dict[Any, Any]) -> bool:
    """Return whether a dict is written as such: with keys that are texts, and none of a tag."""
    return bool(data) and is_named(data)
