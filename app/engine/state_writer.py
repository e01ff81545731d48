"""Writer of a state: what it looks like in the store, and what of it is to be written now.

A small state is written whole. Of a larger one only what changed is written, where the fields that
a step wrote, or was handed, are the only ones that are looked at. It is written whole again when
what is stored is twice as large as the state, and after `MAX_CHANGES` changes.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b

from pydantic import BaseModel

from workflow_server.app.engine.codec import NotSerializable
from workflow_server.app.engine.state_changes import Comparison, Tree, are_small_changes
from workflow_server.app.engine.state_documents import (
    FIELDS_SET,
    Fields,
    Settled,
    encode_changes,
    encode_whole,
    takes_changes,
)
from workflow_server.app.engine.values.codec import Codec

SMALL = 8_192  # bytes of a state that is written whole
MAX_CHANGES = 1_000  # documents of changes, after which it is too
ROOM = 1 << 17  # bytes that the document of a small change does not take
# Of values that cannot be stored, that look after themselves, or that a thread changes meanwhile.
_CANNOT = (NotSerializable, TypeError, ValueError, RuntimeError, LookupError, AttributeError)


@dataclass(frozen=True, slots=True)
class StateUpdate:
    """A document to be written: of the whole state, or else of what has changed in it."""

    document: bytes
    is_whole: bool


class StateWriter:
    """Knows how a state was when it was written last, or looked at first.

    `_digest` is that of its document, while no change was written since. A state that is not small
    has a `_shadow` too, with the tree of each field, unless its fields cannot be told apart.
    """

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._state_class: type[BaseModel] | None = None
        self._digest: bytes | None = None
        self._shadow: dict[str, Tree] | None = None
        self._are_set: frozenset[str] = frozenset()
        self._settled: Settled = {}
        self._is_stored = False
        self._live_bytes = 0
        self._stored_bytes = 0
        self._changes = 0

    @property
    def is_blank(self) -> bool:
        """Return whether nothing is known of the state yet."""
        return self._state_class is None

    def look_at(self, state: BaseModel) -> None:
        """Remember a state that was not written, and may be changed in place."""
        try:
            self._remember(state, encode_whole(state, {}, self._codec))
        except _CANNOT:
            self._state_class = type(state)

    def write(
        self, state: BaseModel, names: Iterable[str] | None, settled: Settled, *, at_least: bool
    ) -> StateUpdate | None:
        """Return what is to be written of a state, or None where nothing of it has changed.

        `names` are the fields that may have changed, or None for all of them. Unless `at_least`
        something was written by a step, a state that was never stored is only if it has changed.
        Raises `NotSerializable` where the state would not come back.
        """
        is_due = settled != self._settled or (at_least and not self._is_stored)
        if self.is_blank and not is_due:
            return None
        changed = self._find_changes(state, names)
        if changed is not None and not changed.changes and not is_due:
            return None
        document = None if changed is None else self._encode(changed, settled)
        if document is None:
            return self._write_whole(state, settled, is_due=is_due)
        self._changes += 1
        self._digest = None  # what is stored is no longer that document alone
        self._settled = _copy(settled)
        return StateUpdate(document, is_whole=False)

    def is_change_small(self, state: BaseModel, names: Iterable[str] | None) -> bool:
        """Return whether a change is written, and takes next to no time, large as the state is.

        `names` are as for `write`.
        """
        shadow, fields = self._shadow, Fields.of(state)
        is_known = self._is_stored and type(state) is self._state_class
        if shadow is None or fields is None or not is_known or self._changes >= MAX_CHANGES:
            return False
        if self._stored_bytes + ROOM > 2 * self._live_bytes + SMALL:
            return False
        present = list(fields.names)
        if present[: len(shadow)] != list(shadow):
            return False  # the whole is written where a field is gone, or is in another place
        looked_at = present if names is None else set(present).intersection(names)
        return are_small_changes([(shadow.get(name), fields.get(name)) for name in looked_at])

    def _encode(self, changed: Comparison, settled: Settled) -> bytes | None:
        """Return a document of changes, or None where the whole is to be written."""
        if not self._is_stored or self._changes >= MAX_CHANGES:
            return None
        document = encode_changes(changed.changes, settled)
        if document is None:
            return None
        self._live_bytes += changed.grown
        self._stored_bytes += len(document)
        return document if self._stored_bytes <= 2 * self._live_bytes + SMALL else None

    def _write_whole(
        self, state: BaseModel, settled: Settled, *, is_due: bool
    ) -> StateUpdate | None:
        known, self._digest, self._shadow = self._digest, None, None
        was_stored, self._is_stored = self._is_stored, False
        self._state_class = type(state)
        try:
            document = encode_whole(state, settled, self._codec)
        except NotSerializable:
            if not (is_due or was_stored):
                return None  # as it was from the beginning: nobody has written to it
            raise
        self._remember(state, document)
        self._settled = _copy(settled)
        if self._digest == known and not is_due:
            self._is_stored = was_stored
            return None
        self._is_stored = True
        return StateUpdate(document, is_whole=True)

    def _remember(self, state: BaseModel, document: bytes) -> None:
        self._state_class = type(state)
        self._live_bytes = self._stored_bytes = len(document)
        self._changes = 0
        self._digest = blake2b(document).digest()
        if len(document) <= SMALL or not takes_changes(document):
            return
        fields = Fields.of(state)
        if fields is None:
            return
        comparison = Comparison(self._codec.write)
        try:
            self._are_set = fields.are_set
            self._shadow = {name: comparison.copy(fields.get(name)) for name in fields.names}
        except _CANNOT:
            self._shadow = None

    def _find_changes(self, state: BaseModel, names: Iterable[str] | None) -> Comparison | None:
        """Return what has changed in fields, or None where the whole is to be written."""
        shadow = self._shadow
        if shadow is None or type(state) is not self._state_class:
            return None
        fields = Fields.of(state)
        if fields is None:
            return None
        comparison = Comparison(self._codec.write)
        try:
            _compare(shadow, fields, comparison, names)
        except _CANNOT:
            return None
        if fields.are_set != self._are_set:
            self._are_set = fields.are_set
            comparison.changes.append([FIELDS_SET, [], sorted(fields.are_set)])
        return comparison if list(shadow) == list(fields.names) else None


def _compare(
    shadow: dict[str, Tree], fields: Fields, comparison: Comparison, names: Iterable[str] | None
) -> None:
    present = set(fields.names)
    for name in [*present.union(shadow)] if names is None else names:
        if name not in present:
            if name in shadow:
                comparison.remove([name], shadow.pop(name))
        elif name in shadow:
            shadow[name] = comparison.compare(shadow[name], fields.get(name), [name])
    for name in fields.names:
        if name not in shadow:
            shadow[name] = comparison.put([name], fields.get(name))


def _copy(settled: Settled) -> Mapping[str, Mapping[str, int]]:
    return {author: dict(ordinals) for author, ordinals in settled.items()}
