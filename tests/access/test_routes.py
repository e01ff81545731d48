"""Every route of the document, asked with every kind of credential."""

from collections.abc import Iterable, Iterator
from datetime import timedelta

import httpx
import pytest
from starlette.routing import BaseRoute

from tests.support.calls import start_asker
from tests.support.credentials import KeyBook, bearer, claims, sign
from tests.support.problems import problem_of
from tests.support.waiting import DEADLINE
from tests.support.workflows import Greeter
from workflow_server.app.access import Access, Scope
from workflow_server.app.main import GUARDED_ROUTERS, OPEN_ROUTERS
from workflow_server.app.server import WorkflowServer

OPEN = {("get", "/health"), ("get", "/livez"), ("get", "/readyz")}
PAGES = (
    "/",
    "/docs",
    "/docs/oauth2-redirect",
    "/redoc",
    "/openapi.json",
    "/static-offline-docs/swagger-ui.css",
)
# What the document does not tell of; a route that is in neither is not tried here.
OPEN_ROUTES = {
    ("get", "/"),
    ("get", "/assets/{name}"),
    ("get", "/docs"),
    ("get", "/docs/oauth2-redirect"),
    ("get", "/redoc"),
    ("get", "/openapi.json"),
    ("head", "/openapi.json"),
    ("every", "/static-offline-docs"),
}
UNAUTHENTICATED = (401, "unauthenticated")
FORBIDDEN = (403, "forbidden")

Operation = tuple[str, str]


def make_guarded_server() -> WorkflowServer:
    server = WorkflowServer(access=Access())
    server.add_workflow("greeter", Greeter())
    return server


PATHS = make_guarded_server().openapi_schema()["paths"]
OPERATIONS = [(method, path) for path, item in PATHS.items() for method in item]
GUARDED = [operation for operation in OPERATIONS if operation not in OPEN]
WRITING = [operation for operation in GUARDED if operation[0] != "get"]
OF_HANDLERS = [operation for operation in GUARDED if "{handler_id}" in operation[1]]


async def call(
    client: httpx.AsyncClient,
    operation: Operation,
    credential: str | None,
    handler_id: str = "unknown",
) -> httpx.Response:
    method, path = operation
    return await client.request(
        method,
        path.format(name="greeter", handler_id=handler_id, sequence=0, server_id=0),
        params={"after_sequence": -1} if path.startswith("/events") and method == "get" else None,
        headers=bearer(credential) if credential is not None else {},
        json={"event": {"type": "Answer", "value": {"text": "a"}}} if method == "post" else None,
    )


def list_routes(routes: Iterable[BaseRoute]) -> Iterator[Operation]:
    """Yield method and path of every route, also of those in routers that were included."""
    for route in routes:
        if router := getattr(route, "original_router", None):
            yield from list_routes(router.routes)
        else:
            for method in getattr(route, "methods", None) or ("every",):
                yield method.lower(), getattr(route, "path", "")


def test_every_route_of_the_application_is_tried_here() -> None:
    routes = set(list_routes(make_guarded_server().app.routes))
    assert OPEN_ROUTES - routes == set()
    # The operations of one workflow are served by the generic routes.
    generic = {operation for operation in OPERATIONS if "/greeter/" not in operation[1]}
    assert routes - OPEN_ROUTES == generic


def test_only_health_is_open_among_the_operations() -> None:
    insecure = {
        (method, path)
        for path, item in PATHS.items()
        for method, operation in item.items()
        if not operation.get("security")
    }
    assert insecure == OPEN


def test_the_document_tells_of_refusals() -> None:
    missing = [
        (method, path)
        for method, path in GUARDED
        if not {"401", "403"} <= PATHS[path][method]["responses"].keys()
    ]
    assert missing == []


def test_no_open_route_has_the_path_of_a_guarded_one() -> None:
    opened = {getattr(route, "path", "") for router in OPEN_ROUTERS for route in router.routes}
    guarded = {getattr(route, "path", "") for router in GUARDED_ROUTERS for route in router.routes}
    assert not opened & guarded


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_is_open(guarded: httpx.AsyncClient, path: str) -> None:
    assert (await guarded.get(path)).status_code == 200


@pytest.mark.parametrize("operation", sorted(OPEN))
async def test_health_is_open(guarded: httpx.AsyncClient, operation: Operation) -> None:
    assert (await call(guarded, operation, None)).status_code == 200


