"""Runs that a server of an earlier commit has left go on, each where it was."""

import shutil
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import httpx
import pytest

from tests.support.backends import DURABLE, FRESH_URLS, opened_store
from tests.support.calls import answer, get_status, result_of, send, start, wait_ended
from tests.support.live import NO_TLS, serving
from tests.support.older_databases import KINDS, OLDER_URLS, TENANT
from tests.support.streams import read_frames
from tests.support.waiting import DEADLINE, until
from workflow_server.app.access import Scope
from workflow_server.app.access.issuing import add_key, issue_key
from workflow_server.app.commands.servers import make_server
from workflow_server.app.loader import LoadedSources, load_sources
from workflow_server.app.loader.files import PACKAGE
from workflow_server.app.settings import load_settings
from workflow_server.stores.copying import Side, copy_runs

ENDS = ["completed", "failed", "cancelled"]


@dataclass(frozen=True)
class Upgraded:
    """A server of this code over a database of earlier code: a client of each tenant."""

    mine: httpx.AsyncClient
    theirs: httpx.AsyncClient


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoadedSources]:
    """Yield the workflows of the runs, loaded as the command loads them."""
    # From a folder of their own, as they were when the runs were made.
    file = Path(shutil.copy(KINDS, tmp_path_factory.mktemp("kinds")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "meta_path", list(sys.meta_path))
        yield load_sources([str(file)])
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]


@pytest.fixture(params=[*OLDER_URLS, *product(OLDER_URLS, DURABLE)], ids=str)
async def upgraded(
    request: pytest.FixtureRequest, loaded: LoadedSources, tmp_path: Path
) -> AsyncIterator[Upgraded]:
    """Serve each database, and copies of each, with the workflows of its runs."""
    keys = [make_key(tmp_path / "keys.json", tenant) for tenant in (None, TENANT)]
    async with AsyncExitStack() as stack:
        older, kind = request.param if isinstance(request.param, tuple) else (request.param, None)
        url = await stack.enter_async_context(OLDER_URLS[older](tmp_path))
        if kind is not None:
            copy = await stack.enter_async_context(FRESH_URLS[kind](tmp_path))
            async with opened_store(url) as source, opened_store(copy) as target:
                await copy_runs(Side(source, "a"), Side(target, "b"), progress=lambda _: None)
            url = copy
        settings = load_settings(store=url, api_keys_file=str(tmp_path / "keys.json"))
        base_url = await stack.enter_async_context(serving(make_server(loaded, settings)))
        mine, theirs = [
            await stack.enter_async_context(
                httpx.AsyncClient(
                    base_url=base_url,
                    headers={"Authorization": f"Bearer {key}"},
                    timeout=DEADLINE,
                    verify=NO_TLS,
                )
            )
            for key in keys
        ]
        yield Upgraded(mine, theirs)


def make_key(file: Path, tenant: str | None) -> str:
    """Return a key with which a tenant may do everything."""
    secret, key = issue_key(f"of-{tenant}", scopes=[Scope.ADMIN], tenant=tenant, lifetime=None)
    add_key(file, key)
    return secret


async def test_each_run_goes_on_where_it_was(upgraded: Upgraded) -> None:
    """Those that wait take their answers, and all others need nothing to end."""
    mine, theirs = upgraded.mine, upgraded.theirs
    for handler_id in ("released", "asker", "waiter", "patient"):
        assert await get_status(mine, handler_id) == "running"
        sent = await answer(mine, handler_id, "here")
        assert sent.status_code == 200, sent.text
    sent = await answer(theirs, "asker", "there")
    assert sent.status_code == 200, sent.text
    expected = {
        "released": ["released", "here"],
        "asker": ["asker", "here"],
        "waiter": ["waiter", "here"],
        "patient": ["patient", "here"],
        "timer": "nobody answered",  # it was due while no server ran
        "cut-off": ["cut-off"],
        "queued": ["queued"],
    }
    assert {handler_id: await result_of(mine, handler_id) for handler_id in expected} == expected
    expected = {"asker": ["asker", "there"], "cut-off": ["cut-off"], "queued": ["queued"]}
    assert {handler_id: await result_of(theirs, handler_id) for handler_id in expected} == expected


async def test_the_events_of_a_run_that_goes_on_follow_those_it_had(upgraded: Upgraded) -> None:
    for handler_id in ("asker", "waiter"):
        await answer(upgraded.mine, handler_id, "here")
    for handler_id in ("asker", "waiter", "cut-off", "queued"):
        await wait_ended(upgraded.mine, handler_id)
        frames = await read_frames(upgraded.mine, handler_id, include_internal=True)
        assert [frame.sequence for frame in frames] == [*range(len(frames))]
        assert frames[-1].type == "StopEvent"


async def test_a_question_takes_one_answer_and_a_waiting_run_can_be_cancelled(
    upgraded: Upgraded,
) -> None:
    [question] = (await upgraded.mine.get("/handlers/asker")).json()["questions"]
    sent = await answer(upgraded.mine, "asker", "here", reply_to=question["sequence"])
    assert sent.status_code == 200, sent.text
    assert await result_of(upgraded.mine, "asker") == ["asker", "here"]
    cancelled = await upgraded.mine.post("/handlers/waiter/cancel")
    assert cancelled.status_code == 200, cancelled.text
    assert await get_status(upgraded.mine, "waiter") == "cancelled"


async def test_what_a_run_waits_for_is_known_once_it_was_in_memory(upgraded: Upgraded) -> None:
    async def find_awaits() -> tuple[bool, list[str]]:
        handler = (await upgraded.mine.get("/handlers/waiter")).json()
        [question] = handler["questions"]
        return handler["awaits"] is not None, [event["type"] for event in question["awaits"]]

    assert await find_awaits() == (False, [])
    refused = await send(upgraded.mine, "waiter", "Nobody", {})  # which brings the run into memory
    assert refused.status_code == 400, refused.text

    async def is_known() -> bool:
        return await find_awaits() == (True, ["Answer"])

    await until(is_known)


async def test_handlers_that_had_ended_are_as_they_were_and_begin_again(
    upgraded: Upgraded,
) -> None:
    listed = (await upgraded.mine.get("/handlers", params={"status": ENDS})).json()["handlers"]
    ended = {handler["handler_id"]: (handler["status"], handler["error"]) for handler in listed}
    # Others may have ended since the server started.
    assert ended.items() >= {
        ("completed", ("completed", None)),
        ("continued", ("completed", None)),
        ("failed", ("failed", "Step 'fail' failed: ValueError: failed fails")),
        ("cancelled", ("cancelled", None)),
    }
    assert await result_of(upgraded.mine, "completed") == ["completed"]
    before = await read_frames(upgraded.mine, "continued", include_internal=True)
    await start(upgraded.mine, "greeter", "continued", name="again")
    assert await result_of(upgraded.mine, "continued") == ["continued", "continued", "again"]
    after = await read_frames(upgraded.mine, "continued", include_internal=True, after_sequence=0)
    numbers = [frame.sequence for frame in before + after]
    assert numbers == [*range(len(numbers))]
