"""The `ctx.store` of a run: what of it is kept when a step ends, and what is not kept yet.

Steps that run side by side write to one state. When one of them ends, its writes are kept, with the
tick of its end. A write of a step that still goes on is kept only where a kept write was made on
top of it, to the same field: such a write is *settled*. A step that is cut off runs again when the
run is resumed, and makes its writes again; the settled ones among them are passed over then.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Set
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic_core import from_json
from workflows.context.serializers import BaseSerializer
from workflows.context.state_store import InMemoryStateStore
from workflows.events import DictLikeModel
from workflows.runtime.types.results import StepWorkerStateContextVar

from workflow_server.app.engine.codec import NotSerializable
from workflow_server.app.engine.heavy import are_heavy
from workflow_server.app.engine.state_changes import ATOMS, is_flat
from workflow_server.app.engine.state_documents import SETTLED, encode_whole
from workflow_server.app.engine.state_writer import StateUpdate, StateWriter
from workflow_server.app.engine.values.codec import Codec, is_current
from workflow_server.app.engine.values.sameness import is_same

MAX_WRITES = 50  # that are kept apart, of steps that go on; later ones are merged into the last
UNRESTORABLE = b""  # kept in place of a state that could not be encoded; it cannot be decoded
OUTSIDE = ""  # the author of writes that no running step makes, such as a task that it left
ABSENT = object()  # the value of a field that is not there

# The field that `set` is writing, which counts as written even where its value is the same object.
_named: ContextVar[str | None] = ContextVar("workflow_server_field", default=None)


@dataclass(frozen=True, eq=False)
class _Write:
    """One write to a state: the fields, their new values, and its authors.

    An author is the invocation of a step. `ordinals` number the write among those of its author,
    from 1; a merged write has the last number of each author. `parts` are the new values, in the
    order of `_parts`. Where the state was replaced by one of another class, `whole` is that state.
    """

    ordinals: dict[str, int]
    fields: frozenset[str]
    parts: tuple[dict[str, Any], ...]
    whole: BaseModel | None

    def overlaps(self, other: "_Write") -> bool:
        """Return whether both wrote to the same field."""
        either_whole = self.whole is not None or other.whole is not None
        return either_whole or not self.fields.isdisjoint(other.fields)

    def is_like(self, other: "_Write") -> bool:
        """Return whether both have the same authors and the same fields."""
        return self.ordinals.keys() == other.ordinals.keys() and self.fields == other.fields

    def followed_by(self, later: "_Write") -> "_Write":
        """Return both merged into one write."""
        return _Write(
            {**self.ordinals, **later.ordinals},
            self.fields | later.fields,
            tuple({**old, **new} for old, new in zip(self.parts, later.parts, strict=True)),
            later.whole if self.whole is None else later.put_on(self.whole),
        )

    def only(self, fields: Set[str]) -> "_Write":
        """Return the part of the write that concerns some fields."""
        parts = ({name: part[name] for name in part.keys() & fields} for part in self.parts)
        return _Write(self.ordinals, self.fields & fields, tuple(parts), None)

    def put_on(self, state: BaseModel) -> BaseModel:
        """Return a copy of a state with the write applied."""
        if self.whole is not None:
            return self.whole
        changed = state.model_copy()
        if isinstance(changed, DictLikeModel):
            changed._data = dict(changed._data)
        for values, part in zip(_parts(changed), self.parts, strict=True):
            for name, value in part.items():
                if value is ABSENT:
                    values.pop(name, None)
                else:
                    values[name] = value
        return changed


class TrackedState(InMemoryStateStore[Any]):
    """The engine's in-memory state, and the part of it that is kept.

    `_latest` is the state as steps see it, `_kept` the state as it is stored. `_writes` are those
    between the two, oldest first. `_settled` has, by author and field, the ordinal of the author's
    last settled write: up to it, the author's writes leave the field as it is. `_handed` has, by
    author, the fields that were handed out and can be changed in place; `_names` are the fields
    that may have changed since the state was written. None is every field.
    """

    def __init__(self, initial_state: Any) -> None:
        super().__init__(initial_state)
        self._kept: BaseModel = initial_state
        self._latest: BaseModel = initial_state
        self._writes: list[_Write] = []
        self._counts: Counter[str] = Counter()
        self._settled: dict[str, dict[str, int]] = {}
        self._handed: dict[str, set[str] | None] = {}
        self._names: set[str] | None = set()
        self._was_written = False
        self._writer: StateWriter | None = None
        self._beforehand: StateUpdate | NotSerializable | None = None

    def write_with(self, writer: StateWriter) -> None:
        """Let a writer say what of the state is to be written, unless there is one."""
        self._writer = self._writer or writer

    def prepare(self, codec: Codec) -> None:
        """Write the state beforehand, as it is to be written first.

        Nothing in that needs the event loop.
        """
        self.write_with(StateWriter(codec))
        self.touch()
        try:
            self._beforehand = self.update()
        except NotSerializable as fault:
            self._beforehand = fault

    async def get(self, path: str, default: Any = ...) -> Any:
        value = await super().get(path, default)
        if type(value) not in ATOMS:
            self._look_at()
            self._hand_out(path.partition(".")[0] or None)
        return value

    async def get_state(self) -> Any:
        state = await super().get_state()
        if not all(map(is_flat, map(list, map(dict.values, _parts(state))))):
            self._look_at()
            self._hand_out(None)
        return state

    async def _load_state_for_edit(self, storage: Any = None) -> Any:
        # What cannot be copied is changed in place there, too.
        self._hand_out(None)
        return await super()._load_state_for_edit(storage)

    def _look_at(self) -> None:
        if self._writer is not None and self._writer.is_blank:
            self._writer.look_at(self._kept)

    def _hand_out(self, name: str | None) -> None:
        author = _author()
        names = self._handed.setdefault(author, set())
        if name is None or names is None:
            self._handed[author] = None
        else:
            names.add(name)

    async def set(self, path: str, value: Any) -> None:
        token = _named.set(path.partition(".")[0])
        try:
            await super().set(path, value)
        finally:
            _named.reset(token)

    async def _write_state(self, state: BaseModel, storage: Any = None) -> None:
        author = _author()
        self._counts[author] += 1
        count = self._counts[author]
        settled = self._settled.get(author, {})
        passed_over = {name for name, ordinal in settled.items() if count <= ordinal}
        if passed_over:
            state = _compare(state, self._latest, {}).only(passed_over).put_on(state)
        await super()._write_state(state, storage)
        self._note(_compare(self._latest, state, {author: count}, named=_named.get()))
        self._latest = state

    def _note(self, write: _Write) -> None:
        """Add a write; one to the same fields as its author's last write is merged with that."""
        writes = self._writes
        before = next((i for i in reversed(range(len(writes))) if writes[i].overlaps(write)), None)
        if before is not None and writes[before].is_like(write):
            writes[before] = writes[before].followed_by(write)
        elif len(writes) == MAX_WRITES:
            writes[-1] = writes[-1].followed_by(write)
        elif write.fields or write.whole is not None:
            writes.append(write)

    def end_step(self, invocation_id: str | None) -> bool:
        """Keep the writes of a step that has ended; return whether the state may have changed."""
        ended = {OUTSIDE, invocation_id or OUTSIDE}
        kept: list[_Write] = []
        left: list[_Write] = []
        for write in reversed(self._writes):
            has_ended = not ended.isdisjoint(write.ordinals)
            if has_ended or any(write.overlaps(later) for later in kept):
                kept.append(write)
            else:
                left.append(write)
        for write in reversed(kept):
            self._add_names(None if write.whole is not None else write.fields)
            if left:
                self._kept = write.put_on(self._kept)
            for author in write.ordinals.keys() - ended:
                self._settle(author, write)
        self._writes = left[::-1]
        if not left:
            self._kept = self._latest
        handed = [self._handed.pop(author) for author in ended if author in self._handed]
        for names in handed:
            self._add_names(names)
        has_written = sum(self._counts.pop(author, 0) for author in ended) > 0
        if self._settled.pop(invocation_id or OUTSIDE, None) is not None or has_written:
            self._was_written = True
        return self._was_written or bool(handed)

    @property
    def kept(self) -> BaseModel:
        """The state as it is stored."""
        return self._kept

    def is_heavy(self, invocation_id: str | None) -> bool:
        """Return whether it may take long to write what a step that has ended has changed."""
        ended = {OUTSIDE, invocation_id or OUTSIDE}
        if ended.isdisjoint(self._counts) and ended.isdisjoint(self._handed):
            return False
        names = self._find_changed()
        if self._writer is not None and self._writer.is_change_small(self._latest, names):
            return False
        return are_heavy((self._latest,))

    def _find_changed(self) -> Set[str] | None:
        """Return the fields that may have changed since the state was written; None for all."""
        is_replaced = any(write.whole is not None for write in self._writes)
        if is_replaced or self._names is None or None in self._handed.values():
            return None
        handed = (names for names in self._handed.values() if names is not None)
        return self._names.union(*handed, *(write.fields for write in self._writes))

    def _add_names(self, names: Set[str] | None) -> None:
        if names is None:
            self._names = None
        elif self._names is not None:
            self._names |= names

    def update(self) -> StateUpdate | None:
        """Return what is to be written of the kept state, or None where it has not changed.

        `NotSerializable` where JSON cannot carry it.
        """
        assert self._writer is not None
        names, self._names = self._names, set()
        was_written, self._was_written = self._was_written, False
        beforehand, self._beforehand = self._beforehand, None
        if isinstance(beforehand, NotSerializable):
            raise beforehand
        if beforehand is not None:
            return beforehand
        return self._writer.write(self._kept, names, self._settled, at_least=was_written)

    def touch(self) -> None:
        """Let the state be written as if a step had written to it."""
        self._names, self._was_written = None, True

    def _settle(self, author: str, write: _Write) -> None:
        ordinals = self._settled.setdefault(author, {})
        for name in write.fields:
            ordinals[name] = max(ordinals.get(name, 0), write.ordinals[author])

    def rename_steps(self, renamed: Mapping[str, str]) -> bool:
        """Give settled writes their authors' new ids; return whether the state is to be stored.

        An author that does not run again is forgotten, with its settled writes.
        """
        before = self._settled
        self._settled = {renamed[old]: before[old] for old in before if old in renamed}
        return bool(before)

    def encode(self, codec: Codec) -> bytes:
        """Return the kept state as JSON; `NotSerializable` where it would not come back."""
        return encode_whole(self._kept, self._settled, codec)

    @classmethod
    def decode(
        cls, state: bytes, codec: Codec, older: BaseSerializer, *, resumes: bool = False
    ) -> "TrackedState":
        """Return the state that was encoded; ValueError where it cannot be built again.

        `older` decodes what the engine's serializer has encoded. `resumes` where the same run goes
        on: its settled writes are restored too.
        """
        payload = from_json(state)
        if is_current(state):
            restored = cls(codec.read(payload["state"]))
        else:
            restored = cls.decode_payload(payload, older)
        if resumes:
            restored._settled = payload.get(SETTLED, {})
        return restored

    @classmethod
    def decode_payload(cls, payload: dict[str, Any], serializer: BaseSerializer) -> "TrackedState":
        """Return the state that the engine's serializer has encoded."""
        restored = cls.from_dict(payload, serializer)
        assert isinstance(restored, cls)
        return restored


