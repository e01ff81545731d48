"""Credentials that are refused: told to the log, and so often and no oftener."""

import logging

import httpx
import pytest

from tests.support.credentials import KeyBook, bearer
from tests.support.live import open_client
from tests.support.problems import problem_of
from workflow_server.app.access import Access, Scope
from workflow_server.app.server import WorkflowServer
from workflow_server.app.settings import Limits

REFUSED = (401, "unauthenticated")
TOO_MANY = (429, "too_many_requests")


async def guess(client: httpx.AsyncClient, headers: dict[str, str]) -> httpx.Response:
    """Make requests until one is refused otherwise than as before; return that answer."""
    for _ in range(3 * Limits().max_refusals):
        response = await client.get("/handlers", headers=headers)
        if problem_of(response) != REFUSED:
            return response
    raise AssertionError("every guess was answered")


@pytest.mark.parametrize("headers", [{}, bearer("wrong"), {"X-API-Key": "wrong"}, bearer("a.b.c")])
async def test_an_address_with_too_many_refusals_is_told_to_wait(
    guarded: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    response = await guess(guarded, headers)
    assert problem_of(response) == TOO_MANY
    assert int(response.headers["retry-after"]) >= 1


async def test_a_valid_credential_is_let_through_from_an_address_that_is_to_wait(
    guarded: httpx.AsyncClient, book: KeyBook
) -> None:
    key = book.add("second", Scope.READ)
    await guess(guarded, bearer("wrong"))
    response = await guarded.get("/handlers", headers=bearer(key))
    assert response.status_code == 200


async def test_the_log_is_told_of_refused_credentials_so_often_and_no_oftener(
    guarded: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    answers = [await guarded.get("/handlers", headers=bearer("s3cr3t")) for _ in range(150)]
    refused = [answer for answer in answers if answer.status_code == 401]
    told = [
        vars(record) for record in caplog.records if record.name == "workflow_server.routers.access"
    ]
    assert len(refused) < len(answers)
    assert [(line["msg"], line["client"], line["reason"]) for line in told] == [
        ("credential refused", "127.0.0.1", "not valid any more, or never") for _ in refused
    ]


async def test_refusals_can_be_any_number() -> None:
    server = WorkflowServer(access=Access(), limits=Limits(max_refusals=0))
    async with open_client(server) as client:
        answers = [await client.get("/handlers", headers=bearer("wrong")) for _ in range(150)]
    assert {problem_of(answer) for answer in answers} == {REFUSED}
