"""A conversation that keeps its state over several runs.

Each message is a run of its own. A run that is started with the `handler_id` of an earlier one
begins with the state in which that one ended, so the answer knows the turn and what was said before
it. Another `handler_id` is another conversation.
"""

from pydantic import BaseModel, Field
from workflows import Context, Workflow, step
from workflows.events import StartEvent, StopEvent


class Message(StartEvent):
    """The next thing that is said."""

    message: str = Field(description="What is said.", examples=["I am Ada."])


class Reply(StopEvent):
    """The answer to a message."""

    turn: int = Field(description="The number of the message, from 1.", examples=[2])
    message: str = Field(description="What was said.", examples=["Who am I?"])
    said_before: list[str] = Field(
        description="All that was said before, oldest first.", examples=[["I am Ada."]]
    )


class Memory(BaseModel):
    """What a conversation remembers."""

    messages: list[str] = []


class Conversation(Workflow):
    """Remembers what was said to it."""

    @step
    async def reply(self, ctx: Context[Memory], ev: Message) -> Reply:
        async with ctx.store.edit_state() as memory:
            said_before = list(memory.messages)
            memory.messages.append(ev.message)
        return Reply(turn=len(said_before) + 1, message=ev.message, said_before=said_before)


conversation = Conversation()
