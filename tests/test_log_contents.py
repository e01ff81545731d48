"""The log says what happened to which run, and nothing of what workflows carry or clients know."""

import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from textwrap import dedent
from typing import Any

import httpx
import pytest

from tests.support.backends import FRESH_URLS
from tests.support.calls import send, start, wait_ended, wait_question
from tests.support.command import RunningServer, serving, write
from tests.support.credentials import AUDIENCE, ISSUER, KeyBook, bearer, claims, run_provider, sign
from tests.support.streams import Frame, read_until
from tests.support.waiting import DEADLINE
from workflow_server.app.access import Scope

# Part of all that clients send and workflows make of it; no name or id has it.
MARK = "XyzzyMark"
FLOWS = dedent("""
    import asyncio
    import logging

    from pydantic import BaseModel
    from workflows import Context, Workflow, step
    from workflows.events import Event, HumanResponseEvent, InputRequiredEvent
    from workflows.events import StartEvent, StopEvent

    logger = logging.getLogger(__name__)

    class Begin(StartEvent):
        text: str
        mode: str = "ask"

    class Question(InputRequiredEvent):
        prompt: str

    class Answer(HumanResponseEvent):
        text: str

    class Told(Event):
        text: str

    class Held(Event):
        pass

    class State(BaseModel):
        text: str = ""

    class Opaque:
        def __init__(self, text):
            self.text = text

        def __repr__(self):
            return self.text

    class Passed(Event):
        thing: object
        hold: bool = False

    class Flow(Workflow):
        @step
        async def begin(self, ctx: Context[State], ev: Begin) -> Question | StopEvent | Passed:
            logger.info("a line of the user's own")
            async with ctx.store.edit_state() as state:
                state.text = ev.text
            ctx.write_event_to_stream(Told(text=ev.text))
            match ev.mode:
                case "fail":
                    raise ValueError(ev.text)
                case "opaque":
                    return Passed(thing=Opaque(ev.text))
                case "opaque result":
                    return StopEvent(result=Opaque(ev.text))
                case "opaque stream":
                    ctx.write_event_to_stream(Passed(thing=Opaque(ev.text)))
                case "leave":
                    raise SystemExit(ev.text)
                case "opaque hold":
                    return Passed(thing=Opaque(ev.text), hold=True)
                case "hold":
                    ctx.write_event_to_stream(Held())
                    await asyncio.Event().wait()
            return Question(prompt=ev.text)

        @step
        async def take(self, ctx: Context[State], ev: Passed) -> StopEvent:
            if ev.hold:
                ctx.write_event_to_stream(Held())
                await asyncio.Event().wait()
            return StopEvent(result=str(ev.thing))

        @step
        async def answer(self, ev: Answer) -> StopEvent:
            return StopEvent(result=ev.text)

    flow = Flow(timeout=None)
    """)


@dataclass
class Watched:
    """A server whose whole log is read when it has ended."""

    server: RunningServer
    client: httpx.AsyncClient
    secrets: list[str]

    def read_log(self, *, by: int = signal.SIGTERM) -> list[dict[str, Any]]:
        """End the server, and return its log."""
        self.server.process.send_signal(by)
        text, _ = self.server.process.communicate(timeout=DEADLINE)
        lines = [*self.server.lines, *text.splitlines()]
        hidden = (MARK, *self.secrets)
        assert [line for line in lines if any(secret in line for secret in hidden)] == []
        return [json.loads(line) for line in lines if line.startswith("{")]


