"""A deploy of other code: runs go on with it, or are held until code that fits is there again."""

import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from string import Template

import httpx
import pytest
from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, StartEvent, StopEvent

from tests.durability.restarts import restarting
from tests.support.backends import DURABLE, FRESH_URLS, opened_store
from tests.support.calls import Json, result_of, send, start
from tests.support.command import serving, write
from tests.support.inspection import key_of
from tests.support.waiting import DEADLINE, until
from workflow_server.stores.base import Store

HEAD = """
import asyncio
from enum import Enum
from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, StartEvent, StopEvent
"""

# Each case has classes of its own, so that one file holds all of them.
RELEASE = """
class ${name}Color(Enum):
    RED = "red"

class ${name}Page(Event):
    text: str

class ${name}Answer(HumanResponseEvent):
    word: str

class ${name}(Workflow):
    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> ${name}Page:
        await ctx.store.set("color", ${name}Color.RED)
        return ${name}Page(text="page")

    @step
    async def turn(self, ctx: Context, ev: ${name}Page) -> ${name}Leaf:
        return ${name}Leaf(text=ev.text)

    @step
    async def review(self, ctx: Context, ev: ${name}Leaf) -> StopEvent:
        answer = await ctx.wait_for_event(${name}Answer, waiter_id="the answer")
        return StopEvent(result=[ev.text, answer.word])

served_${name} = ${name}(timeout=None)
"""
LEAF = "class ${name}Leaf(Event):\n    text: str\n"


UNREADABLE = "what is stored of it does not fit the code;"
FIELD = "Leaf(Event):\n    text: str"


@dataclass(frozen=True)
class Change:
    """A change of code: texts, and what takes their places; and why a run is held then, if it is.

    `${name}` is the name of the workflow, as in the release.
    """

    texts: Mapping[str, str]
    held_because: str | None = None


EMPTY: Mapping[str, str] = {}
CHANGES: dict[str, Change] = {
    "Same": Change(EMPTY),
    "StepAdded": Change(
        {
            "    @step\n    async def review": (
                "    @step\n    async def log(self, ctx: Context, ev: ${name}Page) -> None:\n"
                "        await ctx.store.set('logged', True)\n\n"
                "    @step\n    async def review"
            )
        }
    ),
    "EndedRenamed": Change({"async def turn": "async def turn_over"}),
    "EndedRemoved": Change(
        {
            "-> ${name}Page:": "-> ${name}Leaf:",
            'return ${name}Page(text="page")': 'return ${name}Leaf(text="page")',
            "    @step\n    async def turn(self, ctx: Context, ev: ${name}Page) -> ${name}Leaf:\n"
            "        return ${name}Leaf(text=ev.text)\n": "",
        }
    ),
    "WaitingRenamed": Change(
        {"async def review": "async def check"},
        "its step 'review' is gone; it waits there for WaitingRenamedAnswer.",
    ),
    "AnswerRenamed": Change(
        {"${name}Answer": "${name}Reply"},
        f"{UNREADABLE} there is no class 'workflow_files.app.AnswerRenamedAnswer' in what is"
        " loaded.",
    ),
    "DefaultAdded": Change({FIELD: f"{FIELD}\n    n: int = 0"}),
    "FieldAdded": Change(
        {FIELD: f"{FIELD}\n    n: int"},
        f"{UNREADABLE} FieldAddedLeaf has the field 'n' now, for which nothing was stored.",
    ),
    "MemberGone": Change(
        {"RED": "GREEN"}, f"{UNREADABLE} MemberGoneColor has no member 'RED' any more."
    ),
    "NotServed": Change(
        {"served_${name} = ${name}(timeout=None)": ""},
        "its workflow is no longer served as 'served_NotServed'.",
    ),
}
GOES_ON = [name for name, change in CHANGES.items() if change.held_because is None]
HELD = {name: change.held_because for name, change in CHANGES.items() if change.held_because}


def write_release(folder: Path, *, changed: bool) -> None:
    """Write the file that is served: the first release, or the one after the changes."""
    parts = [HEAD]
    for name, change in CHANGES.items():
        text = LEAF + RELEASE
        for old, new in change.texts.items() if changed else ():
            assert old in text
            text = text.replace(old, new)
        parts.append(Template(text).substitute(name=name))
    write(folder / "app.py", *parts)


