"""The requests: every route, every parameter, every error, as valid and as invalid as they come."""

import json
from collections.abc import Iterator
from typing import Any

from tests.differential.asking import Request

MODULE = "tests.differential.flows"
FIELDS = {"name": "Ada", "times": 2}
UNTYPED = "workflows.events.StartEvent"
TEXT = {"text": "yes"}
NAMES = ("health", "workflows", "handlers")


def _marked(value: Any, name: str) -> dict[str, Any]:
    """Return an envelope as clients of 2.8 write it."""
    return {"__is_pydantic": True, "value": value, "qualified_name": name}


STARTS: dict[str, Any] = {
    "fields": FIELDS,
    "fields in a string": json.dumps(FIELDS),
    "an envelope": {"type": "Greet", "value": FIELDS},
    "an envelope in a string": json.dumps({"type": "Greet", "value": FIELDS}),
    "an envelope with null for a name": {"type": "Greet", "value": FIELDS, "qualified_name": None},
    "an envelope with one key more": {"type": "Greet", "value": FIELDS, "sequence": 1},
    "an envelope with another class first": {
        "type": "Nobody",
        "value": FIELDS,
        "qualified_name": f"{MODULE}.Greet",
    },
    "an envelope by qualified name": {"qualified_name": f"{MODULE}.Greet", "value": FIELDS},
    "an envelope with data for value": {
        "type": "Greet",
        "qualified_name": None,
        "data": FIELDS,
    },
    "an envelope with type and data alone": {"type": "Greet", "data": FIELDS},
    "the mark of 2.8": _marked(FIELDS, f"{MODULE}.Greet"),
    "the mark of 2.8 in a string": json.dumps(_marked(FIELDS, f"{MODULE}.Greet")),
    "the mark of 2.8 and a class of nobody": _marked(FIELDS, "nowhere.Nobody"),
    "fields and an unknown one": {**FIELDS, "colour": "blue"},
    "an unknown class": {"type": "Nobody", "value": FIELDS},
    "a class that is no start event": {"type": "StopEvent", "value": {}},
    "a value that is no object": {"type": "Greet", "value": "Ada"},
    "a value that is null": {"type": "Greet", "value": None},
    "a field of another type": {"name": ["Ada"]},
    "no required field": {"times": 2},
    "no field": {},
    "an empty string": "",
    "a string that is no JSON": "Ada",
    "a string of a list": "[1]",
    "a list": [1],
    "a number": 7,
    "null": None,
}
ECHOED: dict[str, Any] = {
    "fields": {"a": 1, "b": {"c": [None, "é", 1.5]}},
    "an untyped envelope": {"type": "StartEvent", "value": {"a": 1}},
    "an untyped envelope with private fields": {
        "type": "StartEvent",
        "value": {"_data": {"a": 1}},
    },
    "the mark of 2.8": _marked({"a": 1}, UNTYPED),
    "the mark of 2.8 with private fields": _marked({"_data": {"a": 1}}, UNTYPED),
    "private fields": {"_data": {"a": 1}},
    "a field called type": {"type": "invoice"},
    "a field called data": {"data": {"a": 1}},
    "fields called type and value": {"type": "invoice", "value": 12},
    "no field": {},
}
BODIES: dict[str, bytes] = {
    "no body": b"",
    "no JSON": b"{",
    "not UTF-8": b'{"start_event": {"name": "\xff"}}',
    "a list": b"[]",
    "a string": b'"Ada"',
    "null": b"null",
    "an object without keys": b"{}",
    "unknown keys alone": b'{"startEvent": {"name": "Ada"}}',
    "an unknown key beside a known one": b'{"kwargs": {"name": "Ada"}, "colour": 1}',
    "kwargs": b'{"kwargs": {"name": "Ada"}}',
    "an envelope in kwargs": b'{"kwargs": {"type": "Greet", "value": {"name": "Ada"}}}',
    "kwargs beside a null start event": b'{"kwargs": {"name": "Ada"}, "start_event": null}',
    "no context": b'{"start_event": {"name": "Ada"}, "context": {}}',
    "a null context": b'{"start_event": {"name": "Ada"}, "context": null}',
    "a context that is none": b'{"start_event": {"name": "Ada"}, "context": {"a": 1}}',
    "a context of a list": b'{"start_event": {"name": "Ada"}, "context": [1]}',
}
IDS: dict[str, Any] = {
    "an empty id": "",
    "a null id": None,
    "a new id": "brand-new",
    "an id with a slash": "a/b",
    "an id that is a number": 7,
}
EVENTS: dict[str, Any] = {
    "an envelope": {"type": "Answer", "value": TEXT},
    "an envelope in a string": json.dumps({"type": "Answer", "value": TEXT}),
    "an envelope with one key more": {"type": "Answer", "value": TEXT, "sequence": 1},
    "an envelope with data for value": {"type": "Answer", "data": TEXT},
    "an envelope by qualified name": {"qualified_name": f"{MODULE}.Answer", "value": TEXT},
    "an envelope with another class first": {
        "type": "Nobody",
        "value": TEXT,
        "qualified_name": f"{MODULE}.Answer",
    },
    "the mark of 2.8": _marked(TEXT, f"{MODULE}.Answer"),
    "the mark of 2.8 in a string": json.dumps(_marked(TEXT, f"{MODULE}.Answer")),
    "the mark of 2.8 and a class of nobody": _marked(TEXT, "nowhere.Nobody"),
    "a registered event": {"type": "Extra", "value": TEXT},
    "an unknown class": {"type": "Nobody", "value": TEXT},
    "a class of another workflow": {"type": "Greet", "value": {"name": "Ada"}},
    "fields without a class": TEXT,
    "a class without a value": {"type": "Answer"},
    "a class beside its fields": {"type": "Answer", "text": "yes"},
    "a value that is null": {"type": "Answer", "value": None},
    "a value that is no object": {"type": "Answer", "value": "yes"},
    "a field of another type": {"type": "Answer", "value": {"text": [1]}},
    "an empty object": {},
    "an empty string": "",
    "a string that is no JSON": "yes",
    "a list": [1],
    "null": None,
}
SENT: dict[str, bytes] = {
    "no body": b"",
    "no JSON": b"{",
    "a list": b"[]",
    "no event": b"{}",
}
STEPS: dict[str, Any] = {
    "its step": "take",
    "another step": "ask",
    "an unknown step": "nowhere",
    "a null step": None,
    "a step that is a number": 7,
}
# What each parameter of the stream may be given.
READING: dict[str, dict[str, str]] = {
    "no parameter": {},
    "sse=true": {"sse": "true"},
    "sse=True": {"sse": "True"},
    "sse=false": {"sse": "false"},
    "sse=FALSE": {"sse": "FALSE"},
    "sse=perhaps": {"sse": "perhaps"},
    "include_qualified_name=false": {"sse": "false", "include_qualified_name": "false"},
    "include_internal=false": {"include_internal": "false"},
    "include_internal=true": {"sse": "false", "include_internal": "true"},
    "acquire_timeout=0.5": {"acquire_timeout": "0.5"},
    "acquire_timeout=soon": {"acquire_timeout": "soon"},
    "acquire_timeout=-1": {"acquire_timeout": "-1"},
    "an unknown parameter": {"colour": "blue"},
}
# Of `GET /handlers`; each is asked beside one handler that has completed.
FILTERS: dict[str, dict[str, str | list[str]]] = {
    "no filter": {},
    "an empty filter": {"status": "", "workflow_name": ""},
    "a status": {"status": "completed"},
    "another status": {"status": "running"},
    "two statuses": {"status": ["running", "completed"]},
    "an unknown status": {"status": "done"},
    "an unknown status beside a known one": {"status": ["done", "completed"]},
    "a workflow": {"workflow_name": "greet"},
    "another workflow": {"workflow_name": "echo"},
    "an unknown workflow": {"workflow_name": "nobody"},
    "a status with spaces": {"status": " completed "},
}
HANDLERS = (
    "nothing",
    "completed",
    "completed with a class of its own",
    "completed in the background",
    "completed and read",
    "failed",
    "failed with two lines",
    "running",
    "answered",
    "cancelled",
    "purged",
)
ENDED = ("completed", "completed in the background", "failed", "cancelled", "purged")
ORIGINS = {"a page of this machine": "http://localhost:3000", "another page": "https://a.example"}


