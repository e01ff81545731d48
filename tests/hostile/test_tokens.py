"""Tokens and keys as attackers send them, and as those who issue them change them."""

import asyncio
import base64
import json
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import jwt
import pytest

from tests.access.conftest import book, guarded, provider  # noqa: F401  # fixtures
from tests.support.calls import answer, start_asker
from tests.support.credentials import (
    AUDIENCE,
    ISSUER,
    IdentityProvider,
    KeyBook,
    bearer,
    claims,
    make_rsa_key,
    publish_rsa,
    sign,
)
from tests.support.live import open_client
from tests.support.problems import problem_of
from tests.support.streams import iterate_frames, read_frames
from tests.support.waiting import DEADLINE, until
from tests.support.workflows import add_all
from workflow_server.app.access import Scope, TokenPolicy, TokenVerifier
from workflow_server.app.access.issuing import write_document
from workflow_server.app.access.jwks import MAX_VALUES, KeySet
from workflow_server.app.access.keys import ApiKey, parse_keys
from workflow_server.app.errors import IdentityUnavailable
from workflow_server.app.server import WorkflowServer

NO_TIMES: list[object] = [
    "soon",
    "9999999999",
    "1e300",
    1e300,
    -1e300,
    1e308 * 10,
    float("nan"),
    True,
    False,
    [],
    [9999999999],
    {},
    {"at": 1},
    10**4000,
    -(10**4000),
    -1,
    1 << 63,
]


def sign_text(payload: str, **headers: Any) -> str:
    """Return a token of a payload that need be no JSON, and is well signed."""
    content = payload.encode()
    return jwt.api_jws.encode(
        content, make_rsa_key("one"), algorithm="RS256", headers={"kid": "one", **headers}
    )


@pytest.mark.parametrize("value", NO_TIMES, ids=lambda value: f"{value!r:.20}")
@pytest.mark.parametrize("claim", ["exp", "nbf", "iat"])
async def test_a_time_that_is_none_is_401(
    guarded: httpx.AsyncClient,  # noqa: F811
    claim: str,
    value: object,
) -> None:
    if value is False or (value in (-1, -1e300) and claim != "exp"):
        value = "no time"
    token = sign_text(json.dumps(claims(**{claim: value})))
    response = await guarded.get("/handlers", headers=bearer(token))
    assert problem_of(response) == (401, "unauthenticated")


async def test_an_exp_that_is_null_is_401(guarded: httpx.AsyncClient) -> None:  # noqa: F811
    token = sign_text(json.dumps({**claims(), "exp": None}))
    assert (await guarded.get("/handlers", headers=bearer(token))).status_code == 401


@pytest.mark.parametrize("claim", ["iss", "aud", "sub"])
@pytest.mark.parametrize("value", [1, 1e300, float("nan"), True, [1], [[]], {"a": 1}, "\ud800"])
async def test_a_claim_of_another_type_is_401(
    guarded: httpx.AsyncClient,  # noqa: F811
    claim: str,
    value: object,
) -> None:
    token = sign_text(json.dumps({**claims(), claim: value}))
    response = await guarded.get("/handlers", headers=bearer(token))
    assert response.status_code == 401 or (claim, value) == ("sub", "\ud800")


@pytest.mark.parametrize(
    ("name", "told"),
    [("a\ud800", "a?"), *((f"a{end}b", f"a{end}b") for end in "\n\0\x0b\x85\u2028\u2029")],
    ids=ascii,
)
async def test_a_name_of_odd_characters_harms_no_run_that_its_bearer_answers(
    guarded: httpx.AsyncClient,  # noqa: F811
    name: str,
    told: str,
) -> None:
    guarded.headers.update(bearer(sign_text(json.dumps(claims(sub=name)))))
    handler_id = await start_asker(guarded)
    assert (await answer(guarded, handler_id, "yes")).status_code == 200
    frames = await read_frames(guarded, handler_id, include_internal=True)
    received = [frame.value for frame in frames if frame.type == "EventReceivedEvent"]
    assert [value["sent_by"] for value in received] == [told]


@pytest.mark.parametrize("value", [1, 1e300, None, True, [[]], [1], {"run": 1}])
async def test_a_scope_of_another_type_is_none(
    guarded: httpx.AsyncClient,  # noqa: F811
    value: object,
) -> None:
    token = sign_text(json.dumps({**claims(), "scope": value}))
    assert (await guarded.get("/handlers", headers=bearer(token))).status_code == 403


