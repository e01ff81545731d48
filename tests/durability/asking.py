"""Workflows that write their questions themselves, in steps that run more than once."""

import asyncio
from itertools import count
from typing import Any

from pydantic import BaseModel
from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed

TWICE = retry_policy(wait=wait_fixed(0), stop=stop_after_attempt(2))


class Ask(InputRequiredEvent):
    prompt: str


class Reply(HumanResponseEvent):
    text: str
    to: str = ""


class Heard(Event):
    text: str


class Written(Workflow):
    """Writes each question and waits, a step after the other."""

    @step
    async def one(self, ctx: Context, ev: StartEvent) -> Heard:
        ctx.write_event_to_stream(Ask(prompt="How old are you?"))
        return Heard(text=(await ctx.wait_for_event(Reply)).text)

    @step
    async def two(self, ctx: Context, ev: Heard) -> StopEvent:
        ctx.write_event_to_stream(Ask(prompt="Which food?"))
        return StopEvent(result=[ev.text, (await ctx.wait_for_event(Reply)).text])


class Reworded(Workflow):
    """Never words its question the same; its first step goes on without an end where it `holds`."""

    def __init__(self, *, holds: bool = False, begin: int = 1, **options: Any) -> None:
        super().__init__(**options)
        self.holds = holds
        self.times = count(begin)

    @step
    async def one(self, ctx: Context, ev: StartEvent) -> Heard:
        ctx.write_event_to_stream(Ask(prompt=f"One? ({next(self.times)})"))
        if self.holds:
            await asyncio.Event().wait()
        return Heard(text=(await ctx.wait_for_event(Reply)).text)

    @step
    async def two(self, ctx: Context, ev: Heard) -> StopEvent:
        ctx.write_event_to_stream(Ask(prompt=f"Two? ({next(self.times)})"))
        return StopEvent(result=[ev.text, (await ctx.wait_for_event(Reply)).text])


class Flooding(Workflow):
    """Asks where much that it has written is not committed yet."""

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        for _ in range(5):
            ctx.write_event_to_stream(Heard(text="x" * 300_000))
        ctx.write_event_to_stream(Ask(prompt="Well?"))
        reply = await ctx.wait_for_event(Reply)
        ctx.write_event_to_stream(Heard(text="x"))
        return StopEvent(result=[reply.text])


class Declared(Workflow):
    """Writes its question, and gives it to `wait_for_event` too."""

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        question = Ask(prompt="Well?")
        ctx.write_event_to_stream(question)
        reply = await ctx.wait_for_event(Reply, waiter_event=question)
        return StopEvent(result=[reply.text])


class Returned(Workflow):
    """Writes its question, and returns it too."""

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> Ask:
        ctx.write_event_to_stream(Ask(prompt="Well?"))
        return Ask(prompt="Well?")

    @step
    async def take(self, ev: Reply) -> StopEvent:
        return StopEvent(result=[ev.text])


class Series(Workflow):
    """Asks twice in one step, in the same words."""

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        texts = []
        for to in ("a", "b"):
            ctx.write_event_to_stream(Ask(prompt="Well?"))
            reply = await ctx.wait_for_event(Reply, waiter_id=to, requirements={"to": to})
            texts.append(reply.text)
        return StopEvent(result=texts)


class Fork(HumanResponseEvent):
    text: str


class Noted(BaseModel):
    asked: int = 0


class Batched(Workflow):
    """Asks twice, and then waits for the one answer and for the other."""

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        ctx.write_event_to_stream(Ask(prompt="Why?"))
        ctx.write_event_to_stream(Ask(prompt="Which?"))
        why = await ctx.wait_for_event(Reply)
        which = await ctx.wait_for_event(Fork)
        return StopEvent(result=[why.text, which.text])


class Remembered(Workflow):
    """Asks twice, remembers that in its state, and waits for the one answer and for the other."""

    @step
    async def ask(self, ctx: Context[Noted], ev: StartEvent) -> StopEvent:
        async with ctx.store.edit_state() as state:
            is_asked, state.asked = bool(state.asked), 2
        if not is_asked:
            ctx.write_event_to_stream(Ask(prompt="Why?"))
            ctx.write_event_to_stream(Ask(prompt="Which?"))
        why = await ctx.wait_for_event(Reply)
        which = await ctx.wait_for_event(Fork)
        return StopEvent(result=[why.text, which.text])