def _list_requests() -> Iterator[Request]:
    for name in NAMES:
        yield Request(f"GET /{name}", "GET", f"/{name}")
        yield Request(f"POST /{name}", "POST", f"/{name}")
    for part in ("schema", "events", "representation"):
        for workflow in ("greet", "ask", "nobody"):
            path = f"/workflows/{workflow}/{part}"
            yield Request(f"GET {path}", "GET", path)
    yield Request("GET /workflows/greet/run", "GET", "/workflows/greet/run")
    yield Request("POST /workflows/greet/schema", "POST", "/workflows/greet/schema")
    yield Request("GET /", "GET", "/")
    yield Request("GET an unknown path", "GET", "/nowhere")
    yield Request("POST an unknown path", "POST", "/nowhere", json={})
    yield Request("DELETE /handlers/{id}", "DELETE", "/handlers/{id}", given="completed")
    yield Request("a slash at the end", "GET", "/workflows/")
    for name, origin in ORIGINS.items():
        yield Request(f"an Origin: {name}", "GET", "/health", headers={"Origin": origin})
    for action in ("run", "run-nowait"):
        yield from _list_starts(action)
    yield from _list_sendings()
    yield from _list_readings()


def _list_starts(action: str) -> Iterator[Request]:
    def start(name: str, workflow: str, given: str = "nothing", **content: Any) -> Request:
        path = f"/workflows/{workflow}/{action}"
        return Request(f"{action}: {name}", "POST", path, given, **content)

    yield start("an unknown workflow", "nobody", json={"start_event": {}})
    if action == "run":
        for name, data in STARTS.items():
            yield start(f"a start event: {name}", "greet", json={"start_event": data})
        for name, data in ECHOED.items():
            yield start(f"an untyped one: {name}", "echo", json={"start_event": data})
        yield start("a failure", "fail", json={"start_event": {}})
    else:
        for name in ("fields", "an envelope", "the mark of 2.8", "no required field"):
            yield start(f"a start event: {name}", "greet", json={"start_event": STARTS[name]})
    for name, content in BODIES.items():
        yield start(f"a body: {name}", "greet", content=content)
    for name, handler_id in IDS.items():
        body = {"start_event": {"name": "Ada"}, "handler_id": handler_id}
        yield start(f"an id: {name}", "greet", json=body)
    again = {"start_event": {}, "handler_id": "{id}"}
    yield start("the id of a conversation", "talk", "a conversation", json=again)
    yield start("the id of one that runs", "ask", "running", json=again)
    yield start("the id of another workflow", "talk", "completed", json=again)
    if action == "run-nowait":
        yield start("the id of one that was cancelled", "ask", "cancelled", json=again)


