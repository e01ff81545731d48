"""Every field of every request with every hostile value, on every durable store.

An answer is what was asked for, a problem that says what is wrong, or the handler of a run that
failed; never an error of the server. Afterwards the service is as healthy as before.
"""

import base64
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.support.backends import DURABLE, FRESH_URLS
from tests.support.calls import start, start_asker
from tests.support.live import open_client
from tests.support.problems import problem_of
from tests.support.workflows import add_all
from workflow_server.app.server import WorkflowServer

TEXTS = (
    "", " ", "\0", "a\0b", "\x01\x1f\x7f", "\r\nX: 1", "\u2028\u2029\x85", "../../etc/passwd",
    "%2e%2e%2f", "..\\", "a" * 255, "a" * 256, "a" * 20_000, "\u00e9", "\ufeff", "\ufffe\uffff",
    "\U0010ffff", "\ud800", "'; DROP TABLE runs; --", "<script>", "${jndi:x}", "{{7*7}}", "%s%n",
    "None", "null", "true", "now", "-1", "1e999", "9" * 5000, "\u0661", "1_0", "*", "__class__",
)  # fmt: skip


def nest(depth: int, *, key: str | None = None) -> Any:
    """Return a value inside of so many lists, or objects."""
    value: Any = 1
    for _ in range(depth):
        value = {key: value} if key else [value]
    return value


VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 2**31, 2**63, 2**64, -(2**63) - 1, 10**400, 0.5, 1e308, -0.0,
    [], {}, [[]], {"": {}}, {"__class__": "x"}, {"type": "x"}, {"value": {}}, *TEXTS, [*TEXTS],
    dict.fromkeys(TEXTS), [0] * 10_000, nest(150), nest(150, key="a"), nest(190),
)  # fmt: skip

OUTSIDE_THE_DOCUMENT = (
    "/assets/{}", "/static-offline-docs/{}", "/docs/{}", "/{}", "/health?{}", "/?{}", "/docs?{}",
    "/events/ended?after_sequence=-1&sse={}", "/events/ended?after_sequence=-1&run_id={}",
)  # fmt: skip
SOUND = {"name": "greeter", "handler_id": "ended", "sequence": "0", "server_id": "0"}


def list_addresses(method: str) -> Iterator[str]:
    """Yield the address of each parameter in the document, with `{}` where its value stands."""
    server = WorkflowServer()
    add_all(server)
    for path, item in server.openapi_schema()["paths"].items():
        sound = path.format_map(SOUND)
        for parameter in item.get(method, {}).get("parameters", ()):
            match parameter:
                case {"in": "path", "name": name}:
                    yield path.format_map({**SOUND, name: "{}"})
                case {"in": "query", "name": name}:
                    yield f"{sound}?{name}={{}}"


RUN_FIELDS = ("start_event", "kwargs", "context", "handler_id", "more")
SENT_FIELDS = ("event", "step", "reply_to", "more")
ENVELOPE_FIELDS = ("type", "value", "types", "qualified_name", "data")
SOUND_EVENT = {"type": "Answer", "value": {"text": "a"}}


