"""The `ctx.store` of a run: what of it is kept when a step ends, and what is not kept yet.

Steps that run side by side write to one state. When one of them ends, its writes are kept, with the
tick of its end. A write of a step that still goes on is kept only where a kept write was made on
top of it, to the same field: such a write is *settled*. A step that is cut off runs again when the
run is resumed, and makes its writes again; the settled ones among them are passed over then.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Set
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from workflows.context.serializers import BaseSerializer
from workflows.context.state_store import InMemoryStateStore, create_in_memory_payload
from workflows.events import DictLikeModel
from workflows.runtime.types.results import StepWorkerStateContextVar

from app.engine.codec import NotSerializable

MAX_WRITES = 50  # that are kept apart, of steps that go on; later ones are merged into the last
UNRESTORABLE = b""  # kept in place of a state that could not be encoded; it cannot be decoded
OUTSIDE = ""  # the author of writes that no running step makes, such as a task that it left
SETTLED = "standing"  # the stored key of the settled writes, beside the engine's own keys
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
    last settled write: up to it, the author's writes leave the field as it is.
    """

    def __init__(self, initial_state: Any) -> None:
        super().__init__(initial_state)
        self._kept: BaseModel = initial_state
        self._latest: BaseModel = initial_state
        self._writes: list[_Write] = []
        self._counts: Counter[str] = Counter()
        self._settled: dict[str, dict[str, int]] = {}

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
        """Keep the writes of a step that has ended; return whether the state is to be stored."""
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
            self._kept = write.put_on(self._kept)
            for author in write.ordinals.keys() - ended:
                self._settle(author, write)
        self._writes = left[::-1]
        if not left:
            self._kept = self._latest
        # Any call that wrote counts: a value may have been changed in place, which nobody sees.
        has_written = sum(self._counts.pop(author, 0) for author in ended) > 0
        return self._settled.pop(invocation_id or OUTSIDE, None) is not None or has_written

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

    def encode(self, serializer: BaseSerializer) -> bytes:
        """Return the kept state as JSON; `NotSerializable` where it cannot be."""
        try:
            payload = create_in_memory_payload(self._kept, serializer).model_dump()
            if self._settled:
                payload[SETTLED] = self._settled
            return json.dumps(payload).encode("ascii")
        except (TypeError, ValueError, RecursionError) as error:
            raise NotSerializable(str(error)) from error

    @classmethod
    def decode(
        cls, state: bytes, serializer: BaseSerializer, *, resumes: bool = False
    ) -> "TrackedState":
        """Return the state that was encoded; ValueError where it cannot be built again.

        `resumes` where the same run goes on: its settled writes are restored too.
        """
        payload = json.loads(state)
        restored = cls.from_dict(payload, serializer)
        assert isinstance(restored, cls)
        if resumes:
            restored._settled = payload.get(SETTLED, {})
        return restored


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
        dict.fromkeys(before.keys() - after.keys(), ABSENT)
        | {
            name: value
            for name, value in after.items()
            if is_whole or name == named or not _is_same(before.get(name, ABSENT), value)
        }
        for before, after in zip(_parts(old), _parts(new), strict=True)
    )
    return _Write(ordinals, frozenset().union(*parts), parts, new if is_whole else None)


def _parts(state: BaseModel) -> Iterator[dict[str, Any]]:
    """Yield the dictionaries that hold a state's values: declared, extra, and dict-like ones."""
    yield state.__dict__
    yield {} if state.__pydantic_extra__ is None else state.__pydantic_extra__
    yield state._data if isinstance(state, DictLikeModel) else {}


def _is_same(old: object, new: object) -> bool:
    if old is new:
        return True
    try:
        return type(old) is type(new) and bool(old == new)
    except Exception:  # noqa: BLE001  # the classes are the user's, and may raise anything
        return False
