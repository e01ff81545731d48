"""Drives a server with the Python client of any release, and writes what that client saw.

Called as `python -m tests.clients.drive_release MODULE URL` where the release is on the path: the
module is the one that its `WorkflowClient` is in. As in a script of a user, the events are classes
of this file.
"""

import asyncio
import json
import sys
from importlib import import_module
from typing import Any
from uuid import uuid4

import httpx
from pydantic import ValidationError
from workflows import Context, Workflow, step
from workflows.events import HumanResponseEvent, StartEvent, StopEvent

Seen = dict[str, Any]


class Greet(StartEvent):
    name: str
    times: int = 1


class Ask(StartEvent):
    prompt: str


class Answer(HumanResponseEvent):
    text: str


class Talker(Workflow):
    """The workflow `talk`, as far as a context needs it."""

    @step
    async def talk(self, ev: StartEvent) -> StopEvent:
        return StopEvent()


class Driver:
    """Uses each method of a client, and keeps what it gave."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.seen: Seen = {}

    async def drive(self) -> Seen:
        """Use every method that the client has."""
        client, seen = self.client, self.seen
        await self.look()
        seen["workflows"] = (await client.list_workflows()).workflows
        await self.start()
        answered = await self.answer()
        await self.talk()
        await self.fail()
        await self.list_handlers([answered])
        if hasattr(client, "cancel_handler"):
            await self.cancel()
        if hasattr(client, "get_handler"):
            seen["handler"] = read(await client.get_handler(answered))
        if hasattr(client, "get_workflow_schema"):
            await self.describe()
        if hasattr(client, "wait_for_handler"):
            started = await client.run_workflow_nowait("count")
            seen["waited"] = read(await client.wait_for_handler(started.handler_id))
        return seen

    async def look(self) -> None:
        """Ask whether the server is healthy."""
        try:
            self.seen["health"] = (await self.client.is_healthy()).status
        except ValidationError as error:
            self.seen["health"] = [str(fault["loc"][0]) for fault in error.errors()]

    async def start(self) -> None:
        """Start runs from all that a start event can be, and read the events of one."""
        run = self.client.run_workflow
        self.seen["typed"] = read(await run("greet", start_event=Greet(name="Ada", times=2)))
        self.seen["fields"] = read(await run("greet", start_event={"name": "Ada"}))
        self.seen["untyped"] = read(await run("echo", start_event=StartEvent(a=1)))  # type: ignore[call-arg]  # any field
        self.seen["none"] = read(await run("count"))
        started = await self.client.run_workflow_nowait("count")
        self.seen["events"] = await self.follow(started.handler_id)

    async def answer(self) -> str:
        """Answer a run's question, and return the handler's id when it has ended."""
        ask = Ask(prompt="Who?")
        handler_id: str = (await self.client.run_workflow_nowait("ask", start_event=ask)).handler_id
        self.seen["question"] = await self.follow(handler_id, until="Question")
        sent = await self.client.send_event(handler_id, Answer(text="Ada"), step="take")
        self.seen["sent"] = sent.status
        self.seen["end"] = (await self.follow(handler_id))[-1]
        self.seen["result"] = read(await self.client.get_result(handler_id))
        return handler_id

    async def talk(self) -> None:
        """Run a handler again, and another one from a context of this process."""
        handler_id = uuid4().hex
        run = self.client.run_workflow
        turns = [await run("talk", handler_id) for _ in range(2)]
        context: Context[Any] = Context(Talker())
        await context.store.set("turn", 6)
        turns.append(await run("talk", context=context))
        self.seen["turns"] = [read(turn)["result"] for turn in turns]

    async def fail(self) -> None:
        """Run into errors."""
        try:
            await self.client.run_workflow("fail")
        except httpx.HTTPStatusError as error:
            self.seen["failed"] = error.response.status_code
        try:
            await self.follow("nobody")
        except ValueError as error:
            self.seen["unknown"] = str(error)

    async def list_handlers(self, handler_ids: list[str]) -> None:
        """List handlers, as far as they are of this process."""
        listed = (await self.client.get_handlers()).handlers
        ours = [each for each in listed if each.handler_id in handler_ids]
        self.seen["listed"] = [[each.workflow_name, each.status, read(each)] for each in ours]

    async def cancel(self) -> None:
        """Cancel a run that waits, and purge it."""
        handler_id = (await self.client.run_workflow_nowait("ask")).handler_id
        cancelled = await self.client.cancel_handler(handler_id)
        purged = await self.client.cancel_handler(handler_id, purge=True)
        self.seen["cancelled"] = [cancelled.status, purged.status]

    async def describe(self) -> None:
        """Ask for the schemas, and the graph, of a workflow."""
        schema = await self.client.get_workflow_schema("greet")
        events = await self.client.get_workflow_events_schema("greet")
        graph = (await self.client.get_workflow_graph("greet")).graph
        titles = [each["title"] for each in [schema.start, schema.stop, *events.events]]
        self.seen["described"] = [titles, sorted(node.id for node in graph.nodes)]

    async def follow(self, handler_id: str, until: str | None = None) -> list[Any]:
        """Return the events of a run, to its end or to an event of a class."""
        events: list[Any] = []
        stream = self.client.get_workflow_events(handler_id)
        async for event in stream:
            envelope = event if isinstance(event, dict) else event.model_dump()
            events.append([envelope["type"], envelope["value"]])
            if envelope["type"] == until:
                break
        await stream.aclose()
        return events


def read(handler: Any) -> Any:
    """Return the value of a handler's result."""
    result = handler.result
    if isinstance(result, dict) and "value" in result:
        return result["value"]
    return getattr(result, "value", result)


async def main() -> None:
    """Write what the client saw, as JSON."""
    module, base_url = sys.argv[1:]
    async with httpx.AsyncClient(base_url=base_url, timeout=120) as http:
        client = import_module(module).WorkflowClient(httpx_client=http)
        json.dump(await Driver(client).drive(), sys.stdout)


if __name__ == "__main__":
    asyncio.run(main())
