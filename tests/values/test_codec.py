"""What a run holds comes back equal, in type and value, or is refused by name."""

import asyncio

import pytest
from workflows.context.state_store import DictState

from tests.users.files.equality import describe
from tests.users.files.kinds import KINDS
from workflow_server.app.engine.state import TrackedState
from workflow_server.app.engine.values.codec import Codec
from workflow_server.app.engine.values.older import OlderSerializer


@pytest.mark.parametrize("kind", KINDS)
def test_a_value_of_each_kind_comes_back_equal_in_type_and_value(kind: str) -> None:
    codec, value = Codec(), KINDS[kind]
    before = describe(value)
    again = Codec().deserialize(codec.serialize(value))
    assert describe(again) == before
    assert codec.serialize(again) == codec.serialize(value)


@pytest.mark.parametrize("key", ["memory", "other", "!"])
def test_a_state_comes_back_with_every_key(key: str) -> None:
    codec = Codec()
    state = DictState(**{key: KINDS})
    encoded = TrackedState(state).encode(codec)
    again = TrackedState.decode(encoded, codec, OlderSerializer(codec.classes))
    assert describe(asyncio.run(again.get_state())) == describe(state)
