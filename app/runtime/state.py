"""The `ctx.store` of a run, which knows whether a step has written to it."""

import json
from typing import Any

from workflows.context.serializers import BaseSerializer
from workflows.context.state_store import InMemoryStateStore
from workflows.runtime.types.results import StepWorkerStateContextVar

from app.runtime.encoding import NotSerializable

UNRESTORABLE = b""  # kept in place of a state that could not be encoded; it cannot be decoded


class TrackedState(InMemoryStateStore[Any]):
    """The engine's in-memory state, encoded once a step and only where the step wrote to it.

    Steps that run in parallel write to one state. `unfinished` are those that wrote and have not
    ended: kept now, the state would hold their writes, and they would write again when resumed.
    """

    def __init__(self, initial_state: Any) -> None:
        super().__init__(initial_state)
        self.unfinished: set[str] = set()
        self._has_other_writes = False

    async def _write_state(self, state: Any, storage: Any = None) -> None:
        step = StepWorkerStateContextVar.get(None)
        if step is not None and step.state.invocation_id is not None:
            self.unfinished.add(step.state.invocation_id)
        else:
            self._has_other_writes = True
        await super()._write_state(state, storage)

    def end_step(self, invocation_id: str | None) -> bool:
        """Return whether the state is to be kept with the end of this step."""
        wrote = invocation_id in self.unfinished or self._has_other_writes
        self.unfinished.discard(invocation_id or "")
        self._has_other_writes = False
        return wrote

    def encode(self, serializer: BaseSerializer) -> bytes:
        """Return the state as JSON; `NotSerializable` where it cannot be."""
        try:
            return json.dumps(self.to_dict(serializer)).encode("ascii")
        except (TypeError, ValueError, RecursionError) as error:
            raise NotSerializable(str(error)) from error

    @classmethod
    def decode(cls, state: bytes, serializer: BaseSerializer) -> "TrackedState":
        """Return the state that was encoded; ValueError where it cannot be built again."""
        restored = cls.from_dict(json.loads(state), serializer)
        assert isinstance(restored, cls)
        return restored
