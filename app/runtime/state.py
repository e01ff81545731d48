"""The `ctx.store` of a run, which knows what the steps that have ended wrote to it."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import BaseModel
from workflows.context.serializers import BaseSerializer
from workflows.context.state_store import InMemoryStateStore, create_in_memory_payload
from workflows.events import DictLikeModel
from workflows.runtime.types.results import StepWorkerStateContextVar

from app.runtime.encoding import NotSerializable

MAX_WRITES = 100  # of steps that go on; what they write in turn after that is taken as one
UNRESTORABLE = b""  # kept in place of a state that could not be encoded; it cannot be decoded
OUTSIDE = ""  # in place of a step's invocation: who writes when the step has returned, say
STANDING = "standing"  # beside the engine's own keys
ABSENT = object()


@dataclass(eq=False)
class _Write:
    """The state before and after a write, and which of its writes it is of who made it.

    Where several are taken as one, it is the last of each author's.
    """

    before: BaseModel
    state: BaseModel
    ordinals: dict[str, int]

    @cached_property
    def fields(self) -> frozenset[str]:
        """The top-level fields that were written; all of them, where the class is another."""
        return frozenset(
            name
            for old, new in zip(_parts(self.before), _parts(self.state), strict=True)
            for name in old.keys() | new.keys()
            if self.is_whole or not _is_same(old.get(name, ABSENT), new.get(name, ABSENT))
        )

    @cached_property
    def is_whole(self) -> bool:
        """Whether the state is of another class now."""
        return type(self.before) is not type(self.state)

    def overlaps(self, other: "_Write") -> bool:
        """Whether both wrote to a field."""
        return self.is_whole or other.is_whole or not self.fields.isdisjoint(other.fields)

    def is_like(self, other: "_Write") -> bool:
        """Whether both are of the same authors, and wrote to the same fields."""
        same = self.ordinals.keys() == other.ordinals.keys()
        return same and self.fields == other.fields

    def followed_by(self, later: "_Write") -> "_Write":
        """Return both as one."""
        both = _Write(self.before, later.state, {**self.ordinals, **later.ordinals})
        # What was written, and then written back, is written.
        both.fields = self.fields | later.fields
        return both

    def put_on(self, state: BaseModel) -> BaseModel:
        """Return another state with the fields that were written."""
        if state is self.before or self.is_whole:
            return self.state
        return _replace(state, self.fields, self.state)


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

    async def _write_state(self, state: BaseModel, storage: Any = None) -> None:
        author = _author()
        self._counts[author] += 1
        state = self._pass_over(state, author)
        await super()._write_state(state, storage)
        write = _Write(self._latest, state, {author: self._counts[author]})
        self._latest = state
        if self._writes:
            last = self._writes[-1]
            if len(self._writes) == MAX_WRITES or last.is_like(write):
                write = last.followed_by(write)
                self._writes.pop()
        self._writes.append(write)

    def _pass_over(self, state: BaseModel, author: str) -> BaseModel:
        """Return what a step writes without that which stands since it ran before."""
        count = self._counts[author]
        standing = self._standing.get(author, {})
        fields = frozenset(name for name, ordinal in standing.items() if count <= ordinal)
        return _replace(state, fields, self._latest) if fields else state

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
        for author in ended:
            self._counts.pop(author, None)
        return self._standing.pop(invocation_id or OUTSIDE, None) is not None or bool(kept)

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


def _replace(state: BaseModel, fields: frozenset[str], source: BaseModel) -> BaseModel:
    """Return a state with some fields as they are in another one."""
    changed = state.model_copy()
    if isinstance(changed, DictLikeModel):
        changed._data = dict(changed._data)
    for values, wanted in zip(_parts(changed), _parts(source), strict=True):
        for name in fields & (values.keys() | wanted.keys()):
            if name in wanted:
                values[name] = wanted[name]
            else:
                del values[name]
    return changed


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
