"""The `ctx.store` of a run, which knows what the steps that have ended wrote to it."""

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

MAX_WRITES = 50  # of steps that go on; what they write in turn after that is taken as one
UNRESTORABLE = b""  # kept in place of a state that could not be encoded; it cannot be decoded
OUTSIDE = ""  # in place of a step's invocation: who writes when the step has returned, say
STANDING = "standing"  # beside the engine's own keys
ABSENT = object()

# The field that `set` writes to: its value may be the one before, which was changed in its place.
_named: ContextVar[str | None] = ContextVar("workflow_server_field", default=None)


@dataclass(frozen=True, eq=False)
class _Write:
    """What was written to a state, and which of its writes it is of who made it.

    Where several are taken as one, it is the last of each author's. `parts` are the new values, in
    the places of `_parts`; `whole` is the state instead, where its class is another.
    """

    ordinals: dict[str, int]
    fields: frozenset[str]
    parts: tuple[dict[str, Any], ...]
    whole: BaseModel | None

    def overlaps(self, other: "_Write") -> bool:
        """Whether both wrote to a field."""
        either_whole = self.whole is not None or other.whole is not None
        return either_whole or not self.fields.isdisjoint(other.fields)

    def is_like(self, other: "_Write") -> bool:
        """Whether both are of the same authors, and of the same fields."""
        return self.ordinals.keys() == other.ordinals.keys() and self.fields == other.fields

    def followed_by(self, later: "_Write") -> "_Write":
        """Return both as one."""
        return _Write(
            {**self.ordinals, **later.ordinals},
            self.fields | later.fields,
            tuple({**old, **new} for old, new in zip(self.parts, later.parts, strict=True)),
            later.whole if self.whole is None else later.put_on(self.whole),
        )

    def only(self, fields: Set[str]) -> "_Write":
        """Return what was written to some fields."""
        parts = ({name: part[name] for name in part.keys() & fields} for part in self.parts)
        return _Write(self.ordinals, self.fields & fields, tuple(parts), None)

    def put_on(self, state: BaseModel) -> BaseModel:
        """Return another state with what was written."""
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
    """The engine's in-memory state, and what of it is to be kept.

    Steps that run side by side write to one state, and one that is cut off runs again when the run
    is resumed. So what is kept with the end of a step is what it wrote, and of what the others have
    written only that on which it did: writes to the same fields, before its own. Those stand, and
    are kept with their number among the writes of their step. When the step runs again, its writes
    up to that number leave the field as it is.
    """

    def __init__(self, initial_state: Any) -> None:
        super().__init__(initial_state)
        self._kept: BaseModel = initial_state
        self._latest: BaseModel = initial_state
        self._writes: list[_Write] = []
        self._counts: Counter[str] = Counter()
        self._standing: dict[str, dict[str, int]] = {}

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
        standing = self._standing.get(author, {})
        passed_over = {name for name, ordinal in standing.items() if count <= ordinal}
        if passed_over:
            state = _compare(state, self._latest, {}).only(passed_over).put_on(state)
        await super()._write_state(state, storage)
        self._note(_compare(self._latest, state, {author: count}, named=_named.get()))
        self._latest = state

    def _note(self, write: _Write) -> None:
        """Note a write, as one with what its author wrote to the same fields just before."""
        writes = self._writes
        before = next((i for i in reversed(range(len(writes))) if writes[i].overlaps(write)), None)
        if before is not None and writes[before].is_like(write):
            writes[before] = writes[before].followed_by(write)
        elif len(writes) == MAX_WRITES:
            writes[-1] = writes[-1].followed_by(write)
        elif write.fields or write.whole is not None:
            writes.append(write)

    def end_step(self, invocation_id: str | None) -> bool:
        """Return whether what is to be kept is another now that a step has ended."""
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
                self._let_stand(author, write)
        self._writes = left[::-1]
        if not left:
            self._kept = self._latest
        # Also where nothing seems to be written: a value may have been changed in its place.
        has_written = sum(self._counts.pop(author, 0) for author in ended) > 0
        return self._standing.pop(invocation_id or OUTSIDE, None) is not None or has_written

    def _let_stand(self, author: str, write: _Write) -> None:
        ordinals = self._standing.setdefault(author, {})
        for name in write.fields:
            ordinals[name] = max(ordinals.get(name, 0), write.ordinals[author])

    def rename_steps(self, renamed: Mapping[str, str]) -> bool:
        """Take the ids of steps that run again; return whether what is to be kept is another."""
        before = self._standing
        self._standing = {renamed[old]: before[old] for old in before if old in renamed}
        return bool(before)

    def encode(self, serializer: BaseSerializer) -> bytes:
        """Return what is to be kept as JSON; `NotSerializable` where it cannot be."""
        try:
            payload = create_in_memory_payload(self._kept, serializer).model_dump()
            if self._standing:
                payload[STANDING] = self._standing
            return json.dumps(payload).encode("ascii")
        except (TypeError, ValueError, RecursionError) as error:
            raise NotSerializable(str(error)) from error

    @classmethod
    def decode(
        cls, state: bytes, serializer: BaseSerializer, *, resumes: bool = False
    ) -> "TrackedState":
        """Return the state that was encoded; ValueError where it cannot be built again.

        It knows what stands of steps that were cut off where it is that run which resumes.
        """
        payload = json.loads(state)
        restored = cls.from_dict(payload, serializer)
        assert isinstance(restored, cls)
        if resumes:
            restored._standing = payload.get(STANDING, {})
        return restored


def _author() -> str:
    """Return the invocation that writes."""
    step = StepWorkerStateContextVar.get(None)
    if step is None or step.sends.closed:
        return OUTSIDE
    return step.state.invocation_id or OUTSIDE


def _compare(
    old: BaseModel, new: BaseModel, ordinals: dict[str, int], *, named: str | None = None
) -> _Write:
    """Return what was written to a state; all of it, where its class is another."""
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
    """Return where a state holds its values by name: declared, allowed beside, and of a dict."""
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