@pytest.fixture(params=["sqlite", "postgres"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """Yield the URL of a fresh store; that of Postgres has a password, needed or not."""
    async with FRESH_URLS[request.param](tmp_path) as url:
        yield url.replace("postgres@", f"postgres:{MARK}@")


@asynccontextmanager
async def watching(folder: Path, store: str, *flags: str) -> AsyncIterator[Watched]:
    """Yield a server that logs all it ever logs, closed by keys and tokens."""
    write(folder / "flows.py", FLOWS)
    book = KeyBook(folder / "keys.json")
    key = book.add(token_hex(4), Scope.ADMIN)
    with run_provider() as provider:
        variables = {
            "WORKFLOW_SERVER_STORE": store,
            "WORKFLOW_SERVER_API_KEYS_FILE": str(book.file),
            "WORKFLOW_SERVER_JWT_ISSUER": ISSUER,
            "WORKFLOW_SERVER_JWT_AUDIENCE": AUDIENCE,
            "WORKFLOW_SERVER_JWT_JWKS": provider.url,
            "WORKFLOW_SERVER_LOG_LEVEL": "debug",
            "WORKFLOW_SERVER_LOG_FORMAT": "json",
        }
        with serving(folder, "flows.py", *flags, **variables) as server:
            async with httpx.AsyncClient(
                base_url=server.url, headers=bearer(key), timeout=DEADLINE
            ) as client:
                yield Watched(server, client, [key])


async def run_all(client: httpx.AsyncClient) -> None:
    """Let runs end in every way."""
    for mode in ("fail", "opaque", "opaque result", "opaque stream", "leave"):
        await wait_ended(client, await start(client, "flow", text=MARK, mode=mode))
    asked = await start(client, "flow", "asked", text=MARK)
    sequence = await wait_question(client, asked, MARK)
    answered = await send(client, asked, "Answer", {"text": MARK}, reply_to=sequence)
    assert answered.status_code == 200
    assert (await wait_ended(client, asked))["result"]["value"]["result"] == MARK


async def send_nonsense(client: httpx.AsyncClient) -> None:
    """Send what is refused, with a mark wherever a client can put one."""
    refused = [
        await client.post("/workflows/flow/run", content=f'{{"a": {MARK}'),
        await client.post("/workflows/flow/run", json={"start_event": {"text": [MARK]}}),
        await client.post("/workflows/flow/run", json={"start_event": MARK}),
        await client.post("/workflows/flow/run", json={"context": {"a": MARK}}),
        await client.post("/workflows/flow/run-nowait", json={"handler_id": [MARK]}),
        await send(client, "asked", "Answer", {"a": MARK}),
        await send(client, "asked", MARK, {"text": MARK}),
        await client.get("/handlers", headers=bearer(MARK)),
        await client.get("/handlers", headers={"Authorization": MARK}),
        await client.get("/handlers", headers={**bearer(MARK), "X-API-Key": MARK}),
        await client.get("/handlers", headers={"X-Request-Id": f"{MARK} {MARK}", "Cookie": MARK}),
    ]
    assert [response.status_code >= 400 for response in refused] == [True] * 10 + [False]


async def ask_everything(client: httpx.AsyncClient) -> None:
    """Call every route that reads, and those that end a run."""
    await start(client, "flow", "kept", text=MARK)
    await read_until(client, "kept", lambda frame: frame.type == "Question")
    steps = (await client.get("/handlers/asked/steps")).json()["steps"]
    paths = await client.get("/openapi.json")
    for path, item in paths.json()["paths"].items():
        if "get" in item and not path.startswith("/events"):
            sequence = steps[0]["sequence"]
            filled = path.format(name="flow", handler_id="asked", sequence=sequence)
            assert (await client.get(filled)).status_code == 200, filled
    assert (await client.post("/handlers/kept/cancel")).status_code == 200
    assert (await client.post("/handlers/kept/cancel?purge=true")).status_code == 200


async def test_no_payload_and_no_secret_reaches_the_log(tmp_path: Path, store: str) -> None:
    async with watching(tmp_path, store) as watched:
        token = sign(claims(scope="admin", sub=MARK))
        watched.secrets.append(token.rpartition(".")[2])
        allowed = await watched.client.get("/handlers", headers=bearer(token))
        assert allowed.status_code == 200
        await run_all(watched.client)
        await send_nonsense(watched.client)
        await ask_everything(watched.client)
        log = watched.read_log()
    events = {line["event"] for line in log}
    [serving] = [line for line in log if line["event"] == "serving"]
    assert (serving["url"], serving["workflows"]) == (watched.server.url, ["flow"])
    assert {"run accepted", "run ended", "step failed", "run cannot be resumed"} <= events
    assert "a line of the user's own" in events


async def test_what_happened_to_a_run_can_be_read(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'runs.db'}"
    async with watching(tmp_path, store) as watched:
        response = await watched.client.post(
            "/workflows/flow/run",
            json={"handler_id": "one", "start_event": {"text": MARK, "mode": "fail"}},
            headers={"X-Request-Id": "request-1"},
        )
        run = {"handler_id": "one", "run_id": response.json()["run_id"]}
        log = watched.read_log()
    lines = [line for line in log if line.get("run_id") == run["run_id"]]
    assert [{key: line.get(key) for key in ("level", "event", "request_id")} for line in lines] == [
        {"level": "info", "event": "run accepted", "request_id": "request-1"},
        {"level": "info", "event": "a line of the user's own", "request_id": "request-1"},
        {"level": "warning", "event": "step failed", "request_id": "request-1"},
        {"level": "info", "event": "run ended", "request_id": None},
    ]
    assert [line["handler_id"] for line in lines] == ["one"] * 4
    failed, ended = lines[2:]
    place, _, number = failed["at"].rpartition(":")
    assert (failed["step"], failed["error"], ended["status"]) == ("begin", "ValueError", "failed")
    assert (tmp_path / "flows.py").read_text().split("\n")[int(number) - 1].strip() == (
        "raise ValueError(ev.text)"
    )
    assert Path(place).name == "flows.py"


@pytest.mark.parametrize(("flags", "is_shown"), [((), False), (("--log-tracebacks",), True)])
async def test_the_traceback_of_a_failed_step_is_in_the_log_where_it_is_asked_for(
    flags: tuple[str, ...], is_shown: bool, tmp_path: Path
) -> None:
    async with watching(tmp_path, "memory:", *flags) as watched:
        await start(watched.client, "flow", "one", text=MARK, mode="fail")
        await wait_ended(watched.client, "one")
        log = watched.read_log()
    (failed,) = [line for line in log if line["event"] == "step failed"]
    assert ("raise ValueError(ev.text)" in failed.get("exception", "")) is is_shown
    assert MARK not in json.dumps(log)


def is_resumption(frame: Frame) -> bool:
    return frame.type == "RunResumedEvent"


async def test_a_resumed_run_and_one_that_cannot_be_are_told(tmp_path: Path, store: str) -> None:
    async with watching(tmp_path, store) as watched:
        await start(watched.client, "flow", "held", text=MARK, mode="hold")
        await start(watched.client, "flow", "odd", text=MARK, mode="opaque hold")
        for handler_id in ("held", "odd"):
            await read_until(watched.client, handler_id, lambda frame: frame.type == "Held")
        watched.read_log(by=signal.SIGKILL)
    async with watching(tmp_path, store) as watched:
        assert (await wait_ended(watched.client, "odd"))["status"] == "failed"
        await read_until(watched.client, "held", is_resumption, include_internal=True)
        log = watched.read_log()
    told = [(line["handler_id"], line["event"]) for line in log if line["event"].startswith("run ")]
    assert sorted(told) == [
        *(("held", "run resumed"), ("odd", "run ended"), ("odd", "run not resumed"))
    ]