@asynccontextmanager
async def deployed(
    folder: Path, url: str, *, changed: bool, ends_by: signal.Signals = signal.SIGTERM
) -> AsyncIterator[httpx.AsyncClient]:
    """Serve a release in a process of its own, which a signal ends after the block."""
    write_release(folder, changed=changed)
    with serving(folder, "app.py", "--store", url) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=DEADLINE) as client:
            yield client
        server.process.send_signal(ends_by)
        server.process.communicate(timeout=DEADLINE)


def tell_reason(handler: Json) -> str:
    """Return why a run is held, without what all such sentences begin with."""
    sentence: str = handler["held_because"]
    return sentence.removeprefix("The run could not be resumed: ")


async def read_phase(client: httpx.AsyncClient, handler_id: str) -> str:
    """Return where a run stands."""
    phase: str = (await client.get(f"/handlers/{handler_id}")).json()["phase"]
    return phase


async def wait_phase(client: httpx.AsyncClient, handler_id: str, phase: str) -> Json:
    """Return the handler when its run is in a phase."""

    async def is_there() -> bool:
        return await read_phase(client, handler_id) == phase

    await until(is_there)
    handler: Json = (await client.get(f"/handlers/{handler_id}")).json()
    return handler


@pytest.fixture(params=DURABLE)
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """Yield the URL of a store of each kind that outlives its servers."""
    async with FRESH_URLS[request.param](tmp_path) as url:
        yield url


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder for the file that is served."""
    folder = tmp_path / "served"
    folder.mkdir()
    return folder


async def test_runs_that_wait_go_on_with_other_code_or_are_held_and_go_on_with_their_own(
    folder: Path, url: str
) -> None:
    async with deployed(folder, url, changed=False) as client:
        for name in CHANGES:
            await start(client, f"served_{name}", name)
        for name in CHANGES:
            await wait_phase(client, name, "waiting")
    async with deployed(folder, url, changed=True) as client:
        for name in CHANGES:
            sent = await send(client, name, f"{name}Answer", {"word": "yes"})
            assert sent.is_success == (name in GOES_ON), sent.text
        results = {name: await result_of(client, name) for name in GOES_ON}
        assert results == {name: ["page", "yes"] for name in GOES_ON}
        held = {name: await wait_phase(client, name, "held") for name in HELD}
        assert {name: tell_reason(handler) for name, handler in held.items()} == HELD
    async with deployed(folder, url, changed=False) as client:
        for name in HELD:
            await wait_phase(client, name, "waiting")
            assert (await send(client, name, f"{name}Answer", {"word": "at last"})).is_success
        results = {name: await result_of(client, name) for name in HELD}
        assert results == {name: ["page", "at last"] for name in HELD}


class Leaf(Event):
    pass


class Reply(HumanResponseEvent):
    pass


class Waits(Workflow):
    """Waits for a reply, after another step."""

    @step
    async def turn(self, ev: StartEvent) -> Leaf:
        return Leaf()

    @step
    async def review(self, ctx: Context, ev: Leaf) -> StopEvent:
        await ctx.wait_for_event(Reply)
        return StopEvent(result="reviewed")


class WaitsOtherwise(Workflow):
    """What became of `Waits` in the next release."""

    @step
    async def turn_over(self, ev: StartEvent) -> Leaf:
        return Leaf()

    @step
    async def review(self, ctx: Context, ev: Leaf) -> StopEvent:
        await ctx.wait_for_event(Reply)
        return StopEvent(result="reviewed otherwise")


async def is_whole(store: Store, handler_id: str) -> bool:
    """Return whether a handler's run is written down whole."""
    record = await store.get_handler(key_of(handler_id))
    return record is not None and await store.get_snapshot(record.run_id) is not None


async def test_a_run_that_has_waited_for_a_moment_goes_on_with_other_code_after_a_crash(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workflow_server.app.scheduling.eviction.WHOLE_AFTER", 0.01)
    async with opened_store(url) as store, restarting(store, it=Waits(timeout=None)) as it:
        handler_id = await start(it.client, "it")
        await until(lambda: is_whole(store, handler_id))
        await it.restart(it=WaitsOtherwise(timeout=None))
        assert (await send(it.client, handler_id, "Reply", {})).is_success
        assert await result_of(it.client, handler_id) == "reviewed otherwise"
