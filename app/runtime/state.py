"""The `ctx.store` of a run, which knows what the steps that have ended wrote to it."""

import json
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from workflows.context.serializers import BaseSerializer
from workflows.context.state_store import InMemoryStateStore, create_in_memory_payload
from workflows.runtime.types.results import StepWorkerStateContextVar

from app.runtime.encoding import NotSerializable

MAX_VERSIONS = 100  # of a state that is written by steps in turn; more are kept as one
UNRESTORABLE = b""  # kept in place of a state that could not be encoded; it cannot be decoded


@dataclass(slots=True)
class _Version:
    """The state as a write left it, and who wrote it: steps that go on, or that have ended."""

    state: BaseModel
    authors: set[str]
    has_ended: bool = False


class TrackedState(InMemoryStateStore[Any]):
    """The engine's in-memory state, and what of it is to be kept.

    Steps that run in parallel write to one state, and one that is cut off writes again when it is
    resumed. So what is kept with the end of a step is the state as it was before the first write
    of a step that goes on. A step that has ended, but wrote after one that goes on, is behind.
    """

    def __init__(self, initial_state: Any) -> None:
        super().__init__(initial_state)
        self._kept: BaseModel = initial_state
        self._versions: list[_Version] = []
        self._passed_over: set[str] = set()

    async def _write_state(self, state: BaseModel, storage: Any = None) -> None:
        step = StepWorkerStateContextVar.get(None)
        authors = {step.state.invocation_id} if step is not None else set()
        await super()._write_state(state, storage)
        self._versions.append(_Version(state, {author for author in authors if author}))
        if len(self._versions) > 1:
            before, latest = self._versions[-2:]
            if before.authors == latest.authors or len(self._versions) > MAX_VERSIONS:
                latest.authors |= before.authors
                latest.has_ended |= before.has_ended
                del self._versions[-2]

    @property
    def is_behind(self) -> bool:
        """Whether what a step wrote that has ended is not to be kept yet."""
        return any(version.has_ended for version in self._versions)

    def end_step(self, invocation_id: str | None) -> bool:
        """Return whether there is more to be kept now that a step has ended."""
        for version in self._versions:
            if invocation_id in version.authors:
                version.authors.discard(invocation_id)
                version.has_ended = True
        self._passed_over.discard(invocation_id or "")
        return self._keep()

    def catch_up(self) -> None:
        """Keep all that was written; what steps that go on have written is among it."""
        for version in self._versions:
            self._passed_over |= version.authors
        self._keep()

    def _keep(self) -> bool:
        changed = False
        while self._versions and self._versions[0].authors <= self._passed_over:
            self._kept = self._versions.pop(0).state
            changed = True
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