@pytest.mark.parametrize("path", ["/nothing", "/workflows/", "/docs/x", "/assets"])
async def test_what_does_not_exist_is_guarded(guarded: httpx.AsyncClient, path: str) -> None:
    assert (await guarded.get(path)).status_code == 401


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_a_method_that_an_open_path_does_not_take_is_guarded(
    guarded: httpx.AsyncClient, method: str
) -> None:
    assert (await guarded.request(method, "/docs")).status_code == 401


@pytest.mark.parametrize("operation", GUARDED, ids=" ".join)
class TestAGuardedOperation:
    async def test_asks_for_a_credential(
        self, guarded: httpx.AsyncClient, operation: Operation
    ) -> None:
        response = await call(guarded, operation, None)
        assert problem_of(response) == UNAUTHENTICATED
        assert response.headers["www-authenticate"] == 'Bearer realm="workflow-server"'

    @pytest.mark.parametrize("wrong", ["wfs_wrong", "a.b.c", "x" * 20_000])
    async def test_refuses_a_wrong_one(
        self, guarded: httpx.AsyncClient, operation: Operation, wrong: str
    ) -> None:
        response = await call(guarded, operation, wrong)
        assert problem_of(response) == UNAUTHENTICATED
        assert 'error="invalid_token"' in response.headers["www-authenticate"]

    async def test_refuses_an_expired_one(
        self, guarded: httpx.AsyncClient, book: KeyBook, operation: Operation
    ) -> None:
        key = book.add("late", Scope.ADMIN, lifetime=timedelta(seconds=-1))
        token = sign(claims(exp=1))
        answers = [await call(guarded, operation, credential) for credential in (key, token)]
        assert [problem_of(answer) for answer in answers] == [UNAUTHENTICATED] * 2

    async def test_refuses_a_revoked_one(
        self, guarded: httpx.AsyncClient, book: KeyBook, operation: Operation
    ) -> None:
        key = book.add("gone", Scope.ADMIN)
        assert (await call(guarded, operation, key)).status_code not in (401, 403)
        book.revoke("gone")
        assert problem_of(await call(guarded, operation, key)) == UNAUTHENTICATED

    async def test_refuses_one_without_a_scope(
        self, guarded: httpx.AsyncClient, operation: Operation
    ) -> None:
        response = await call(guarded, operation, sign(claims(scope="openid email")))
        assert problem_of(response) == FORBIDDEN
        assert 'error="insufficient_scope"' in response.headers["www-authenticate"]

    async def test_takes_a_good_one_in_either_header(
        self, guarded: httpx.AsyncClient, book: KeyBook, operation: Operation
    ) -> None:
        is_administrators = operation[1].startswith("/servers")
        key = book.add("good", Scope.ADMIN if is_administrators else Scope.RUN)
        assert (await call(guarded, operation, key)).status_code not in (401, 403)
        guarded.headers["X-API-Key"] = key
        assert (await call(guarded, operation, None)).status_code not in (401, 403)


async def test_a_credential_that_is_not_ascii_is_a_wrong_one(guarded: httpx.AsyncClient) -> None:
    response = await guarded.get("/workflows", headers=[(b"X-API-Key", "é".encode())])
    assert problem_of(response) == UNAUTHENTICATED


@pytest.mark.parametrize("operation", WRITING, ids=" ".join)
async def test_what_changes_something_takes_more_than_reading(
    guarded: httpx.AsyncClient, book: KeyBook, operation: Operation
) -> None:
    key = book.add("reader", Scope.READ)
    assert problem_of(await call(guarded, operation, key)) == FORBIDDEN


@pytest.mark.parametrize("operation", OF_HANDLERS, ids=" ".join)
@pytest.mark.parametrize("tenant", ["other", None])
async def test_a_foreign_handler_is_as_one_that_does_not_exist(
    guarded: httpx.AsyncClient, book: KeyBook, operation: Operation, tenant: str | None
) -> None:
    owner, foreign = (
        book.add("owner", Scope.RUN, tenant="acme"),
        book.add("foreign", Scope.ADMIN, tenant=tenant),
    )
    async with httpx.AsyncClient(
        base_url=guarded.base_url, headers=bearer(owner), timeout=DEADLINE
    ) as client:
        handler_id = await start_asker(client)
    absent = await call(guarded, operation, foreign, "0123456789")
    hidden = await call(guarded, operation, foreign, handler_id)
    assert problem_of(hidden) == problem_of(absent) == (404, "handler_not_found")
    assert hidden.text == absent.text.replace("0123456789", handler_id)