class Twofold(Workflow):
    """Asks twice, and waits for one answer."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.go_on = asyncio.Event()

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> Heard:
        ctx.write_event_to_stream(Ask(prompt="It will be sent."))
        ctx.write_event_to_stream(Ask(prompt="Send it?"))
        reply = await ctx.wait_for_event(Reply)
        await self.go_on.wait()
        return Heard(text=reply.text)

    @step
    async def end(self, ctx: Context, ev: Heard) -> StopEvent:
        reply = await ctx.wait_for_event(Reply, waiter_id="end")
        return StopEvent(result=[ev.text, reply.text])


class Impatient(Workflow):
    """Asks something else where nobody answers in time."""

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        ctx.write_event_to_stream(Ask(prompt="Quick?"))
        try:
            reply = await ctx.wait_for_event(Reply, requirements={"to": "quick"}, timeout=0.01)
        except TimeoutError:
            ctx.write_event_to_stream(Ask(prompt="Well?"))
            reply = await ctx.wait_for_event(Reply, requirements={"to": "slow"})
        return StopEvent(result=[reply.text])


class Careful(Workflow):
    """Knows which questions it has written, and writes none again."""

    @step
    async def ask(self, ctx: Context[Noted], ev: StartEvent) -> StopEvent:
        texts = []
        for number, to in enumerate(("a", "b")):
            async with ctx.store.edit_state() as state:
                is_asked, state.asked = state.asked > number, max(state.asked, number + 1)
            if not is_asked:
                ctx.write_event_to_stream(Ask(prompt="Well?"))
            reply = await ctx.wait_for_event(Reply, waiter_id=to, requirements={"to": to})
            texts.append(reply.text)
        return StopEvent(result=texts)


class Side(Event):
    name: str


class Side2(Event):
    name: str


class Sides(Workflow):
    """Asks in two steps at the same time, in the same words."""

    @step
    async def split(self, ctx: Context, ev: StartEvent) -> Side | Side2 | None:
        ctx.send_event(Side(name="a"))
        ctx.send_event(Side2(name="b"))
        return None

    @step
    async def left(self, ctx: Context, ev: Side) -> Heard:
        return await self.ask(ctx, ev.name)

    @step
    async def right(self, ctx: Context, ev: Side2) -> Heard:
        return await self.ask(ctx, ev.name)

    async def ask(self, ctx: Context, name: str) -> Heard:
        """Ask, and take what is said to this side."""
        ctx.write_event_to_stream(Ask(prompt="Well?"))
        reply = await ctx.wait_for_event(Reply, requirements={"to": name})
        return Heard(text=f"{name}: {reply.text}")

    @step
    async def join(self, ctx: Context, ev: Heard) -> StopEvent | None:
        heard = ctx.collect_events(ev, [Heard] * 2)
        return StopEvent(result=sorted(one.text for one in heard)) if heard else None


class Workers(Workflow):
    """Asks in two workers of one step, in the same words."""

    @step
    async def split(self, ctx: Context, ev: StartEvent) -> Side | None:
        ctx.send_event(Side(name="a"))
        ctx.send_event(Side(name="b"))
        return None

    @step(num_workers=2)
    async def ask(self, ctx: Context, ev: Side) -> Heard:
        ctx.write_event_to_stream(Ask(prompt="Well?"))
        reply = await ctx.wait_for_event(Reply, requirements={"to": ev.name})
        return Heard(text=f"{ev.name}: {reply.text}")

    @step
    async def join(self, ctx: Context, ev: Heard) -> StopEvent | None:
        heard = ctx.collect_events(ev, [Heard] * 2)
        return StopEvent(result=sorted(one.text for one in heard)) if heard else None


class Flaky(Workflow):
    """Fails once: before it waits, or after it was answered."""

    def __init__(self, *, after: bool, **options: Any) -> None:
        super().__init__(**options)
        self.after = after

    @step(retry_policy=TWICE)
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        is_first = not ctx.retry_info().retry_number
        ctx.write_event_to_stream(Ask(prompt="Well?"))
        if is_first and not self.after:
            raise ValueError("before")
        reply = await ctx.wait_for_event(Reply)
        if is_first:
            raise ValueError("after")
        return StopEvent(result=[reply.text])


class Insistent(Workflow):
    """Asks again, in the same words, where it does not like the answer."""

    @step(retry_policy=TWICE)
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        attempt = str(ctx.retry_info().retry_number)
        ctx.write_event_to_stream(Ask(prompt="A number?"))
        reply = await ctx.wait_for_event(
            Reply, waiter_id=f"attempt {attempt}", requirements={"to": attempt}
        )
        return StopEvent(result=[int(reply.text)])


class Overtaken(Workflow):
    """Is answered while the step that asked goes on, which then fails or is cut off."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.go_on = asyncio.Event()

    @step(retry_policy=TWICE)
    async def ask(self, ctx: Context, ev: StartEvent) -> Ask:
        ctx.write_event_to_stream(Ask(prompt="Well?"))
        if not ctx.retry_info().retry_number:
            await self.go_on.wait()
            raise ValueError("once")
        return Ask(prompt="Which food?")

    @step
    async def take(self, ev: Reply) -> StopEvent | None:
        return StopEvent(result=[ev.text]) if ev.to == "food" else None


class Hasty(Workflow):
    """Takes an answer in another step before the step that asked waits for one."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.go_on = asyncio.Event()

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        ctx.write_event_to_stream(Ask(prompt="Well?"))
        await self.go_on.wait()
        return StopEvent(result=[(await ctx.wait_for_event(Reply)).text])

    @step
    async def take(self, ev: Reply) -> None:
        """Take what is said."""


class Signal(Event):
    pass


class Signalled(Workflow):
    """Waits for a signal in the step that has asked; another step takes the answer."""

    def __init__(self, *, holds: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.go_on = asyncio.Event()
        if not holds:
            self.go_on.set()

    @step(retry_policy=TWICE)
    async def ask(self, ctx: Context, ev: StartEvent) -> Heard:
        ctx.write_event_to_stream(Ask(prompt="Well?"))
        if not self.go_on.is_set():
            await self.go_on.wait()
            raise ValueError("once")
        await ctx.wait_for_event(Signal)
        return Heard(text="signal")

    @step
    async def take(self, ev: Reply) -> Heard:
        return Heard(text=ev.text)

    @step
    async def join(self, ctx: Context, ev: Heard) -> StopEvent | None:
        heard = ctx.collect_events(ev, [Heard] * 2)
        return StopEvent(result=[one.text for one in heard]) if heard else None


class Confirmed(Workflow):
    """Is answered by events that do not say that they answer."""

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> Heard:
        ctx.write_event_to_stream(Ask(prompt="Well?"))
        await ctx.wait_for_event(Signal)
        return Heard(text="signal")

    @step
    async def ask_again(self, ctx: Context, ev: Heard) -> StopEvent:
        ctx.write_event_to_stream(Ask(prompt="Well?"))
        await ctx.wait_for_event(Signal)
        return StopEvent(result=["confirmed"])