@pytest.mark.parametrize(
    "payload",
    [
        "[" * 8_000,
        "[]",
        '"text"',
        "1",
        "null",
        "NaN",
        '{"exp":' + "9" * 5_000 + "}",
        "",
        "{",
        "\x00",
    ],
    ids=lambda payload: repr(payload)[:12],
)
async def test_a_payload_that_is_no_object_is_401(
    guarded: httpx.AsyncClient,  # noqa: F811
    payload: str,
) -> None:
    response = await guarded.get("/handlers", headers=bearer(sign_text(payload)))
    assert problem_of(response) == (401, "unauthenticated")


@pytest.mark.parametrize(
    "head",
    [
        "[" * 8_000,
        "[]",
        "1",
        '{"alg":["RS256"],"kid":"one"}',
        '{"alg":null}',
        '{"alg":"RS256","kid":["one"]}',
        '{"alg":"RS256","kid":{}}',
        '{"alg":"RS256","kid":1}',
        '{"alg":"RS256","kid":null}',
        '{"alg":"RS256","kid":"one","crit":["x"]}',
        '{"alg":"RS256","kid":"one","b64":false}',
        '{"alg":"none"}',
        '{"alg":"HS256","kid":"one"}',
        '{"alg":"RS256","kid":1e999}',
    ],
    ids=lambda head: head[:40],
)
async def test_a_head_that_is_none_is_401(
    guarded: httpx.AsyncClient,  # noqa: F811
    head: str,
) -> None:
    parts = (head, json.dumps(claims()), "signature")
    token = ".".join(
        base64.urlsafe_b64encode(part.encode()).rstrip(b"=").decode() for part in parts
    )
    response = await guarded.get("/handlers", headers=bearer(token))
    assert problem_of(response) == (401, "unauthenticated")


# What a source may do in place of an answer; each goes on for ever.
async def say_nothing(writer: asyncio.StreamWriter) -> None:
    await writer.wait_closed()


