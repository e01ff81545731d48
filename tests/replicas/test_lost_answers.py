"""Claims that are written down, and whose answers are lost with the connection."""

from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.replicas.serving import member
from tests.replicas.test_versions import BRISK, serve_old
from tests.support.calls import start, wait_ended, wait_phase
from tests.support.postgres import connect, schema_of
from workflow_server.stores.postgres_connections import SocketConnection
from workflow_server.stores.postgres_peers import CLAIM_NEXT, WRITE_VERDICT
from workflow_server.stores.postgres_statements import qualify

DEAD = 1 << 40  # an incarnation
HANDLERS = ["a", "b", "c"]


def lose_answer(statement: str, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Lose the first answer to a statement that has written something; return what was lost."""
    lost: list[object] = []
    fetch = SocketConnection.fetch

    async def fetch_and_lose(
        self: SocketConnection, query: str, *values: Any, **options: Any
    ) -> Any:
        rows = await fetch(self, query, *values, **options)
        if query == statement and rows[0][1] is not None and not lost:
            lost.append(rows)
            raise asyncpg.ConnectionDoesNotExistError("connection was closed")
        return rows

    monkeypatch.setattr(SocketConnection, "fetch", fetch_and_lose)
    return lost


@pytest.mark.parametrize(
    ("statement", "changes"),
    [
        (CLAIM_NEXT, "owner = NULL"),
        (WRITE_VERDICT, f"owner = {DEAD}, phase = 'working'"),
    ],
    ids=["claim", "verdict"],
)
async def test_runs_go_on_whose_claim_was_not_answered(
    statement: str, changes: str, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with member(url, add=serve_old(tmp_path, "first"), shutdown_timeout=0.0) as first:
        for handler_id in HANDLERS:
            await start(first.client, "gated", handler_id)
            await wait_phase(first.client, handler_id, "working")
    async with connect() as database:
        await database.execute(f"UPDATE {schema_of(url)}.runs SET {changes}")
    (tmp_path / "gate").touch()
    lost = lose_answer(qualify(statement, schema_of(url)), monkeypatch)
    async with member(url, add=serve_old(tmp_path, "second"), replicas=BRISK) as second:
        for handler_id in HANDLERS:
            ended = await wait_ended(second.client, handler_id)
            assert ended["result"]["value"] == {"result": "second"}
    assert lost
