"""The OpenAPI document: it says what the service does, and what each workflow takes and gives."""

from collections import OrderedDict
from typing import Any

from fastapi import FastAPI, Request, Response
from pydantic.json_schema import models_json_schema
from pydantic_core import to_json

from workflow_server.app.catalog import Catalog
from workflow_server.routers.header_fields import COMPONENT, FIELDS
from workflow_server.routers.preconditions import make_etag, read_known, unchanged_response
from workflow_server.routers.problems import GUARDED, describe, merge
from workflow_server.schemas.problems import Problem

Document = dict[str, Any]

JSON = "application/json"
REVALIDATED = "no-cache"
TAGS = {
    "workflows": "The workflows that are served, and the beginning of their runs.",
    "handlers": "Handlers and their runs: listed, inspected, cancelled.",
    "events": "The events of runs: read as a stream, sent into a run.",
    "health": "Probes and metrics.",
    "servers": "The servers that share a store: listed, and drained before they are stopped.",
}
MAX_PLACES = 8  # at which one server is reached; a path of a mount may have parameters


def serve_document(app: FastAPI, catalog: Catalog, *, root_path: str) -> None:
    """Let the application make the document, and serve it with an `ETag`."""
    _shape_document(app, catalog, root_path)
    path = app.openapi_url
    made = _Made(app)

    async def get_document(request: Request) -> Response:
        body, etag = made.at(request.scope.get("root_path", "").rstrip("/"))
        headers = {"ETag": etag, "Cache-Control": REVALIDATED}
        if read_known(request).has(etag):
            return unchanged_response(headers)
        return Response(body, headers=headers, media_type=JSON)

    # In place of the framework's own, which writes it anew each time.
    app.router.routes = [route for route in app.routes if getattr(route, "path", None) != path]
    app.add_route(path or "", get_document, include_in_schema=False)


class _Made:
    """The document as bytes, with its entity tag, for each path at which the server is reached."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._document: Document | None = None
        self._made: OrderedDict[str, tuple[bytes, str]] = OrderedDict()

    def at(self, root_path: str) -> tuple[bytes, str]:
        """Return the document of a server that is reached at a path."""
        document = self._app.openapi()
        if document is not self._document:  # a workflow was added
            self._document = document
            self._made.clear()
        if root_path not in self._made:
            body = to_json({**document, "servers": [{"url": root_path or "/"}]})
            self._made[root_path] = body, make_etag(body)
            if len(self._made) > MAX_PLACES:
                self._made.popitem(last=False)
        return self._made[root_path]


def _shape_document(app: FastAPI, catalog: Catalog, root_path: str) -> None:
    generate = app.openapi

    def openapi() -> Document:
        if app.openapi_schema is None:
            # Here, for most servers are never asked for the document.
            from workflow_server.routers.typed_operations import add_typed_operations

            document = _shaped(generate())
            document["servers"] = [{"url": root_path or "/"}]
            add_typed_operations(document, catalog)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way


def _shaped(document: Document) -> Document:
    operations = [o for path in document["paths"].values() for o in path.values()]
    for operation in operations:
        operation["responses"].pop("422", None)
        for parameter in operation.get("parameters", ()):
            _drop_null(parameter["schema"])
        _describe_access(operation)
        for answer in operation["responses"].values():
            _put_json_first(answer)
    components = document["components"]
    for unused in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(unused, None)
    _, problem = models_json_schema(
        [(Problem, "serialization")], ref_template="#/components/schemas/{model}"
    )
    components["schemas"].update(problem["$defs"])
    components["headers"] = {name: FIELDS[name] for name in _list_headers(operations)}
    tags = dict.fromkeys(tag for operation in operations for tag in operation["tags"])
    document["tags"] = [{"name": tag, "description": TAGS[tag]} for tag in tags]
    return document


def _describe_access(operation: Document) -> None:
    """Let an operation that asks for a credential say what it refuses, and others that they do not.

    An operation without `security` would be read as if nobody had thought of it.
    """
    if not operation.setdefault("security", []):
        return
    responses = operation["responses"]
    for error in GUARDED:
        status = str(error.status)
        responses[status] = merge(responses.get(status, {}), describe(error))
    operation["responses"] = dict(sorted(responses.items()))


def _drop_null(schema: Document) -> None:
    """Take null out of a parameter's types: it is left out, for a URL cannot say null."""
    types = [member for member in schema.get("anyOf", ()) if member != {"type": "null"}]
    if len(types) > 1:
        schema["anyOf"] = types
    elif types:
        del schema["anyOf"]
        schema.update(types[0])


def _put_json_first(answer: Document) -> None:
    """Put the handler before the problem: generated clients take the first form of an answer."""
    content = answer.get("content", {})
    if JSON in content:
        answer["content"] = {JSON: content[JSON], **content}


def _list_headers(operations: list[Document]) -> list[str]:
    """Return the names of the header fields to which answers refer."""
    answers = (answer for o in operations for answer in o["responses"].values())
    fields = (field for answer in answers for field in answer.get("headers", {}).values())
    return sorted({field["$ref"].removeprefix(COMPONENT) for field in fields})
