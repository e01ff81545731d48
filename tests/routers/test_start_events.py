"""Start events whose own serializer fails: they are kept all the same."""

from typing import Any

from pydantic import Field, SecretStr, model_serializer
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

from tests.support.calls import run
from tests.support.live import serve_workflow


class Tool:
    """An object of the program, which no JSON can carry."""


class Begin(StartEvent):
    """Its serializer reads what a client may leave out."""

    token: SecretStr = SecretStr("")
    hidden: int = Field(default=1, exclude=True)

    @model_serializer()
    def serialize(self) -> dict[str, Any]:
        return {"user_msg": self.user_msg, "chat_history": self.chat_history}


class Talks(Workflow):
    @step
    async def talk(self, ev: Begin) -> StopEvent:
        return StopEvent(result=[ev.get("user_msg"), ev.get("chat_history")])


class Equips(Talks):
    """Gives its start event what JSON cannot carry."""

    def run(self, *args: Any, **kwargs: Any) -> Any:
        return super().run(*args, kit={"tools": [Tool()]}, **kwargs)


class Begun(StartEvent):
    """Serializes to no object."""

    @model_serializer()
    def serialize(self) -> str:
        return "begun"


class Begins(Workflow):
    @step
    async def begin(self, ev: Begun) -> StopEvent:
        return StopEvent(result=ev.get("user_msg"))


async def test_a_start_event_whose_serializer_fails_starts_a_run() -> None:
    async with serve_workflow(Talks()) as client:
        handler = await run(client, "it", user_msg="hi", token="secret")
        kept = (await client.get(f"/handlers/{handler['handler_id']}")).json()["start_event"]
    assert handler["result"]["value"]["result"] == ["hi", None]
    assert kept["value"] == {"token": "**********", "user_msg": "hi"}


async def test_one_that_serializes_to_no_object_starts_a_run() -> None:
    async with serve_workflow(Begins()) as client:
        handler = await run(client, "it", user_msg="hi")
        kept = (await client.get(f"/handlers/{handler['handler_id']}")).json()["start_event"]
    assert handler["result"]["value"]["result"] == "hi"
    assert kept["value"] == {"user_msg": "hi"}


async def test_what_cannot_be_kept_of_it_is_named() -> None:
    async with serve_workflow(Equips()) as client:
        handler = await run(client, "it", user_msg="hi")
        kept = (await client.get(f"/handlers/{handler['handler_id']}")).json()["start_event"]
    assert handler["result"]["value"]["result"] == ["hi", None]
    assert kept["value"] == {"token": "", "user_msg": "hi"}
    assert handler["not_resumable_because"] == (
        "its start event cannot be stored: Begin.kit['tools'][0] (of class Tool)"
    )
