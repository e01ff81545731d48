"""Runs of every kind, each with a result that can be checked.

A step that begins its work adds a line to the file that `CRASH_EFFECTS` names: `TIME NAME WORK
PROCESS`, where `NAME` is the run's and the time is the machine's monotonic clock, which all
processes share.
"""

import asyncio
import os
import random
import time
from typing import Annotated

from pydantic import BaseModel
from workflows import Context, Workflow, step
from workflows.collect import Collect
from workflows.events import (
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StopEvent,
)
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed

EFFECTS = os.environ.get("CRASH_EFFECTS", os.devnull)
WORK = 0.06  # seconds that a work takes at most
RETRY_DELAY = 0.2
PARTS = 20  # of a storm
LOAD = 2 << 20  # bytes of a large event
COUNTS = 3  # of each part of a `Rester`
LONG_PARTS = 2
PATIENCE = retry_policy(wait=wait_fixed(RETRY_DELAY), stop=stop_after_attempt(9))


def note_effect(name: str, work: int | str) -> None:
    """Write down that a step does some work."""
    line = f"{time.monotonic()} {name} {work} {os.getpid()}\n".encode()
    file = os.open(EFFECTS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, line)  # one write: a process that is killed leaves a whole line or none
    finally:
        os.close(file)


async def work() -> None:
    """Take a little while."""
    await asyncio.sleep(random.random() * WORK)


class Begin(StartEvent):
    name: str
    size: int


class Progress(BaseModel):
    name: str = ""
    size: int = 0
    count: int = 0
    words: list[str] = []


class Part(Event):
    index: int


class Done(Event):
    """Work that is finished, as the readers of a stream learn: what comes later says so."""

    works: list[str]


class Token(Event):
    index: int


class Gust(Event):
    """An event of a storm, and the first one of its part."""

    index: int
    first: int


class Load(Event):
    index: int
    text: str


class Attempt(Event):
    number: int
    first_at: float


class Question(InputRequiredEvent):
    prompt: str


class Answer(HumanResponseEvent):
    text: str
    to: str = ""


class Word(HumanResponseEvent):
    text: str


class Walker(Workflow):
    """Takes one step after the other; its counter counts those that were finished."""

    @step
    async def begin(self, ctx: Context[Progress], ev: Begin) -> Part:
        async with ctx.store.edit_state() as state:
            state.name, state.size = ev.name, ev.size
        return Part(index=0)

    @step
    async def walk(self, ctx: Context[Progress], ev: Part) -> Part | StopEvent:
        ctx.write_event_to_stream(Done(works=[str(index) for index in range(ev.index)][-3:]))
        async with ctx.store.edit_state() as state:
            state.count += 1
        note_effect(state.name, ev.index)
        await work()
        if ev.index + 1 == state.size:
            return StopEvent(result=state.count)
        return Part(index=ev.index + 1)


class Streamer(Workflow):
    """Writes tokens, in a step that is cut off and begins again."""

    @step
    async def stream(self, ctx: Context, ev: Begin) -> StopEvent:
        for index in range(ev.size):
            ctx.write_event_to_stream(Token(index=index))
            if index % 10 == 0:
                await asyncio.sleep(0.005)
        return StopEvent(result=ev.size)


