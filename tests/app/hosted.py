"""Applications that serve a `WorkflowServer` in each way in which another server can.

Imported by servers in processes of their own: `STORE` and `GRACE` are variables of theirs. `MARKS`,
where it is set, is the file in which handlers of signals that are the user's write that they ran.
"""

import asyncio
import os
import signal
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import FrameType

from fastapi import FastAPI
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

from tests.support.workflows import add_all
from workflow_server.app.server import WorkflowServer


class Blocks(Workflow):
    """Keeps the event loop once the file `MARKS.go` is there."""

    @step
    async def block(self, ev: StartEvent) -> StopEvent:
        while not Path(f"{os.environ['MARKS']}.go").exists():  # noqa: ASYNC110  # another process makes it
            await asyncio.sleep(0.02)
        mark("blocked")
        time.sleep(3600)  # noqa: ASYNC251  # it is the fault that is tested
        return StopEvent(result="at last")


class Threaded(Workflow):
    """Has a step in a thread that never returns, which nothing can cancel."""

    @step
    def hold(self, ev: StartEvent) -> StopEvent:
        mark("held")
        threading.Event().wait()
        return StopEvent(result="at last")


server = WorkflowServer(
    workflow_store=os.environ["STORE"], shutdown_timeout=float(os.environ["GRACE"])
)
add_all(server)
server.add_workflow("blocks", Blocks(timeout=None))
server.add_workflow("threaded", Threaded(timeout=None))
app = server.app


def mark(text: str) -> None:
    """Write down that a handler ran."""
    with Path(os.environ["MARKS"]).open("a", encoding="utf-8") as marks:
        marks.write(f"{text}\n")


@asynccontextmanager
async def lifespan(_site: FastAPI) -> AsyncIterator[None]:
    """Start and stop the server with the site."""
    async with server.contextmanager():
        yield


@asynccontextmanager
async def handling_lifespan(_site: FastAPI) -> AsyncIterator[None]:
    """Handle signals before the server does, by Python and by the event loop."""
    loop = asyncio.get_running_loop()
    present = signal.getsignal(signal.SIGTERM)

    def handle(number: int, frame: FrameType | None) -> None:
        mark("python")
        assert callable(present)
        present(number, frame)

    signal.signal(signal.SIGTERM, handle)
    loop.add_signal_handler(signal.SIGINT, lambda: mark("loop"))
    async with server.contextmanager():
        yield
    mark("given back" if signal.getsignal(signal.SIGTERM) is handle else "kept")


@asynccontextmanager
async def own_lifespan(_site: FastAPI) -> AsyncIterator[None]:
    """Stop the server, which starts itself."""
    yield
    await server.stop()


def mount(**options: object) -> FastAPI:
    """Return a site that has the server mounted."""
    site = FastAPI(**options)  # type: ignore[arg-type]  # a lifespan, or nothing
    site.mount("/flows", server.app)
    return site


mounted = mount()
mounted_with_lifespan = mount(lifespan=lifespan)
mounted_with_handlers = mount(lifespan=handling_lifespan)
mounted_and_stopped = mount(lifespan=own_lifespan)

if os.environ.get("EARLY"):
    # Before uvicorn takes the signals: it passes them on when it has ended.
    signal.signal(signal.SIGTERM, lambda _number, _frame: mark("early"))
