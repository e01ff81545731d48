"""A value that does not come back now holds its run, which goes on when it comes back again."""

import base64
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from workflows import Context, Workflow, step
from workflows.context.serializers import BaseSerializer
from workflows.events import HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent

from tests.durability.restarts import restarting
from tests.support.calls import Json, result_of, send, start, wait_phase
from workflow_server.app.server import register_type
from workflow_server.stores.base import Store

SENTENCE = "The run could not be resumed: what is stored of it does not fit the code; {}."
is_broken = False  # what values need to come back: a vault that they ask, or code that fits


def ask_vault() -> None:
    """Raise while what values need is broken."""
    if is_broken:
        raise ConnectionError("the vault is sealed")


class Ask(InputRequiredEvent):
    pass


class Reply(HumanResponseEvent):
    pass


class Sealed:
    """A value that is loaded by a function that fails."""


class Other:
    """A value that is loaded as one of another class."""


class Pickled:
    """A value of the workflow's own serializer, whose `__setstate__` fails."""

    def __init__(self) -> None:
        self.text = "given"

    def __setstate__(self, state: dict[str, Any]) -> None:
        ask_vault()
        vars(self).update(state)


@dataclass(eq=False)
class Key:
    """A key whose hash fails."""

    text: str

    def __hash__(self) -> int:
        ask_vault()
        return hash(self.text)


@dataclass
class Folded:
    """A key that is equal to others, in another case, in another release."""

    text: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Folded) and (is_broken or other.text == self.text)

    def __hash__(self) -> int:
        return 0 if is_broken else hash(self.text)


def load_sealed(_stored: Any) -> Sealed:
    ask_vault()
    return Sealed()


def load_other(_stored: Any) -> Any:
    return Sealed() if is_broken else Other()


register_type(Sealed, dump=lambda _value: 1, load=load_sealed)
register_type(Other, dump=lambda _value: 1, load=load_other)


VALUES: dict[str, tuple[Callable[[], Any], str]] = {
    "loaded by a function that fails": (
        Sealed,
        "what is registered for Sealed raised ConnectionError: the vault is sealed",
    ),
    "loaded as another class": (Other, "Other is loaded as Sealed now"),
    "restored by a method that fails": (
        Pickled,
        "the workflow's serializer raised ConnectionError: the vault is sealed",
    ),
    "a key whose hash fails": (
        lambda: {Key("a"): 1},
        "a key of a dict raised ConnectionError: the vault is sealed",
    ),
    "members that are equal now": (
        lambda: {Folded("a"), Folded("A")},
        "two keys of a set are equal now",
    ),
    "keys that are equal now": (
        lambda: {Folded("a"): 1, Folded("A"): 2},
        "two keys of a dict are equal now",
    ),
}


class Pickles(BaseSerializer):
    """A serializer that holds everything."""

    def serialize(self, value: Any) -> str:
        return base64.b64encode(pickle.dumps(value)).decode()

    def deserialize(self, value: str) -> Any:
        return pickle.loads(base64.b64decode(value))


class Holder(Workflow):
    """Waits with a value in its state, and tells of what class that is when it is answered."""

    def __init__(self, make: Callable[[], Any]) -> None:
        super().__init__(timeout=None)
        self._make = make

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> Ask:
        await ctx.store.set("it", self._make())
        return Ask()

    @step
    async def tell(self, ctx: Context, ev: Reply) -> StopEvent:
        it = await ctx.store.get("it")
        return StopEvent(result=[type(it).__name__, len(it) if isinstance(it, dict | set) else 1])


class Pickler(Holder):
    """One that is given a serializer of its own."""

    def __init__(self, make: Callable[[], Any]) -> None:
        Workflow.__init__(self, timeout=None, serializer=Pickles())
        self._make = make


@pytest.mark.parametrize("kind", VALUES)
async def test_it_holds_its_run_by_a_sentence_and_is_itself_when_it_comes_back_again(
    store: Store, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, reason = VALUES[kind]
    expected = [type(make()).__name__, len(make()) if isinstance(make(), dict | set) else 1]
    workflow = Pickler(make) if make is Pickled else Holder(make)
    async with restarting(store, it=workflow) as restarts:
        handler_id = await start(restarts.client, "it")
        await wait_phase(restarts.client, handler_id, "waiting")
        handler: Json = (await restarts.client.get(f"/handlers/{handler_id}")).json()
        assert handler["resumable"] is True
        await restarts.restart()
        monkeypatch.setattr(f"{__name__}.is_broken", True)
        refused = await send(restarts.client, handler_id, "Reply", {})
        assert not refused.is_success
        await wait_phase(restarts.client, handler_id, "held")
        handler = (await restarts.client.get(f"/handlers/{handler_id}")).json()
        assert (handler["status"], handler["held_because"]) == ("running", SENTENCE.format(reason))
        monkeypatch.setattr(f"{__name__}.is_broken", False)
        assert (await send(restarts.client, handler_id, "Reply", {})).is_success
        assert await result_of(restarts.client, handler_id) == expected
