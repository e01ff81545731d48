"""Servers that serve different workflows, as while a new one is rolled out."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.replicas.serving import Member, member
from tests.replicas.test_servers import belongs_to_nobody
from tests.replicas.working import Asking, Gated, Sleeping
from tests.support.calls import send, start
from tests.support.waiting import until
from workflow_server.app.clocks import utc_now
from workflow_server.app.server import WorkflowServer

Add = Callable[[WorkflowServer], None]


@pytest.fixture
def add_new(tmp_path: Path) -> Add:
    """Return what adds the workflows of the newer server."""

    def add(server: WorkflowServer) -> None:
        server.add_workflow("asking", Asking("new", tmp_path))
        server.add_workflow("sleeping", Sleeping("new", tmp_path))

    return add


@pytest.fixture
def add_old(tmp_path: Path) -> Add:
    """Return what adds the workflows of the older server."""
    return lambda server: server.add_workflow("gated", Gated("old", tmp_path))


async def has_completed(member: Member, handler_id: str) -> bool:
    """Return whether a server shows a run as completed."""
    handler = (await member.client.get(f"/handlers/{handler_id}")).json()
    return bool(handler["status"] == "completed")


async def test_an_answer_reaches_a_server_that_serves_the_workflow(
    url: str, add_new: Add, add_old: Add
) -> None:
    async with (
        member(url, add=add_new, idle_timeout=0.2) as new,
        member(url, add=add_old, on_misfit="fail") as old,
    ):
        handler_id = await start(new.client, "asking")
        await until(lambda: belongs_to_nobody(url, handler_id))
        sent = await send(old.client, handler_id, "HumanResponseEvent", {"response": "yes"})
        assert (sent.status_code, sent.json()) == (200, {"status": "sent"})
        await until(lambda: has_completed(old, handler_id))


async def test_a_run_is_cancelled_by_a_server_that_serves_the_workflow(
    url: str, add_new: Add, add_old: Add
) -> None:
    async with (
        member(url, add=add_new, idle_timeout=0.2) as new,
        member(url, add=add_old, on_misfit="fail") as old,
    ):
        handler_id = await start(new.client, "asking")
        await until(lambda: belongs_to_nobody(url, handler_id))
        cancelled = await old.client.post(f"/handlers/{handler_id}/cancel")
        assert (cancelled.status_code, cancelled.json()) == (200, {"status": "cancelled"})


async def test_a_timer_is_left_to_a_server_that_serves_the_workflow(
    url: str, add_new: Add, add_old: Add
) -> None:
    async with (
        member(url, add=add_new, idle_timeout=0.2) as new,
        member(url, add=add_old, on_misfit="fail") as old,
    ):
        handler_id = await start(new.client, "sleeping", gate="1")
        await until(lambda: belongs_to_nobody(url, handler_id))
        old.server.lifecycle.timers.note(utc_now())
        await until(lambda: has_completed(old, handler_id))


async def test_a_run_whose_workflow_nobody_serves_is_held(
    url: str, add_new: Add, add_old: Add
) -> None:
    async with member(url, add=add_old) as old:
        async with member(url, add=add_new, idle_timeout=0.2) as new:
            handler_id = await start(new.client, "asking")
            await until(lambda: belongs_to_nobody(url, handler_id))
        sent = await send(old.client, handler_id, "HumanResponseEvent", {"response": "yes"})
        assert (sent.status_code, sent.json()["code"]) == (409, "handler_held")
