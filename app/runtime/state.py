"""The `ctx.store` of a run, which knows what the steps that have ended wrote to it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import BaseModel
from workflows.context.serializers import BaseSerializer
from workflows.context.state_store import InMemoryStateStore, create_in_memory_payload
from workflows.events import DictLikeModel
from workflows.runtime.types.results import StepWorkerStateContextVar

from app.runtime.encoding import NotSerializable

MAX_VERSIONS = 100  # of a state that is written by steps in turn; more are kept as one
UNRESTORABLE = b""  # kept in place of a state that could not be encoded; it cannot be decoded
ABSENT = object()


@dataclass(eq=False)
class _Version:
    """The state before and after a write, and who wrote it: steps that go on, or have ended."""

    before: BaseModel
    state: BaseModel
    authors: set[str]
    has_ended: bool = False

    @cached_property
    def fields(self) -> frozenset[str] | None:
        """The top-level fields that were written; None for a state of another class."""
        if type(self.before) is not type(self.state):
            return None
        return frozenset(
            name
            for old, new in zip(_parts(self.before), _parts(self.state), strict=True)
            for name in old.keys() | new.keys()
            if not _is_same(old.get(name, ABSENT), new.get(name, ABSENT))
        )

    def overlaps(self, other: "_Version") -> bool:
        """Whether both wrote to a field."""
        if self.fields is None or other.fields is None:
            return True
        return not self.fields.isdisjoint(other.fields)

    def put_on(self, state: BaseModel) -> BaseModel:
        """Return another state with the fields that were written."""
        if state is self.before or self.fields is None:
            return self.state
        changed = state.model_copy()
        if isinstance(changed, DictLikeModel):
            changed._data = dict(changed._data)
        for values, written in zip(_parts(changed), _parts(self.state), strict=True):
            for name in self.fields & (values.keys() | written.keys()):
                if name in written:
                    values[name] = written[name]
                else:
                    del values[name]
        return changed


class TrackedState(InMemoryStateStore[Any]):
    """The engine's in-memory state, and what of it is to be kept.

    Steps that run in parallel write to one state, and one that is cut off writes again when it is
    resumed. So what is kept with the end of a step is what it wrote, but not what steps wrote that
    go on: of a field's values the one before the first write of such a step. A step that has ended,
    but wrote to a field after one that goes on, is behind.
    """

    def __init__(self, initial_state: Any) -> None:
        super().__init__(initial_state)
        self._kept: BaseModel = initial_state
        self._latest: BaseModel = initial_state
        self._versions: list[_Version] = []
        self._passed_over: set[str] = set()

    async def _write_state(self, state: BaseModel, storage: Any = None) -> None:
        step = StepWorkerStateContextVar.get(None)
        author = step.state.invocation_id if step is not None else None
        await super()._write_state(state, storage)
        version = _Version(self._latest, state, {author} if author else set())
        self._latest = state
        if self._versions:
            before = self._versions[-1]
            if before.authors == version.authors or len(self._versions) == MAX_VERSIONS:
                version.before = before.before
                version.authors |= before.authors
                version.has_ended = before.has_ended
                self._versions.pop()
        self._versions.append(version)

    @property
    def blocker(self) -> object | None:
        """A write of a step that goes on, for which the end of another waits; None where none does.

        It is another one when that step has ended, or has written again.
        """
        index = self._find_blocker()
        return None if index is None else self._versions[index]

    def _find_blocker(self) -> int | None:
        for index, version in enumerate(self._versions):
            later = self._versions[index:]
            if version.authors and any(v.has_ended and v.overlaps(version) for v in later):
                return index
        return None

    def end_step(self, invocation_id: str | None) -> bool:
        """Return whether there is more to be kept now that a step has ended."""
        for version in self._versions:
            if invocation_id in version.authors:
                version.authors.discard(invocation_id)
                version.has_ended = True
        self._passed_over.discard(invocation_id or "")
        return self._keep()

    def catch_up(self) -> None:
        """Keep all that ended steps wrote, and what others wrote before that."""
        while (index := self._find_blocker()) is not None:
            for version in self._versions[: index + 1]:
                self._passed_over |= version.authors
            self._keep()

    def _keep(self) -> bool:
        left: list[_Version] = []
        for version in self._versions:
            is_due = version.authors <= self._passed_over
            if is_due and not any(version.overlaps(earlier) for earlier in left):
                self._kept = version.put_on(self._kept)
            else:
                left.append(version)
        changed = len(left) < len(self._versions)
        self._versions = left
        if not left:
            self._kept = self._latest
        return changed

    def encode(self, serializer: BaseSerializer) -> bytes:
        """Return what is to be kept as JSON; `NotSerializable` where it cannot be."""
        try:
            payload = create_in_memory_payload(self._kept, serializer)
            return json.dumps(payload.model_dump()).encode("ascii")
        except (TypeError, ValueError, RecursionError) as error:
            raise NotSerializable(str(error)) from error

    @classmethod
    def decode(cls, state: bytes, serializer: BaseSerializer) -> "TrackedState":
        """Return the state that was encoded; ValueError where it cannot be built again."""
        restored = cls.from_dict(json.loads(state), serializer)
        assert isinstance(restored, cls)
        return restored


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
