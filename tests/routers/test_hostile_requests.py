"""Requests that no client would send, byte by byte: each is taken as it stands, or refused.

What is refused leaves nothing behind that could be read as the next request.
"""

import gzip
from importlib.metadata import version
from pathlib import Path

import httpx
import pytest

from tests.support.calls import get_status, start
from tests.support.command import serving, write_echo
from tests.support.live import open_client
from tests.support.problems import problem_of
from tests.support.sockets import connect
from workflow_server.app.server import WorkflowServer

BODY = b'{"handler_id": "h"}'
CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
NEXT = b"GET /smuggled HTTP/1.1\r\nHost: t\r\n\r\n"


def post(body: bytes, *headers: bytes) -> bytes:
    """Return a run request with these headers and no others but `Host`."""
    head = [b"POST /workflows/echo/run HTTP/1.1", b"Host: t", *headers, b"", b""]
    return b"\r\n".join(head) + body


def get(path: bytes, *headers: bytes) -> bytes:
    """Return a request, after which the connection is closed."""
    return b"\r\n".join([b"GET %b HTTP/1.1" % path, *headers, b"Connection: close", b"", b""])


async def exchange(client: httpx.AsyncClient, request: bytes) -> bytes:
    """Send bytes and return all that comes until the server closes the connection."""
    async with connect(client) as connection:
        connection.writer.write(request)
        await connection.writer.drain()
        return await connection.reader.read()


LENGTH = b"Content-Length: %d" % len(BODY)
# Whoever stands before the server may read these otherwise than it does.
AMBIGUOUS = {
    "a length and chunks": post(CHUNKED, b"Content-Length: 3", b"Transfer-Encoding: chunked"),
    "chunks and a length": post(CHUNKED, b"Transfer-Encoding: chunked", b"Content-Length: 0"),
    "two lengths": post(BODY, LENGTH, b"Content-Length: 3"),
    "one length twice": post(BODY, LENGTH, LENGTH),
    "a list of lengths": post(BODY, LENGTH + b", %d" % len(BODY)),
    "a negative length": post(BODY, b"Content-Length: -5"),
    "a length with a sign": post(BODY, b"Content-Length: +%d" % len(BODY)),
    "a length in other digits": post(BODY, "Content-Length: \u0661".encode()),
    "a length beyond all": post(BODY, b"Content-Length: " + b"9" * 30),
    "an unknown coding": post(CHUNKED, b"Transfer-Encoding: xchunked"),
    "chunks inside of a coding": post(CHUNKED, b"Transfer-Encoding: chunked, identity"),
    "a space before the colon": post(CHUNKED, b"Transfer-Encoding : chunked"),
    "a chunk without a size": post(b"zz\r\n{}\r\n0\r\n\r\n", b"Transfer-Encoding: chunked"),
    "a chunk beyond all": post(b"f" * 19 + b"\r\n{}\r\n", b"Transfer-Encoding: chunked"),
    "a header on two lines": get(b"/health", b"X-A: a\r\n b"),
    "a carriage return alone": get(b"/health", b"X-A: a\rX-B: b"),
    "line feeds alone": b"GET /health HTTP/1.1\nHost: t\n\n",
    "a null in a header": get(b"/health", b"X-A: a\0b"),
    "a null in the path": get(b"/handlers/a\0b"),
    "a path that is not ASCII": get("/handlers/\u00e4".encode()),
    "a method that is none": b"G\0T /health HTTP/1.1\r\nHost: t\r\n\r\n",
    "a tunnel": b"CONNECT t:80 HTTP/1.1\r\nHost: t\r\n\r\n",
    "another version": b"GET /health HTTP/3.7\r\nHost: t\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": bytes.fromhex("16030100a5010000a10303") + bytes(160),
    "every byte": bytes(range(256)),
}


@pytest.mark.parametrize("name", AMBIGUOUS)
async def test_what_can_be_read_in_two_ways_is_refused_with_all_behind_it(
    client: httpx.AsyncClient, name: str
) -> None:
    answer = await exchange(client, AMBIGUOUS[name] + NEXT)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert (await client.get("/handlers/h")).status_code == 404


BOMB = gzip.compress(b'{"start_event": {"x": "%b"}}' % (b"a" * 50_000_000))
CODED: dict[str, tuple[bytes, list[tuple[str, str]]]] = {
    "gzip": (gzip.compress(BODY), [("Content-Encoding", "gzip")]),
    "a bomb": (BOMB, [("Content-Encoding", "gzip")]),
    "another name of it": (BOMB, [("Content-Encoding", "X-GZIP")]),
    "what it is not": (BODY, [("Content-Encoding", "deflate")]),
    "twice": (BOMB, [("Content-Encoding", "gzip, gzip")]),
    "an unknown one": (BODY, [("Content-Encoding", "zstd")]),
    "after identity": (BODY, [("Content-Encoding", "identity"), ("Content-Encoding", "br")]),
}