class Stormer(Workflow):
    """Writes very many events, in steps that are cut off and begin again."""

    @step
    async def begin(self, ctx: Context[Progress], ev: Begin) -> Part:
        async with ctx.store.edit_state() as state:
            state.size = ev.size
        return Part(index=0)

    @step
    async def blow(self, ctx: Context[Progress], ev: Part) -> Part | StopEvent:
        size = (await ctx.store.get_state()).size
        last = min(ev.index + size // PARTS, size)
        for index in range(ev.index, last):
            ctx.write_event_to_stream(Gust(index=index, first=ev.index))
            if index % 100 == 0:
                await asyncio.sleep(0)
        return Part(index=last) if last < size else StopEvent(result=size)


class Heaver(Workflow):
    """Passes large events from step to step, each another one, and waits in the end."""

    @step
    async def begin(self, ctx: Context[Progress], ev: Begin) -> Load:
        async with ctx.store.edit_state() as state:
            state.name, state.size = ev.name, ev.size
        return Load(index=0, text="")

    @step
    async def heave(self, ctx: Context[Progress], ev: Load) -> Load | Question:
        state = await ctx.store.get_state()
        note_effect(state.name, ev.index)
        if ev.index == state.size:
            return Question(prompt="?")
        return Load(index=ev.index + 1, text=os.urandom(LOAD // 2).hex())

    @step
    async def end(self, ev: Answer) -> StopEvent:
        return StopEvent()


class Fan(Workflow):
    """Works on parts in parallel, and joins them; its counter counts the finished ones."""

    @step
    async def split(self, ctx: Context[Progress], ev: Begin) -> list[Part]:
        async with ctx.store.edit_state() as state:
            state.name, state.size = ev.name, ev.size
        return [Part(index=index) for index in range(ev.size)]

    @step(num_workers=6)
    async def square(self, ctx: Context[Progress], ev: Part) -> Token:
        state = await ctx.store.get_state()
        note_effect(state.name, ev.index)
        await work()
        async with ctx.store.edit_state() as state:
            state.count += 1
        return Token(index=ev.index**2)

    @step
    async def join(
        self, ctx: Context[Progress], evs: Annotated[list[Token], Collect()]
    ) -> StopEvent:
        state = await ctx.store.get_state()
        ctx.write_event_to_stream(Done(works=[str(index) for index in range(state.size)]))
        await work()
        return StopEvent(result=[state.count, sorted(ev.index for ev in evs)])


class Rester(Workflow):
    """Counts in parts side by side, each of which rests before, between and after its counting.

    Most are short; the first two take seconds, so that others end meanwhile, and crashes come.
    """

    @step
    async def split(self, ctx: Context[Progress], ev: Begin) -> list[Part]:
        return [Part(index=index) for index in range(ev.size)]

    @step(num_workers=6)
    async def count(self, ctx: Context[Progress], ev: Part) -> Token:
        longest = 1.0 if ev.index < LONG_PARTS else 0.1
        for _ in range(COUNTS):
            await asyncio.sleep(random.random() * longest)
            async with ctx.store.edit_state() as state:
                state.count += 1
                state.words = [*state.words, str(ev.index)]
        await asyncio.sleep(random.random() * longest)
        return Token(index=ev.index)

    @step
    async def join(
        self, ctx: Context[Progress], evs: Annotated[list[Token], Collect()]
    ) -> StopEvent:
        state = await ctx.store.get_state()
        return StopEvent(result=[state.count, sorted(state.words)])


class Asker(Workflow):
    """Asks one question after the other, and returns the answers."""

    @step
    async def begin(self, ctx: Context[Progress], ev: Begin) -> Question:
        async with ctx.store.edit_state() as state:
            state.size = ev.size
        return Question(prompt="0")

    @step
    async def take(self, ctx: Context[Progress], ev: Answer) -> Question | StopEvent:
        async with ctx.store.edit_state() as state:
            state.words = [*state.words, ev.text]
        await work()
        if len(state.words) == state.size:
            return StopEvent(result=state.words)
        return Question(prompt=str(len(state.words)))


class Waiter(Workflow):
    """Asks inside one step, for answers to that very question."""

    @step
    async def wait(self, ctx: Context, ev: Begin) -> StopEvent:
        words = []
        for index in range(ev.size):
            answer = await ctx.wait_for_event(
                Answer,
                waiter_event=Question(prompt=str(index)),
                waiter_id=f"question {index}",
                requirements={"to": str(index)},
            )
            words.append(answer.text)
        return StopEvent(result=words)


class Retrier(Workflow):
    """Fails `size` times; its counter counts the attempts."""

    @step(retry_policy=PATIENCE)
    async def attempt(self, ctx: Context[Progress], ev: Begin) -> StopEvent:
        retry = ctx.retry_info()
        first_at = time.time() - retry.elapsed_seconds
        ctx.write_event_to_stream(Attempt(number=retry.retry_number, first_at=first_at))
        async with ctx.store.edit_state() as state:
            state.count += 1
        note_effect(ev.name, retry.retry_number)
        await work()
        if retry.retry_number < ev.size:
            raise ValueError("not yet")
        return StopEvent(result=[state.count, retry.retry_number])


class Timer(Workflow):
    """Waits for an answer that never comes, for tenths of a second."""

    @step
    async def wait(self, ctx: Context, ev: Begin) -> StopEvent:
        try:
            await ctx.wait_for_event(Answer, waiter_id="never", timeout=ev.size / 10)
        except TimeoutError:
            return StopEvent(result="timed out")
        return StopEvent(result="answered")


class Gatherer(Workflow):
    """Gathers the words that are sent to it, one after the other, until one is empty."""

    @step
    async def begin(self, ctx: Context[Progress], ev: Begin) -> None:
        async with ctx.store.edit_state() as state:
            state.name = ev.name

    @step(num_workers=1)
    async def gather(self, ctx: Context[Progress], ev: Word) -> StopEvent | None:
        async with ctx.store.edit_state() as state:
            if not ev.text:
                return StopEvent(result=state.words)
            state.words = [*state.words, ev.text]
        await work()
        return None


class Talker(Workflow):
    """Counts the runs of its handler in its state."""

    @step
    async def turn(self, ctx: Context[Progress], ev: Begin) -> StopEvent:
        async with ctx.store.edit_state() as state:
            state.count += 1
        await work()
        return StopEvent(result=state.count)


KINDS: tuple[type[Workflow], ...] = (
    Walker,
    Streamer,
    Stormer,
    Heaver,
    Fan,
    Rester,
    Asker,
    Waiter,
    Retrier,
    Timer,
    Gatherer,
    Talker,
)
