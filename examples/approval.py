"""A decision that waits for a person.

The first step returns a question, and with it the run goes idle: for seconds or for weeks, since
the workflow has no timeout. The second step takes the person's answer, which arrives from outside,
and ends the run. What was asked for is kept in typed state while nobody is at work.
"""

from typing import Literal

from pydantic import BaseModel, Field
from workflows import Context, Workflow, step
from workflows.events import HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent


class Expense(StartEvent):
    """An expense that somebody has to approve."""

    purpose: str = Field(
        description="What the money is for.", examples=["Train tickets to the conference"]
    )
    amount: float = Field(gt=0, description="How much it costs, in euros.", examples=[240.5])


class ApprovalRequired(InputRequiredEvent):
    """The question to the person; a `Decision` answers it."""

    question: str = Field(
        description="The question, ready to be shown.",
        examples=["Approve 240.50 € for: Train tickets to the conference?"],
    )


class Decision(HumanResponseEvent):
    """The person's answer."""

    approved: bool = Field(description="Whether the expense is approved.", examples=[True])
    comment: str = Field(
        default="", description="A word to the person who asked.", examples=["Second class, please"]
    )


class Decided(StopEvent):
    """What was decided about which expense."""

    outcome: Literal["approved", "rejected"] = Field(
        description="The decision.", examples=["approved"]
    )
    purpose: str = Field(
        description="What the money is for.", examples=["Train tickets to the conference"]
    )
    comment: str = Field(
        description="What the person said about it.", examples=["Second class, please"]
    )


class Pending(BaseModel):
    """What a run remembers while it waits."""

    purpose: str = ""


class Approval(Workflow):
    """Asks a person to approve an expense."""

    @step
    async def ask(self, ctx: Context[Pending], ev: Expense) -> ApprovalRequired:
        await ctx.store.set_state(Pending(purpose=ev.purpose))
        return ApprovalRequired(question=f"Approve {ev.amount:.2f} € for: {ev.purpose}?")

    @step
    async def decide(self, ctx: Context[Pending], ev: Decision) -> Decided:
        pending = await ctx.store.get_state()
        return Decided(
            outcome="approved" if ev.approved else "rejected",
            purpose=pending.purpose,
            comment=ev.comment,
        )


approval = Approval(timeout=None)