@pytest.mark.parametrize("path", ["/workflows/echo/run", "/events/h"])
@pytest.mark.parametrize("name", CODED)
async def test_a_coded_body_is_refused_and_never_unpacked(
    client: httpx.AsyncClient, name: str, path: str
) -> None:
    body, headers = CODED[name]
    response = await client.post(path, content=body, headers=headers)
    assert (response.status_code, response.json()["code"]) == (415, "unsupported_coding")
    assert response.headers["accept-encoding"] == "identity"


async def test_a_body_that_was_coded_for_its_transfer_is_refused(client: httpx.AsyncClient) -> None:
    answer = await exchange(
        client, post(CHUNKED, b"Transfer-Encoding: gzip, chunked", b"Connection: close")
    )
    assert answer.startswith(b"HTTP/1.1 415 ")


async def test_a_body_that_says_that_it_is_not_coded_is_taken(client: httpx.AsyncClient) -> None:
    headers = {"Content-Encoding": "identity"}
    response = await client.post("/workflows/echo/run", content=BODY, headers=headers)
    assert response.status_code == 200


# What a client sends for its own header, or as a part of an address, in an answer's header.
INJECTED = (
    b"a%0d%0aX-Evil: 1",
    b"a\xc4\x8d\xc4\x8aX-Evil: 1",
    b"a\xe5\x98\x8a\xe5\x98\x8dX-Evil: 1",
)


@pytest.mark.parametrize("value", INJECTED)
@pytest.mark.parametrize(
    "name", [b"X-Request-Id", b"Origin", b"Host", b"Last-Event-ID", b"Accept-Encoding"]
)
async def test_no_header_comes_from_inside_of_another(
    client: httpx.AsyncClient, name: bytes, value: bytes
) -> None:
    answer = await exchange(client, get(b"/workflows/", b"%b: %b" % (name, value)))
    head = answer.partition(b"\r\n\r\n")[0].lower()
    assert b"\r\nx-evil" not in head
    assert b"\nx-request-id: a%0d" not in head


@pytest.mark.parametrize(
    "path", [b"/workflows/a%0d%0aX-Evil:%201/schema", b"/docs/%0d%0aX-Evil:%201", b"//x%0d%0a/"]
)
async def test_no_header_comes_from_a_path(client: httpx.AsyncClient, path: bytes) -> None:
    head = (await exchange(client, get(path, b"Host: t"))).partition(b"\r\n\r\n")[0].lower()
    assert head.startswith(b"http/1.1 404 ")
    assert b"\nx-evil" not in head


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/", "/openapi.json"])
async def test_a_page_repeats_nothing_that_a_client_says_of_itself(
    client: httpx.AsyncClient, path: str
) -> None:
    hostile = '"><script>evil</script>'
    names = ("X-Forwarded-Host", "X-Forwarded-Prefix", "X-Forwarded-Proto", "User-Agent")
    headers = {**dict.fromkeys(names, hostile), "Host": "evil.example"}
    response = await client.get(path, headers=headers, params={"x": hostile})
    assert response.status_code == 200
    assert "evil" not in response.text


OUTSIDE = (
    "/assets/%2e%2e%2findex.html", "/assets/..%5cindex.html", "/assets/%2e%2e/index.html",
    "/assets//etc/passwd", "/assets/index.html%00.js", "/assets/.", "/assets/%ff.js",
    f"/assets/{'a' * 5000}.js", f"/assets/{'a.' * 120}js", f"/assets/{'a' * 250}.js",
    "/static-offline-docs/%2e%2e/%2e%2e/__init__.py", "/static-offline-docs//etc/passwd",
    "/static-offline-docs/%00", f"/static-offline-docs/{'a' * 5000}", "/%2e%2e/%2e%2e/etc/passwd",
    "/handlers/%2e%2e/%2e%2e/docs", "/handlers/a%2fb", "/static-offline-docs/%2fetc%2fpasswd",
)  # fmt: skip


@pytest.mark.parametrize("path", OUTSIDE, ids=lambda path: path[:40])
async def test_no_path_leads_out_of_the_folders_of_the_pages(
    client: httpx.AsyncClient, path: str
) -> None:
    answer = await exchange(client, get(path.encode(), b"Host: t"))
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b'"code":"not_found"' in answer