async def dribble_a_head(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        writer.write(b"a")
        await writer.drain()
        await asyncio.sleep(0.01)


async def dribble_a_body(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.01)


async def dribble_chunks(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"1\r\n \r\n")
        await writer.drain()
        await asyncio.sleep(0.01)


SLOW = [say_nothing, dribble_a_head, dribble_a_body, dribble_chunks]
Answer = Callable[[asyncio.StreamWriter], Any]


@asynccontextmanager
async def slow_source(answer: Answer, *, first: bool = False) -> AsyncIterator[str]:
    """Serve an answer on loopback, after the keys unless it is the first; yield the address."""
    body = json.dumps({"keys": [publish_rsa("one")]}).encode()

    async def give_keys(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        await writer.drain()
        writer.close()

    answers = [answer] if first else [answer, give_keys]
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            await (answers.pop() if len(answers) > 1 else answers[0])(writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/jwks"
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()


def make_verifier(keys: KeySet) -> TokenVerifier:
    return TokenVerifier(TokenPolicy(issuer=ISSUER, audience=AUDIENCE, jwks="unused"), keys=keys)


@pytest.mark.parametrize("answer", SLOW)
async def test_a_slow_source_does_not_hang_tokens_of_known_keys(answer: Answer) -> None:
    async with slow_source(answer) as url:
        # Old at once, so that each token asks for the keys anew.
        verifier = make_verifier(
            KeySet(url, min_interval=0, max_age=0, patience=0.01, timeout=DEADLINE * 2)
        )
        async with asyncio.timeout(DEADLINE):
            names = [(await verifier.verify(sign(claims()))).name for _ in range(5)]
            unknown = asyncio.create_task(verifier.verify(sign(claims(), kid="two")))
            await asyncio.sleep(0)
            names.append((await verifier.verify(sign(claims()))).name)
        unknown.cancel()
        await asyncio.wait({unknown})
    assert names == ["ada"] * 6


@pytest.mark.parametrize("answer", SLOW)
async def test_a_fetch_has_one_deadline_for_all_of_it(answer: Answer) -> None:
    async with slow_source(answer, first=True) as url:
        keys = KeySet(url, timeout=0.3)
        async with asyncio.timeout(DEADLINE):
            with pytest.raises(IdentityUnavailable):
                await make_verifier(keys).verify(sign(claims()))
            # The thread has come to its end too, and the next fetch is another one.
            await until(lambda: not keys.is_fetching)


async def test_a_name_that_is_looked_up_for_ever_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answered = threading.Event()

    def look_up(*_: Any, **__: Any) -> list[Any]:
        answered.wait()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    keys = KeySet("https://keys.example/jwks", timeout=0.3)
    try:
        async with asyncio.timeout(DEADLINE):
            with pytest.raises(IdentityUnavailable):
                await make_verifier(keys).verify(sign(claims()))
            # Nothing of ours waits for the resolver, so the next fetch is another one.
            await until(lambda: not keys.is_fetching)
    finally:
        answered.set()


async def test_a_name_without_an_address_is_no_error_of_ours() -> None:
    for host in ("nobody.invalid", "x" * 300 + ".example"):
        with pytest.raises(IdentityUnavailable):
            await make_verifier(KeySet(f"https://{host}/jwks")).verify(sign(claims()))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_source_that_sends_elsewhere_is_not_followed(status: int) -> None:
    asked: list[int] = []

    async def note(writer: asyncio.StreamWriter) -> None:
        asked.append(status)
        writer.close()

    async with slow_source(note, first=True) as elsewhere:

        async def redirect(writer: asyncio.StreamWriter) -> None:
            head = f"HTTP/1.1 {status} Elsewhere\r\nLocation: {elsewhere}\r\n"
            writer.write(f"{head}Content-Length: 0\r\n\r\n".encode())
            await writer.drain()
            writer.close()

        async with slow_source(redirect, first=True) as url:
            with pytest.raises(IdentityUnavailable):
                await make_verifier(KeySet(url, timeout=DEADLINE)).verify(sign(claims()))
    assert asked == []


async def test_a_source_that_accepts_and_never_answers_tls_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        source = f"https://127.0.0.1:{listener.getsockname()[1]}/jwks"
        keys = KeySet(source, timeout=0.3)
        async with asyncio.timeout(DEADLINE):
            with pytest.raises(IdentityUnavailable):
                await make_verifier(keys).verify(sign(claims()))
            await until(lambda: not keys.is_fetching)


@pytest.mark.parametrize(
    "keys",
    [
        [[]] * (MAX_VALUES + 1),
        [publish_rsa("one")] * 5_000,
        [{"kty": "RSA", "kid": "one", "n": "AQAB", "e": []}],
        [{"kty": "EC", "kid": "one", "crv": "P-256", "x": "AA", "y": "AA"}],
        [{"kty": "EC", "kid": "one", "crv": ["P-256"], "x": 1, "y": {}}],
        [{"kty": ["RSA"]}, {"kty": None}, None, 1, "text"],
        [{"kty": "RSA", "kid": "one", "n": "A" * 900_000, "e": "AQAB"}],
    ],
    ids=["values", "many", "no exponent", "no point", "types", "no keys", "long"],
)
async def test_a_bomb_in_place_of_a_jwks_is_none(
    guarded: httpx.AsyncClient,  # noqa: F811
    provider: IdentityProvider,  # noqa: F811
    keys: list[Any],
) -> None:
    provider.keys = keys
    response = await guarded.get("/handlers", headers=bearer(sign(claims())))
    assert response.status_code in (401, 503)


def change(book: KeyBook, name: str, **changed: Any) -> None:  # noqa: F811
    """Change a key in its file."""
    keys = parse_keys(book.file.read_text(), where="the file")
    made = [key.model_copy(update=changed) if key.name == name else key for key in keys]
    book.file.write_text(write_document([ApiKey.model_validate(key) for key in made]))


CHANGES: list[dict[str, Any]] = [{"tenant": "other"}, {"tenant": None}, {"scopes": (Scope.READ,)}]


@pytest.mark.parametrize("changed", CHANGES, ids=str)
async def test_a_key_that_is_moved_or_narrowed_ends_its_streams(
    book: KeyBook,  # noqa: F811
    changed: dict[str, Any],
) -> None:
    server = WorkflowServer(access=book.open_access(), sse_heartbeat_interval=0.01)
    add_all(server)
    async with open_client(server) as client:
        client.headers.update(bearer(book.add("k", Scope.RUN, tenant="one")))
        url = f"/events/{await start_asker(client)}?after_sequence=-1"
        async with client.stream("GET", url) as response:
            frames = iterate_frames(response)
            await anext(frames)
            change(book, "k", **changed)
            async with asyncio.timeout(DEADLINE):
                assert [frame async for frame in frames] == []


async def test_a_key_that_gains_a_scope_keeps_its_streams(book: KeyBook) -> None:  # noqa: F811
    access = book.open_access()
    principal = await access.identify(book.add("k", Scope.READ, tenant="one"))
    change(book, "k", scopes=(Scope.RUN,))
    assert await access.confirm(principal)
    change(book, "k", scopes=(Scope.READ,))
    assert await access.confirm(principal)
    book.revoke("k")
    assert not await access.confirm(principal)
