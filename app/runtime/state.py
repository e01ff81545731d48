"""The `ctx.store` of a run, which knows whether a step has written to it."""

import json
from typing import Any

from workflows.context.serializers import BaseSerializer
from workflows.context.state_store import InMemoryStateStore

from app.runtime.encoding import NotSerializable

UNRESTORABLE = b""  # kept in place of a state that could not be encoded; it cannot be decoded


class TrackedState(InMemoryStateStore[Any]):
    """The engine's in-memory state, encoded once a step and only where the step wrote to it."""

    changed = False

    async def _write_state(self, state: Any, storage: Any = None) -> None:
        self.changed = True
        await super()._write_state(state, storage)

    def encode(self, serializer: BaseSerializer) -> bytes:
        """Return the state as JSON and note that it was; `NotSerializable` where it cannot be."""
        self.changed = False
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