def encode_if_faithful(state: TrackedState, codec: Codec) -> bytes | None:
    """Return the kept state as JSON, or None where it would not come back."""
    try:
        return state.encode(codec)
    except NotSerializable:
        return None


def _author() -> str:
    """Return the author of a write that is made now: the invocation of the running step."""
    step = StepWorkerStateContextVar.get(None)
    if step is None or step.sends.closed:
        return OUTSIDE
    return step.state.invocation_id or OUTSIDE


def _compare(
    old: BaseModel, new: BaseModel, ordinals: dict[str, int], *, named: str | None = None
) -> _Write:
    """Return the write that makes one state of another."""
    is_whole = type(old) is not type(new)
    parts = tuple(
        [
            _find_written(before, after, named, is_whole=is_whole)
            for before, after in zip(_parts(old), _parts(new), strict=True)
        ]
    )
    return _Write(ordinals, frozenset().union(*parts), parts, new if is_whole else None)


def _find_written(
    before: dict[str, Any], after: dict[str, Any], named: str | None, *, is_whole: bool
) -> dict[str, Any]:
    """Return what makes one part of a state of another."""
    if not before and not after:
        return {}
    gone = dict.fromkeys(before.keys() - after.keys(), ABSENT)
    return gone | {
        name: value
        for name, value in after.items()
        if is_whole
        or name == named
        or ((old := before.get(name, ABSENT)) is not value and not is_same(old, value))
    }


def _parts(state: BaseModel) -> Iterator[dict[str, Any]]:
    """Yield the dictionaries that hold a state's values: declared, extra, and dict-like ones."""
    yield state.__dict__
    yield {} if state.__pydantic_extra__ is None else state.__pydantic_extra__
    yield state._data if isinstance(state, DictLikeModel) else {}
