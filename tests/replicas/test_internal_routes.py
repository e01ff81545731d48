"""Internal routes: for other servers alone, whatever a client has."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.replicas.serving import Member, member
from tests.support.calls import start_asker, wait_question
from tests.support.credentials import KeyBook, bearer
from tests.support.problems import problem_of
from workflow_server.app.access import Scope
from workflow_server.app.replicas.forwarding import NotTaken, read_problem
from workflow_server.schemas.internal import (
    CANCEL,
    DRAIN,
    FOLLOW,
    MOVE_POSITION,
    SEND,
    TAKE_POSITION,
)

PATHS = [SEND, FOLLOW, CANCEL, TAKE_POSITION, MOVE_POSITION, DRAIN]
WRONG = [None, b"", b"x", "é".encode()]


@pytest.fixture
async def alone(url: str) -> AsyncIterator[Member]:
    async with member(url) as alone:
        yield alone


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("secret", WRONG)
async def test_without_the_secret_there_is_nothing(
    alone: Member, path: str, secret: bytes | None
) -> None:
    headers = {b"replica-secret": secret} if secret is not None else {}
    missing = await alone.client.post("/internal/no-such-thing", json={}, headers=headers)
    response = await alone.client.post(path, json={}, headers=headers)
    assert (response.status_code, response.json()) == (404, missing.json())


async def test_the_secret_lets_another_server_ask(alone: Member) -> None:
    handler_id = await start_asker(alone.client)
    question = await wait_question(alone.client, handler_id, "1")
    message = {
        "tenant": "",
        "handler_id": handler_id,
        "run_id": None,
        "event": {"type": "Answer", "value": {"text": "yes"}},
        "step": None,
        "reply_to": question,
        "sent_by": None,
    }
    headers = {"replica-secret": alone.exchange.secret}
    response = await alone.client.post(SEND, json=message, headers=headers)
    assert (response.status_code, response.json()) == (200, {})


async def test_no_credential_of_a_user_reaches_them(url: str, tmp_path: Path) -> None:
    book = KeyBook(tmp_path / "keys.json")
    admin = bearer(book.add("admin", Scope.ADMIN))
    async with member(url, access=book.open_access()) as guarded:
        for path in PATHS:
            refused = await guarded.client.post(path, json={})
            assert problem_of(refused) == (401, "unauthenticated")
            missing = await guarded.client.post(path, json={}, headers=admin)
            assert problem_of(missing) == (404, "not_found")


async def test_they_are_not_in_the_document(alone: Member) -> None:
    paths = alone.server.openapi_schema()["paths"]
    assert not [path for path in paths if path.startswith("/internal")]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("body", [b"{}", b"[", b"\xff"])
async def test_a_message_that_is_not_understood_is_a_problem_and_does_nothing(
    alone: Member, path: str, body: bytes
) -> None:
    headers = {"replica-secret": alone.exchange.secret}
    response = await alone.client.post(path, content=body, headers=headers)
    assert problem_of(response) == (400, "not_understood")
    problem = read_problem(response.content)
    assert isinstance(problem, NotTaken)
