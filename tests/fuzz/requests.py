"""What is tried over HTTP: the same values, as requests to a live server.

No answer may be a server error, except the handler of a run that failed.
"""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable
from urllib.parse import quote

from benchmarks.client import Connection, ConnectionLost, Response, get, post
from tests.fuzz.source import Source
from tests.fuzz.targets import CONTEXT, CURSORS, EVENT_IDS, EVENTS, START_EVENTS
from tests.fuzz.values import damage, make_text, write_body, write_text
from tests.support.live import serving
from tests.support.workflows import Asker, Conversation, Echo, Failer, Greeter
from workflow_server.app.server import WorkflowServer

LONGEST = 400  # bytes that a request is made of
CONNECTIONS = 8
WORKFLOWS = ("greeter", "echo", "conversation", "failer", "nothing")
ENDED = ("completed", "failed", "unknown")


def _run(source: Source) -> bytes:
    body = {"start_event": source.pick(START_EVENTS), "handler_id": make_text(source)}
    path = f"/workflows/{source.pick(WORKFLOWS)}/run-nowait"
    return post(path, write_body(source, damage(source, body)))


def _run_context(source: Source) -> bytes:
    body = {"context": damage(source, CONTEXT), "start_event": source.pick((None, *START_EVENTS))}
    return post("/workflows/asker/run-nowait", write_body(source, body))


def _send(source: Source) -> bytes:
    body = {"event": source.pick(EVENTS), "step": source.pick((None, "take"))}
    handler_id = source.pick(("running", *ENDED))
    return post(f"/events/{handler_id}", write_body(source, damage(source, body)))


def _list(source: Source) -> bytes:
    filters = source.pick(("", "&status=running", "&workflow_name=echo", "&waiting=true"))
    return get(f"/handlers?limit=3{filters}&cursor={_quoted(write_text(source, CURSORS))}")


def _stream(source: Source) -> bytes:
    query = f"after_sequence={_quoted(write_text(source, EVENT_IDS))}"
    # Only the first line ends where a header may not.
    identifier = write_text(source, EVENT_IDS).encode("utf-8", "replace")
    header = b"Last-Event-ID: " + identifier.translate(None, b"\r\n\0") + b"\r\n\r\n"
    request = get(f"/events/{source.pick(ENDED)}?{query}&sse={source.pick(('true', 'false'))}")
    return request.removesuffix(b"\r\n") + header if source.below(2) else request


def _get(source: Source) -> bytes:
    path = source.pick(("/handlers/", "/results/", "/workflows/", "/assets/"))
    return get(path + _quoted(make_text(source)) + source.pick(("", "/schema", "?run_id=%00")))


KINDS: tuple[Callable[[Source], bytes], ...] = (_run, _run_context, _send, _list, _stream, _get)


def _quoted(text: str) -> str:
    return quote(text.encode("utf-8", "surrogatepass"), safe="")


def _make_server(store: str) -> WorkflowServer:
    server = WorkflowServer(workflow_store=store)
    for name, workflow in (
        ("greeter", Greeter()),
        ("echo", Echo()),
        ("conversation", Conversation()),
        ("failer", Failer()),
        ("asker", Asker(timeout=None)),
    ):
        server.add_workflow(name, workflow)
    return server


async def try_requests(store: str, cases: int, seed: int) -> tuple[Counter[int], list[str]]:
    """Send requests to a live server over a store; return how often each status came, and faults.

    The store is given by its URL.
    """
    statuses: Counter[int] = Counter()
    findings: list[str] = []
    numbers = iter(range(cases))
    async with serving(_make_server(store)) as url:
        port = int(url.rpartition(":")[2])
        for name, handler_id in (("echo", "completed"), ("failer", "failed"), ("asker", "running")):
            body = json.dumps({"handler_id": handler_id}).encode()
            await _ask(port, post(f"/workflows/{name}/run-nowait", body))

        async def work() -> None:
            for number in numbers:
                source = Source(random.Random(seed + number).randbytes(LONGEST))
                request = source.pick(KINDS)(source)
                wrong = await _try_one(port, request, statuses)
                if wrong:
                    findings.append(f"case {number}: {wrong} for {request[:500]!r}")

        async with asyncio.TaskGroup() as group:
            for _ in range(CONNECTIONS):
                group.create_task(work())
        answer = await _ask(port, get("/health"))
        if answer.body != b'{"status":"healthy"}':
            findings.append(f"at the end: {answer}")
    return statuses, findings


async def _try_one(port: int, request: bytes, statuses: Counter[int]) -> str | None:
    """Send a request; return what is wrong with the answer, if anything is."""
    try:
        response = await _ask(port, request)
    except ConnectionLost:
        return "no answer"
    statuses[response.status] += 1
    if b'"status":"running"' in response.body and request.startswith(b"POST /workflows/"):
        handler_id = json.loads(response.body)["handler_id"]
        await _ask(port, post(f"/handlers/{_quoted(handler_id)}/cancel?purge=true"))
    if response.status < 500:
        return None
    ended = any(b'"status":"%b"' % status in response.body for status in (b"failed", b"cancelled"))
    return None if ended else f"{response.status} {response.body[:300]!r}"


async def _ask(port: int, request: bytes) -> Response:
    connection = await Connection.open(port)
    try:
        async with asyncio.timeout(30):
            return await connection.request(request)
    finally:
        connection.close()
