"""Readers that may change nothing: they leave the shared reading position to its owner."""

import httpx
import pytest

from tests.access.conftest import book, guarded, provider  # noqa: F401  # fixtures
from tests.support.calls import answer, run, start_asker
from tests.support.credentials import KeyBook, bearer
from tests.support.streams import read_frames, shared_reader
from workflow_server.app.access import Scope

# What a browser adds for a link on a page of another origin (Fetch Metadata, W3C).
LINK = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_a_link_on_a_foreign_page_takes_nobodys_events(
    client: httpx.AsyncClient, site: str
) -> None:
    handler_id = (await run(client, "counter", count=3))["handler_id"]
    url, headers = f"/events/{handler_id}", {**LINK, "Sec-Fetch-Site": site}
    first, second = await client.get(url, headers=headers), await client.get(url)
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.text == second.text


async def test_a_reading_credential_takes_nobodys_events(
    guarded: httpx.AsyncClient,  # noqa: F811
    book: KeyBook,  # noqa: F811
) -> None:
    reader, owner = bearer(book.add("r", Scope.READ)), bearer(book.add("o", Scope.RUN))
    guarded.headers.update(owner)
    url = f"/events/{(await run(guarded, 'counter', count=3))['handler_id']}"
    seen = [await guarded.get(url, headers=reader) for _ in range(2)]
    owned = await guarded.get(url)
    after = await guarded.get(url, headers=reader)
    assert [r.status_code for r in (*seen, owned, after)] == [200, 200, 200, 204]
    assert {r.text for r in (*seen, owned)} == {owned.text}


async def test_a_reading_credential_does_not_hold_the_position(
    guarded: httpx.AsyncClient,  # noqa: F811
    book: KeyBook,  # noqa: F811
) -> None:
    reader, owner = bearer(book.add("r", Scope.READ)), bearer(book.add("o", Scope.RUN))
    guarded.headers.update(owner)
    handler_id = await start_asker(guarded)
    async with guarded.stream("GET", f"/events/{handler_id}", headers=reader) as held:
        assert held.status_code == 200
        async with shared_reader(guarded, handler_id) as frames:
            assert (await anext(frames)).type == "Question"


async def test_a_reading_credential_follows_from_the_position(
    guarded: httpx.AsyncClient,  # noqa: F811
    book: KeyBook,  # noqa: F811
) -> None:
    reader, owner = bearer(book.add("r", Scope.READ)), bearer(book.add("o", Scope.RUN))
    guarded.headers.update(owner)
    handler_id = await start_asker(guarded, questions=2)
    async with shared_reader(guarded, handler_id) as frames:
        await anext(frames)
        await answer(guarded, handler_id, "one")
        second = await anext(frames)
        # The owner holds the position, and the reader begins where it stands without a wait.
        async with guarded.stream("GET", f"/events/{handler_id}", headers=reader) as followed:
            assert followed.status_code == 200
    assert second in await read_frames_so_far(guarded, handler_id)


async def read_frames_so_far(client: httpx.AsyncClient, handler_id: str) -> list[object]:
    """Return all events of a handler, which is ended by its cancellation."""
    await client.post(f"/handlers/{handler_id}/cancel")
    return list(await read_frames(client, handler_id))