async def test_only_an_administrator_purges(guarded: httpx.AsyncClient, book: KeyBook) -> None:
    runner, administrator = book.add("runner", Scope.RUN), book.add("admin", Scope.ADMIN)
    guarded.headers.update(bearer(runner))
    handler_id = await start_asker(guarded)
    url = f"/handlers/{handler_id}/cancel?purge=true"
    assert problem_of(await guarded.post(url)) == FORBIDDEN
    response = await guarded.post(url, headers=bearer(administrator))
    assert response.json() == {"status": "deleted"}


async def test_metrics_are_not_for_tenants(guarded: httpx.AsyncClient, book: KeyBook) -> None:
    tenants, operators = book.add("t", Scope.ADMIN, tenant="acme"), book.add("o", Scope.READ)
    refused = await guarded.get("/metrics", headers=bearer(tenants))
    assert problem_of(refused) == FORBIDDEN
    assert (await guarded.get("/metrics", headers=bearer(operators))).status_code == 200


async def test_a_method_that_a_path_does_not_take_is_refused_with_those_that_it_takes(
    guarded: httpx.AsyncClient, book: KeyBook
) -> None:
    response = await guarded.put("/events/h", headers=bearer(book.add("runner", Scope.RUN)))
    assert (response.status_code, response.headers["allow"]) == (405, "GET, HEAD, POST")


async def test_a_refused_body_is_not_looked_at(guarded: httpx.AsyncClient) -> None:
    response = await guarded.post("/workflows/asker/run", content=b"{" * 1_000_000)
    assert problem_of(response) == UNAUTHENTICATED


@pytest.mark.parametrize("name", ["api_key", "access_token", "token", "key", "X-API-Key"])
async def test_a_credential_in_the_address_is_none(
    guarded: httpx.AsyncClient, book: KeyBook, name: str
) -> None:
    key = book.add("good", Scope.RUN)
    assert (await guarded.get("/workflows", params={name: key})).status_code == 401


async def test_another_scheme_of_authorization_does_not_hide_an_api_key(
    guarded: httpx.AsyncClient, book: KeyBook
) -> None:
    headers = {"Authorization": "Basic eDp5", "X-API-Key": book.add("good", Scope.READ)}
    assert (await guarded.get("/workflows", headers=headers)).status_code == 200


@pytest.mark.parametrize("name", ["Authorization", "X-API-Key"])
async def test_several_credentials_of_a_kind_are_none(
    guarded: httpx.AsyncClient, book: KeyBook, name: str
) -> None:
    key = book.add("good", Scope.READ)
    value = f"Bearer {key}" if name == "Authorization" else key
    for headers in (
        [(name, value)] * 2,
        [(name, value), (name, "x")],
        [(name, "x"), (name, value)],
    ):
        assert problem_of(await guarded.get("/workflows", headers=headers)) == UNAUTHENTICATED


async def test_a_page_of_an_allowed_origin_may_ask_before_it_sends_a_credential(
    guarded: httpx.AsyncClient,
) -> None:
    headers = {
        "Origin": "http://localhost:3000",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,x-api-key",
    }
    response = await guarded.options("/workflows/asker/run", headers=headers)
    allowed = response.headers["access-control-allow-headers"].lower()
    assert (response.status_code, "authorization" in allowed or allowed == "*") == (200, True)


async def test_a_page_can_read_that_it_must_sign_in(guarded: httpx.AsyncClient) -> None:
    response = await guarded.get("/workflows", headers={"Origin": "http://localhost:3000"})
    assert response.headers["access-control-allow-origin"] == "http://localhost:3000"


def test_a_server_without_access_has_neither_schemes_nor_a_guard() -> None:
    server = WorkflowServer()
    assert "securitySchemes" not in server.openapi_schema()["components"]
    assert "AccessGuard" not in str(server.app.user_middleware)


def test_swagger_can_authorize_with_both_schemes() -> None:
    schemes = make_guarded_server().openapi_schema()["components"]["securitySchemes"]
    shapes = {
        name: {key: value for key, value in scheme.items() if key != "description"}
        for name, scheme in schemes.items()
    }
    assert shapes == {
        "bearer": {"type": "http", "scheme": "bearer"},
        "api_key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