@pytest.fixture(params=DURABLE)
async def client(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of a server over a store, which has a handler that ended."""
    async with FRESH_URLS[request.param](tmp_path) as url:
        server = WorkflowServer(workflow_store=url)
        add_all(server)
        async with open_client(server) as client:
            await start(client, "echo", "ended")
            yield client
            assert (await client.get("/health")).json() == {"status": "healthy"}


def check(response: httpx.Response, sent: object) -> None:
    """Fail where the answer is not one that the contract knows."""
    if response.status_code >= 500:
        assert response.json()["status"] in ("failed", "cancelled"), (response.text, sent)
    elif response.status_code >= 400:
        problem_of(response)


def quoted() -> Iterator[str]:
    """Yield every text as a part of an address."""
    for text in TEXTS:
        yield quote(text.encode("utf-8", "surrogatepass"), safe="")


@pytest.mark.parametrize("field", RUN_FIELDS)
@pytest.mark.parametrize("workflow", ["greeter", "echo"])
async def test_a_field_of_a_run_request(
    client: httpx.AsyncClient, workflow: str, field: str
) -> None:
    for value in VALUES:
        body = json.dumps({"start_event": {"name": "Ada"}, field: value})
        check(await client.post(f"/workflows/{workflow}/run", content=body), value)


@pytest.mark.parametrize(
    ("workflow", "field"),
    [("greeter", "name"), ("echo", "x"), ("typed", "type"), ("typed", "value"), ("typed", "data")],
)
async def test_a_field_of_a_start_event(
    client: httpx.AsyncClient, workflow: str, field: str
) -> None:
    for value in VALUES:
        body = json.dumps({"start_event": {field: value}})
        check(await client.post(f"/workflows/{workflow}/run", content=body), value)


@pytest.mark.parametrize("field", SENT_FIELDS)
async def test_a_field_of_a_request_to_send(client: httpx.AsyncClient, field: str) -> None:
    handler_id = await start_asker(client, questions=1_000)
    for value in VALUES:
        body = json.dumps({"event": SOUND_EVENT, field: value})
        for receiver in (handler_id, "ended", "nobody"):
            check(await client.post(f"/events/{receiver}", content=body), value)


@pytest.mark.parametrize("field", ENVELOPE_FIELDS)
async def test_a_field_of_an_envelope(client: httpx.AsyncClient, field: str) -> None:
    handler_id = await start_asker(client, questions=1_000)
    for value in VALUES:
        body = json.dumps({"event": {**SOUND_EVENT, field: value}})
        check(await client.post(f"/events/{handler_id}", content=body), value)
        body = json.dumps({"start_event": {"name": "Ada", **SOUND_EVENT, field: value}})
        check(await client.post("/workflows/greeter/run", content=body), value)


@pytest.mark.parametrize("address", [*list_addresses("get"), *OUTSIDE_THE_DOCUMENT])
async def test_a_part_of_an_address(client: httpx.AsyncClient, address: str) -> None:
    for text in quoted():
        check(await client.get(address.format(text)), text)


@pytest.mark.parametrize("address", [*list_addresses("post")])
async def test_a_part_of_an_address_that_is_posted_to(
    client: httpx.AsyncClient, address: str
) -> None:
    for text in quoted():
        check(await client.post(address.format(text), json={"event": SOUND_EVENT}), text)


async def test_a_cursor_that_somebody_made_up(client: httpx.AsyncClient) -> None:
    times = (
        "2026-01-01T00:00:00+00:00", "0001-01-01T00:00:00+23:59", "2026-01-01",
        "9999-12-31T23:59:59.999999-23:59", "2026-01-01T00:00:00+00:00:00.000001", "now",
    )  # fmt: skip
    for time in times:
        for text in TEXTS:
            place = f"{time} {text[:2000]}".encode("utf-8", "surrogatepass")
            cursor = base64.urlsafe_b64encode(place).decode()
            check(await client.get("/handlers", params={"cursor": cursor}), place)


HEADERS = (
    "Last-Event-ID", "X-Request-Id", "Accept", "Content-Type", "Accept-Encoding", "Origin",
    "If-None-Match", "If-Modified-Since", "Cookie", "User-Agent", "X-Forwarded-For", "Forwarded",
    "X-Forwarded-Proto", "Authorization", "X-API-Key", "Sec-Fetch-Site", "Content-Language",
)  # fmt: skip
PATHS = ("/events/ended?after_sequence=-1", "/static-offline-docs/swagger-ui.css")


@pytest.mark.parametrize("header", HEADERS)
async def test_a_header(client: httpx.AsyncClient, header: str) -> None:
    for text in TEXTS:
        value = text.encode("utf-8", "surrogatepass")
        # What no header may hold is in the table of whole requests.
        value = bytes(byte for byte in value if byte >= 0x20 and byte != 0x7F).strip()
        for path in PATHS:
            check(await client.get(path, headers=[(header.encode(), value)]), text)
