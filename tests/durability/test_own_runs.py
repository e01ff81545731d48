"""What a workflow's own `run()` did is kept with the run: it is not called again."""

from typing import Any
from uuid import uuid4

import pytest
from workflows import Context, Workflow, step
from workflows.events import StartEvent, StopEvent

from tests.durability.restarts import restarting
from tests.support.calls import result_of, start, wait_begun
from tests.support.inspection import key_of
from tests.support.workflows import Sleeper
from workflow_server.stores.base import Store


class Marked(Workflow):
    """Marks each run, in its start event and in its state."""

    async def run(self, topic: str) -> Any:  # type: ignore[override]  # as people do
        context: Context[Any] = Context(self)
        mark = uuid4().hex
        await context.store.set("mark", mark)
        event = StartEvent(topic=topic, mark=mark)  # type: ignore[call-arg]  # any fields
        return await super().run(ctx=context, start_event=event)

    @step
    async def tell(self, ctx: Context, ev: StartEvent) -> StopEvent:
        return StopEvent(result=[ev.topic, ev.mark, await ctx.store.get("mark")])


@pytest.mark.parametrize("how", ["crash", "stop"])
async def test_a_queued_run_begins_after_a_restart_from_what_run_had_made(
    store: Store, how: str
) -> None:
    workflows = {"sleeper": Sleeper(timeout=None), "marked": Marked()}
    async with restarting(store, options={"max_runs": 1}, **workflows) as restarts:
        await start(restarts.client, "sleeper", "first", seconds=3600)
        await wait_begun(restarts.client, "first")
        await start(restarts.client, "marked", "second", topic="tea")
        shown = (await restarts.client.get("/handlers/second")).json()["start_event"]["value"]
        await getattr(restarts, how)()
        await restarts.start()
        await restarts.client.post("/handlers/first/cancel")
        topic, mark, kept_mark = await result_of(restarts.client, "second")
        record = await store.get_handler(key_of("second"))
        assert record is not None
        inbox = await store.read_inbox(record.run_id)
    data = shown["_data"]
    assert (topic, mark, kept_mark) == ("tea", data["mark"], data["mark"])
    assert list(inbox) == []
