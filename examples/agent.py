"""An agent: a model chooses tools until it has an answer, and a person has a say.

The model is a script, so that the example needs no key and no network; `ask_model` is the one place
where a real one goes. A tool that only looks something up is called at once. Before the one that
pays money back a person is asked, for as long as it takes, since the workflow has no timeout.
"""

import re
from typing import Literal

from pydantic import BaseModel, Field
from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent

PAID = {7: 49.9, 8: 12.0}  # euros, by the number of the order


class Request(StartEvent):
    """What a customer asks for."""

    message: str = Field(
        default="Please refund my order 7.",
        description="What the customer says.",
        examples=["Please refund my order 7."],
    )


class ToolCall(Event):
    """A tool that the model chose, and what it is called with."""

    tool: Literal["look_up", "refund"]
    order: int


class ToolResult(Event):
    """What a tool returned."""

    tool: str
    text: str


class PermissionRequired(InputRequiredEvent):
    """The question to the person; a `Permission` answers it."""

    question: str = Field(
        description="The question, ready to be shown.", examples=["Refund 49.90 € for order 7?"]
    )


class Permission(HumanResponseEvent):
    """The person's answer."""

    granted: bool = Field(description="Whether the tool may be called.", examples=[True])


class Answer(StopEvent):
    """What the agent tells the customer."""

    message: str = Field(description="The answer.", examples=["Order 7: 49.90 € were paid back."])
    tools: list[str] = Field(
        description="The tools that were called, in their order.", examples=[["look_up", "refund"]]
    )


class Message(BaseModel):
    """Something that was said, by the customer or by a tool."""

    author: str
    text: str


class Chat(BaseModel):
    """What was said since the customer spoke, and the call that waits for a person."""

    turn: list[Message] = []
    pending: ToolCall | None = None


async def ask_model(turn: list[Message]) -> ToolCall | str:
    """Return the tool that is to be called next, or the answer."""
    request, last = turn[0], turn[-1]
    number = re.search(r"\d+", request.text)
    if number is None:
        return "Which order is it? Please tell me its number."
    if last is request:
        return ToolCall(tool="look_up", order=int(number[0]))
    if last.author == "look_up" and "paid" in last.text:
        return ToolCall(tool="refund", order=int(number[0]))
    return last.text


class Agent(Workflow):
    """Looks orders up, and refunds them if a person agrees."""

    @step
    async def think(self, ctx: Context[Chat], ev: Request | ToolResult) -> ToolCall | Answer:
        async with ctx.store.edit_state() as chat:
            if isinstance(ev, Request):
                chat.turn = [Message(author="customer", text=ev.message)]
            else:
                chat.turn.append(Message(author=ev.tool, text=ev.text))
        decision = await ask_model(chat.turn)
        if isinstance(decision, ToolCall):
            return decision
        return Answer(message=decision, tools=[said.author for said in chat.turn[1:]])

    @step
    async def act(self, ctx: Context[Chat], ev: ToolCall) -> ToolResult | PermissionRequired:
        ctx.write_event_to_stream(ev)
        paid = PAID.get(ev.order)
        if ev.tool == "refund":
            async with ctx.store.edit_state() as chat:
                chat.pending = ev
            return PermissionRequired(question=f"Refund {paid:.2f} € for order {ev.order}?")
        found = "There is no such order." if paid is None else f"{paid:.2f} € were paid."
        return ToolResult(tool=ev.tool, text=f"Order {ev.order}: {found}")

    @step
    async def refund(self, ctx: Context[Chat], ev: Permission) -> ToolResult | None:
        async with ctx.store.edit_state() as chat:
            call, chat.pending = chat.pending, None
        if call is None:
            return None
        done = "were paid back" if ev.granted else "were not paid back"
        text = f"Order {call.order}: {PAID[call.order]:.2f} € {done}."
        return ToolResult(tool=call.tool, text=text)


agent = Agent(timeout=None)
