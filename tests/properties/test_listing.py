"""A listing that is read page by page while handlers come and change."""

import asyncio
import base64
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import httpx
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.properties.values import SETTINGS, text
from tests.support.waiting import DEADLINE
from workflow_server.app.server import WorkflowServer
from workflow_server.schemas.records import Batch, Phase, RunRecord, Status
from workflow_server.stores.memory import MemoryStore

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ids = st.text("ab.~-_Z9", min_size=1, max_size=3)
# Many at the same instant, and some that differ by a microsecond.
times = st.integers(-2, 2).map(lambda steps: NOW + timedelta(microseconds=steps)) | st.datetimes(
    timezones=st.just(UTC)
)


def phase_of(status: Status) -> Phase:
    """Return where a run of this status stands; a server leaves one that waits as it is."""
    return Phase.WAITING if status is Status.RUNNING else Phase.ENDED


@st.composite
def records(draw: st.DrawFn) -> RunRecord:
    """Return the current run of a handler, whose id the test makes unique."""
    created_at, status = draw(times), draw(st.sampled_from(Status))
    return RunRecord(
        run_id="",
        handler_id=draw(ids),
        handler_created_at=created_at,
        workflow_name=draw(st.sampled_from(["a", "b"])),
        status=status,
        phase=phase_of(status),
        started_at=created_at,
        updated_at=NOW,
    )


@dataclass(frozen=True)
class Meanwhile:
    """What happens between two pages: handlers come, and one changes its status."""

    added: list[RunRecord]
    changed: int
    status: Status


changes = st.lists(
    st.builds(
        Meanwhile, st.lists(records(), max_size=3), st.integers(0, 20), st.sampled_from(Status)
    ),
    max_size=6,
)


class Handlers:
    """A store's handlers, as the test knows them."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.records: dict[str, RunRecord] = {}

    async def put(self, *records: RunRecord) -> None:
        for record in records:
            named = replace(record, run_id=f"run of {record.handler_id}")
            self.records[record.handler_id] = named
            await self.store.commit(Batch(runs={named.run_id: named}))

    async def apply(self, change: Meanwhile) -> None:
        for record in change.added:
            if record.handler_id not in self.records:
                await self.put(record)
        for record in list(self.records.values())[change.changed : change.changed + 1]:
            if record.status is Status.RUNNING:  # an ended run stays as it is
                await self.put(replace(record, status=change.status, phase=phase_of(change.status)))

    def order(self) -> list[str]:
        """Return the ids, newest first."""
        by_position = sorted(
            self.records.values(), key=lambda r: (r.handler_created_at, r.handler_id), reverse=True
        )
        return [record.handler_id for record in by_position]


async def ask(server: WorkflowServer, params: dict[str, Any]) -> httpx.Response:
    transport = httpx.ASGITransport(server.app)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://server", timeout=DEADLINE
    ) as client:
        return await client.get("/handlers", params=params)


async def read_pages(
    handlers: Handlers, changes: list[Meanwhile], **query: int | list[str]
) -> list[list[str]]:
    """Return the ids of all pages, with the changes between them."""
    pending = iter(changes)
    pages: list[list[str]] = []
    async with WorkflowServer(workflow_store=handlers.store).contextmanager() as server:
        params: dict[str, Any] = {**query}
        while len(pages) <= len(handlers.records):
            response = await ask(server, params)
            assert response.status_code == 200, response.text
            page = response.json()
            pages.append([handler["handler_id"] for handler in page["handlers"]])
            if page["next_cursor"] is None:
                return pages
            params["cursor"] = page["next_cursor"]
            for change in pending:
                await handlers.apply(change)
                break
    raise AssertionError(f"a listing that does not end: {pages}")


@settings(SETTINGS, max_examples=60)
@given(st.lists(records(), max_size=12), changes, st.integers(1, 4))
def test_every_handler_is_listed_once_whatever_comes_meanwhile(
    initial: list[RunRecord], changes: list[Meanwhile], limit: int
) -> None:
    async def read() -> None:
        handlers = Handlers()
        await handlers.apply(Meanwhile(initial, 0, Status.RUNNING))
        before = set(handlers.records)
        pages = await read_pages(handlers, changes, limit=limit)
        listed = [handler_id for page in pages for handler_id in page]
        known = set(listed)
        assert before <= known
        assert listed == [handler_id for handler_id in handlers.order() if handler_id in known]
        assert [len(page) for page in pages[:-1]] == [limit] * (len(pages) - 1)

    asyncio.run(read())


@settings(SETTINGS, max_examples=40)
@given(
    st.lists(records(), max_size=12),
    st.lists(st.sampled_from(Status), max_size=3),
    st.lists(st.sampled_from(["a", "b", "c"]), max_size=2),
    st.integers(1, 4),
)
def test_pages_of_a_filtered_listing_are_the_filtered_listing(
    initial: list[RunRecord], statuses: list[Status], names: list[str], limit: int
) -> None:
    async def read() -> None:
        handlers = Handlers()
        await handlers.apply(Meanwhile(initial, 0, Status.RUNNING))
        pages = await read_pages(
            handlers, [], limit=limit, status=[*map(str, statuses)], workflow_name=names
        )
        wanted = [handlers.records[handler_id] for handler_id in handlers.order()]
        assert [handler_id for page in pages for handler_id in page] == [
            record.handler_id
            for record in wanted
            if record.status in (statuses or Status)
            if record.workflow_name in (names or "ab")
        ]

    asyncio.run(read())


def encode_cursor(cursor: str) -> str:
    return base64.urlsafe_b64encode(cursor.encode("utf-8", "replace")).decode().rstrip("=")


far_times = st.datetimes(
    timezones=st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
)
cursors = st.one_of(
    text.map(lambda cursor: cursor.encode("utf-8", "replace").decode()),
    text.map(encode_cursor),
    st.tuples(st.datetimes() | far_times, ids).map(
        lambda position: encode_cursor(f"{position[0].isoformat()} {position[1]}")
    ),
)


@settings(SETTINGS, max_examples=100)
@given(st.lists(cursors, min_size=1, max_size=20))
def test_a_cursor_that_no_listing_gave_is_malformed_or_a_place(cursors: list[str]) -> None:
    async def read() -> set[int]:
        handlers = Handlers()
        times = [NOW, datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)]
        for index, created_at in enumerate(times):
            await handlers.put(
                RunRecord(
                    run_id="",
                    handler_id=str(index),
                    handler_created_at=created_at,
                    workflow_name="a",
                    started_at=created_at,
                    updated_at=created_at,
                    phase=Phase.WAITING,
                )
            )
        async with WorkflowServer(workflow_store=handlers.store).contextmanager() as server:
            return {(await ask(server, {"cursor": cursor})).status_code for cursor in cursors}

    assert asyncio.run(read()) <= {200, 400}