def _list_sendings() -> Iterator[Request]:
    def send(name: str, given: str = "running", **content: Any) -> Request:
        return Request(f"send {name}", "POST", "/events/{id}", given, **content)

    for name, event in EVENTS.items():
        yield send(name, json={"event": event})
    for name, content in SENT.items():
        yield send(f"a body: {name}", content=content)
    for name, step in STEPS.items():
        yield send(f"to {name}", json={"event": EVENTS["an envelope"], "step": step})
    for given in ("nothing", *ENDED, "answered"):
        yield send(f"to a handler: {given}", given, json={"event": EVENTS["an envelope"]})


def _list_readings() -> Iterator[Request]:
    for given in HANDLERS:
        yield Request(f"GET /handlers/{{id}}: {given}", "GET", "/handlers/{id}", given)
        yield Request(f"GET /results/{{id}}: {given}", "GET", "/results/{id}", given)
    for given in (*HANDLERS, "being read"):
        if given not in ("running", "being read"):
            yield Request(f"stream: {given}", "GET", "/events/{id}", given)
        for purge in ("false", "true", "True", "yes"):
            if purge in ("false", "true") or given == "running":
                name = f"cancel with purge={purge}: {given}"
                path = "/handlers/{id}/cancel"
                yield Request(name, "POST", path, given, params={"purge": purge})
    yield Request("cancel: running", "POST", "/handlers/{id}/cancel", "running")
    taken = {"acquire_timeout": "0.05"}
    yield Request("stream: taken by another", "GET", "/events/{id}", "being read", params=taken)
    for name, params in READING.items():
        given = "completed in the background"
        yield Request(f"stream with {name}", "GET", "/events/{id}", given, params=params)
    for name, filters in FILTERS.items():
        yield Request(f"list with {name}", "GET", "/handlers", "completed", params=filters)
    for given in ("failed", "running", "cancelled"):
        yield Request(f"list one that is {given}", "GET", "/handlers", given)


REQUESTS = tuple(_list_requests())