@pytest.mark.parametrize(
    "origins",
    [("http://localhost", "https://evil.example"), ("https://evil.example", "http://localhost")],
)
async def test_a_foreign_origin_does_not_hide_behind_an_allowed_one(
    client: httpx.AsyncClient, origins: tuple[str, str]
) -> None:
    headers = [("Origin", origin) for origin in origins]
    response = await client.post("/workflows/echo/run", content=BODY, headers=headers)
    assert response.status_code == 403


@pytest.mark.parametrize(
    "hosts",
    [
        (),
        (b"Host: t", b"Host: t"),
        (b"Host: evil.example", b"Host: t", b"Origin: http://evil.example"),
        (b"Host: t, u",),
        (b"Host: a/b",),
        (b"Host: user@t",),
        (b"Host: t:80:80",),
        (b"Host: [::1",),
        (b"Host: \xc3\xa9",),
    ],
    ids=str,
)
@pytest.mark.parametrize("path", [b"/health", b"/workflows", b"/docs", b"/"])
async def test_a_request_that_does_not_name_one_host_is_refused(
    client: httpx.AsyncClient, hosts: tuple[bytes, ...], path: bytes
) -> None:
    answer = await exchange(client, get(path, *hosts))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"content-type: application/problem+json\r\n" in answer
    assert b'"code":"malformed_request"' in answer


@pytest.mark.parametrize(
    "host", [b"t", b"T.example:8000", b"[::1]:80", b"127.0.0.1", b"", b"my_host", b"%C3%A9"]
)
async def test_a_request_that_names_its_host_is_answered(
    client: httpx.AsyncClient, host: bytes
) -> None:
    answer = await exchange(client, get(b"/health", b"Host: " + host))
    assert answer.startswith(b"HTTP/1.1 200 ")


async def test_http_1_0_needs_no_host(client: httpx.AsyncClient) -> None:
    answer = await exchange(client, b"GET /health HTTP/1.0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "requested", ["bytes=0-3", "bytes=9-2", "bytes=", "lines=1-2", "x", "bytes=999999999-"]
)
@pytest.mark.parametrize("path", ["/", "/docs", "/static-offline-docs/swagger-ui.css"])
async def test_a_range_is_passed_over(client: httpx.AsyncClient, path: str, requested: str) -> None:
    whole = await client.get(path)
    answer = await client.get(path, headers={"Range": requested})
    assert (answer.status_code, answer.content) == (200, whole.content)
    assert "accept-ranges" not in answer.headers


@pytest.mark.parametrize("path", ["/docs/", "/workflows/", "/handlers/", "/health/"])
async def test_a_slash_too_many_leads_to_no_host_that_the_client_names(
    client: httpx.AsyncClient, path: str
) -> None:
    answer = await client.get(path, headers={"Host": "evil.example"})
    assert problem_of(answer) == (404, "not_found")


async def test_the_root_path_alone_leads_below_it_by_a_relative_address() -> None:
    async with open_client(WorkflowServer(root_path="/team/flows")) as client:
        answer = await client.get("/team/flows", headers={"Host": "evil.example"})
        page = await client.get("/team/flows", follow_redirects=True)
    assert (answer.status_code, answer.headers["location"]) == (307, "flows/")
    assert (page.status_code, page.url.path) == (200, "/team/flows/")


async def test_the_first_of_several_request_ids_is_taken(client: httpx.AsyncClient) -> None:
    headers = [("X-Request-Id", "one"), ("X-Request-Id", "two")]
    response = await client.get("/health", headers=headers)
    assert response.headers.get_list("x-request-id") == ["one"]


async def test_a_request_behind_a_body_is_the_next_one_and_nothing_else(
    client: httpx.AsyncClient,
) -> None:
    handler_id = await start(client, "echo")
    request = post(BODY, LENGTH) + get(b"/handlers/h", b"Host: t")
    answer = await exchange(client, request)
    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert await get_status(client, handler_id) == "completed"


def test_the_command_says_nothing_of_what_it_is_made_of(tmp_path: Path) -> None:
    write_echo(tmp_path / "flow.py", "echo = Echo()")
    packages = ("uvicorn", "fastapi", "starlette", "httptools", version("workflow-server"))
    with serving(tmp_path, "flow.py", "--store", "memory:") as server:
        for path in ("/health", "/", "/docs", "/nothing", "/handlers?limit=x"):
            headers = httpx.get(f"{server.url}{path}").headers
            assert "server" not in headers
            assert not [name for name in packages if name in str(headers)]
