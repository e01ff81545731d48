"""One request of the table, put to one server, and what a client sees of the answer."""

import re
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

import httpx

Json = dict[str, Any]

# Those that a client acts on.
HEADERS = (
    "access-control-allow-origin",
    "access-control-allow-credentials",
    "allow",
    "cache-control",
    "deprecation",
    "etag",
    "location",
    "retry-after",
    "www-authenticate",
    "x-accel-buffering",
)
HANDLER_TIMES = ("started_at", "updated_at", "completed_at")


@dataclass(frozen=True)
class Request:
    """A request, and what is done before it.

    `given` names what makes the handler whose id stands in place of `{id}`.
    """

    name: str
    method: str
    path: str
    given: str = "nothing"
    json: Any = None
    content: bytes | None = None
    params: Mapping[str, str | list[str]] | None = None
    headers: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Outcome:
    """What a client sees of an answer, with ids and times replaced."""

    status: int
    media: str
    headers: Json
    body: Any


def start(client: httpx.Client, workflow: str, **fields: Any) -> str:
    """Start a run, and return its handler's id."""
    answer = client.post(f"/workflows/{workflow}/run-nowait", json={"start_event": fields})
    started: str = answer.raise_for_status().json()["handler_id"]
    return started


def wait_ended(client: httpx.Client, handler_id: str) -> str:
    """Return the handler's id once its run has ended."""
    while client.get(f"/handlers/{handler_id}").status_code == 202:
        pass
    return handler_id


def wait_asked(client: httpx.Client, handler_id: str, opened: ExitStack) -> str:
    """Return the handler's id once it has asked, and hold the place of its reader."""
    reader = client.stream("GET", f"/events/{handler_id}", params={"sse": "false"})
    response = opened.enter_context(reader)
    lines = cast("Generator[str]", response.iter_lines())
    opened.callback(lines.close)  # held until then: a reader that is forgotten has hung up
    next(lines)
    return handler_id


def run(client: httpx.Client, workflow: str, **fields: Any) -> str:
    """Run a workflow to its end, and return its handler's id."""
    answer = client.post(f"/workflows/{workflow}/run", json={"start_event": fields})
    handler_id: str = answer.json()["handler_id"]
    return handler_id


def cancel(client: httpx.Client, handler_id: str, **params: str) -> str:
    """Cancel a run, and return its handler's id."""
    client.post(f"/handlers/{handler_id}/cancel", params=params).raise_for_status()
    return handler_id


def ask_once(client: httpx.Client) -> str:
    """Start a run that asks, and return its handler's id once it has asked."""
    with ExitStack() as opened:
        return wait_asked(client, start(client, "ask"), opened)


def answer(client: httpx.Client, handler_id: str) -> str:
    """Answer a run's question, and return its handler's id once it has ended."""
    body = {"event": {"type": "Answer", "value": {"text": "yes"}}}
    client.post(f"/events/{handler_id}", json=body).raise_for_status()
    return wait_ended(client, handler_id)


def read(client: httpx.Client, handler_id: str) -> str:
    """Read a run's events to the end, and return its handler's id."""
    client.get(f"/events/{handler_id}").raise_for_status()
    return handler_id


Given = Callable[[httpx.Client, ExitStack], str]
GIVEN: dict[str, Given] = {
    "nothing": lambda _client, _opened: "nobody",
    "completed": lambda client, _opened: run(client, "greet", name="Ada"),
    "completed with a class of its own": lambda client, _opened: run(client, "count"),
    "completed in the background": lambda client, _opened: wait_ended(
        client, start(client, "count")
    ),
    "completed and read": lambda client, _opened: read(
        client, wait_ended(client, start(client, "count"))
    ),
    "failed": lambda client, _opened: run(client, "fail"),
    "failed with two lines": lambda client, _opened: run(client, "fail", text="one\ntwo"),
    "running": lambda client, _opened: ask_once(client),
    "being read": lambda client, opened: wait_asked(client, start(client, "ask"), opened),
    "answered": lambda client, _opened: answer(client, ask_once(client)),
    "cancelled": lambda client, _opened: cancel(client, ask_once(client)),
    "purged": lambda client, _opened: cancel(client, ask_once(client), purge="true"),
    "a conversation": lambda client, _opened: run(client, "talk"),
}


def ask(client: httpx.Client, request: Request) -> Outcome:
    """Put a request to a server, and return what a client sees of the answer."""
    with ExitStack() as opened:
        handler_id = GIVEN[request.given](client, opened)
        filled = _fill(request.json, handler_id)
        response = client.request(
            request.method,
            request.path.format(id=handler_id),
            params=request.params,
            headers=request.headers,
            **({"content": request.content} if filled is None else {"json": filled}),
        )
    headers: Json = {name: response.headers[name] for name in HEADERS if name in response.headers}
    if "allow" in headers:  # HEAD goes with GET
        headers["allow"] = sorted({*headers["allow"].split(", ")} - {"HEAD"})
    if "etag" in headers:
        headers["etag"] = "one"
    media = response.headers.get("content-type", "").partition(";")[0]
    body = _read(response, media, handler_id)
    return Outcome(response.status_code, media, headers, body)


def _fill(value: Any, handler_id: str) -> Any:
    if isinstance(value, dict):
        return {key: _fill(each, handler_id) for key, each in value.items()}
    return handler_id if value == "{id}" else value


def _read(response: httpx.Response, media: str, handler_id: str) -> Any:
    if media == "text/event-stream":
        return _lines(response.text, handler_id)
    if media == "application/x-ndjson":
        return [_parse(line) for line in response.text.splitlines()]
    if media == "text/html":
        return "a page"
    if not media.endswith("json"):
        return {"detail": response.text} if response.text else None
    return _replace(response.json(), handler_id)


def _lines(text: str, handler_id: str) -> list[Any]:
    fields = [line.partition(": ") for line in text.splitlines() if line]
    return [_parse(value) if key == "data" else key for key, _, value in fields]


def _parse(line: str) -> Any:
    return httpx.Response(200, text=line).json()


def _replace(body: Any, handler_id: str) -> Any:
    """Return a body with ids and times replaced by what they are."""
    if isinstance(body, dict) and isinstance(body.get("handlers"), list):
        own = [each for each in body["handlers"] if each["handler_id"] == handler_id]
        return {**body, "handlers": [_replace(each, handler_id) for each in own]}
    if isinstance(body, dict) and "events" in body:  # a set, on the older server
        return {**body, "events": sorted(body["events"], key=lambda schema: schema["title"])}
    if not isinstance(body, dict) or "handler_id" not in body:
        return body
    replaced = {**body, "run_id": type(body["run_id"]).__name__}
    for name in HANDLER_TIMES:
        replaced[name] = body[name] and str(datetime.fromisoformat(body[name]).tzinfo)
    if body["handler_id"] == handler_id:
        return {**replaced, "handler_id": "the same"}
    is_made = re.fullmatch("[A-Za-z0-9_-]{10}", body["handler_id"])
    return {**replaced, "handler_id": "made" if is_made else body["handler_id"]}
