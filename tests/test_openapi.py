"""The generated OpenAPI document: valid, whole, and true of the server that it describes."""

import json
import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.support.examples import EXAMPLES, make_example_server
from tests.support.live import make_client, serving
from workflow_server.app.access import Access
from workflow_server.app.handlers.ids import HANDLER_ID
from workflow_server.app.main import ROUTERS
from workflow_server.app.server import WorkflowServer

# Every operation that has a route, and its name in generated clients.
GENERIC = {
    ("get", "/health"): "get_health",
    ("get", "/workflows"): "list_workflows",
    ("get", "/workflows/{name}/schema"): "get_workflow_schema",
    ("get", "/workflows/{name}/events"): "get_workflow_events",
    ("get", "/workflows/{name}/representation"): "get_workflow_representation",
    ("post", "/workflows/{name}/run"): "run_workflow",
    ("post", "/workflows/{name}/run-nowait"): "run_workflow_nowait",
    ("get", "/handlers"): "list_handlers",
    ("get", "/handlers/{handler_id}"): "get_handler",
    ("get", "/handlers/{handler_id}/runs"): "list_runs",
    ("get", "/handlers/{handler_id}/steps"): "list_steps",
    ("get", "/handlers/{handler_id}/steps/{sequence}/state"): "get_step_state",
    ("post", "/handlers/{handler_id}/cancel"): "cancel_handler",
    ("get", "/results/{handler_id}"): "get_result",
    ("get", "/events/{handler_id}"): "stream_events",
    ("post", "/events/{handler_id}"): "send_event",
    ("get", "/livez"): "get_liveness",
    ("get", "/readyz"): "get_readiness",
    ("get", "/metrics"): "get_metrics",
    ("get", "/servers"): "list_servers",
    ("post", "/servers/{server_id}/drain"): "drain_server",
}
# Those of the workflows, which the generic routes serve.
TYPED = {
    ("post", f"/workflows/{workflow}/{path}"): f"run_{workflow}{suffix}"
    for workflow in EXAMPLES
    for path, suffix in [("run", ""), ("run-nowait", "_nowait")]
}
OPERATIONS = GENERIC | TYPED
TAGS = ["workflows", "handlers", "events", "health", "servers", *EXAMPLES]
ANYWHERE = {"400", "403", "431", "500", "503", "505"}
SERVED = ANYWHERE | {"421", "429"}
BODY = {"408", "413", "415"}
ERRORS = {
    ("get", "/health"): ANYWHERE | {"421"},
    ("get", "/livez"): ANYWHERE,
    ("get", "/readyz"): ANYWHERE,
    ("get", "/metrics"): SERVED,
    ("get", "/servers"): SERVED,
    ("post", "/servers/{server_id}/drain"): SERVED | {"404"},
    ("get", "/workflows"): SERVED,
    ("get", "/workflows/{name}/schema"): SERVED | {"404"},
    ("get", "/workflows/{name}/events"): SERVED | {"404"},
    ("get", "/workflows/{name}/representation"): SERVED | {"404"},
    ("post", "/workflows/{name}/run"): SERVED | BODY | {"404", "409"},
    ("post", "/workflows/{name}/run-nowait"): SERVED | BODY | {"404", "409"},
    ("get", "/handlers"): SERVED,
    ("get", "/handlers/{handler_id}"): SERVED | {"404"},
    ("get", "/handlers/{handler_id}/runs"): SERVED | {"404"},
    ("get", "/handlers/{handler_id}/steps"): SERVED | {"404", "409"},
    ("get", "/handlers/{handler_id}/steps/{sequence}/state"): SERVED | {"404", "409"},
    ("post", "/handlers/{handler_id}/cancel"): SERVED | {"404", "409"},
    ("get", "/results/{handler_id}"): SERVED | {"404"},
    ("get", "/events/{handler_id}"): SERVED | {"404", "409"},
    ("post", "/events/{handler_id}"): SERVED | BODY | {"404", "409"},
    **dict.fromkeys(TYPED, SERVED | BODY | {"404", "409"}),
}
PROBLEM = ("application/problem+json", {"schema": {"$ref": "#/components/schemas/Problem"}})
PAGES = ("/docs", "/redoc")

Operation = tuple[str, str]
Document = dict[str, Any]


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with (
        serving(make_example_server()) as base_url,
        make_client(base_url) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def document() -> Document:
    return make_example_server().openapi_schema()


@pytest.fixture(params=OPERATIONS, ids=" ".join)
def operation(request: pytest.FixtureRequest, document: Document) -> dict[str, Any]:
    method, path = request.param
    operation: dict[str, Any] = document["paths"][path][method]
    return operation


def list_operations(document: Document) -> dict[Operation, dict[str, Any]]:
    return {
        (method, path): operation
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }


def test_the_document_is_valid_openapi_3_1(document: Document) -> None:
    assert document["openapi"].startswith("3.1")
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []


async def test_the_document_is_served(client: httpx.AsyncClient, document: Document) -> None:
    response = await client.get("/openapi.json")
    assert (response.headers["content-type"], response.json()) == ("application/json", document)


def test_the_operations_are_those_of_the_contract_under_readable_names(
    document: Document,
) -> None:
    operations = list_operations(document)
    assert {key: found["operationId"] for key, found in operations.items()} == OPERATIONS


def test_every_route_is_documented(document: Document) -> None:
    routes = [route for router in ROUTERS for route in router.routes]
    served = {
        (method.lower(), route.path)
        for route in routes
        if isinstance(route, APIRoute) and route.include_in_schema
        for method in route.methods or ()
    }
    assert served == list_operations(document).keys() - TYPED.keys()


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
async def test_every_documented_operation_is_served(
    client: httpx.AsyncClient, method: str, path: str
) -> None:
    url = path.format(name="unknown", handler_id="unknown", sequence=0, server_id=0)
    # A body that is no object is refused: nothing is begun that would wait for a person.
    response = await client.request(method, url, json=[] if method == "post" else None)
    unserved = {"not_found", "method_not_allowed"}
    assert response.status_code not in (404, 405) or response.json()["code"] not in unserved


class TestAnOperation:
    def test_says_what_it_does(self, operation: dict[str, Any]) -> None:
        assert operation["summary"][0].isupper()
        assert operation["description"].strip()[-1] == "."

    def test_has_one_tag(self, operation: dict[str, Any]) -> None:
        assert operation["tags"] in [[tag] for tag in TAGS]

    def test_describes_its_parameters(self, operation: dict[str, Any]) -> None:
        parameters = operation.get("parameters", [])
        assert [p["name"] for p in parameters if not p.get("description")] == []

    def test_takes_no_null_in_its_url(self, operation: dict[str, Any]) -> None:
        assert '"null"' not in json.dumps(operation.get("parameters", []))

    def test_takes_no_null_for_its_body(self, operation: dict[str, Any]) -> None:
        body = operation.get("requestBody", {"content": {}})
        assert '"null"' not in json.dumps(body["content"])

    def test_describes_its_answers(self, operation: dict[str, Any]) -> None:
        answers = operation["responses"].items()
        assert [status for status, answer in answers if not answer["description"]] == []

    def test_knows_no_422(self, operation: dict[str, Any]) -> None:
        assert "422" not in operation["responses"]


def test_errors_are_problems(document: Document) -> None:
    assert {
        key: {
            status
            for status, answer in operation["responses"].items()
            if PROBLEM in answer.get("content", {}).items()
        }
        for key, operation in list_operations(document).items()
    } == ERRORS


def test_an_error_that_may_carry_the_handler_or_the_health_names_that_first(
    document: Document,
) -> None:
    found = {
        key: {
            status: next(iter(answer["content"].values()))["schema"]["$ref"].rpartition("/")[2]
            for status, answer in operation["responses"].items()
            if int(status) >= 400
            if "application/json" in answer["content"]
        }
        for key, operation in list_operations(document).items()
    }
    assert {key: answers for key, answers in found.items() if answers} == {
        ("get", "/health"): {"503": "Health"},
        ("get", "/readyz"): {"503": "Health"},
        ("get", "/handlers/{handler_id}"): {"500": "HandlerInFull"},
        ("get", "/results/{handler_id}"): {"500": "HandlerResult"},
        ("post", "/workflows/{name}/run"): {"500": "Handler"},
        **{
            ("post", f"/workflows/{name}/run"): {"500": f"{name.title()}Handler"}
            for name in EXAMPLES
        },
    }


def test_the_stream_is_documented_in_both_formats(document: Document) -> None:
    answers = document["paths"]["/events/{handler_id}"]["get"]["responses"]
    assert answers["200"]["content"].keys() == {"text/event-stream", "application/x-ndjson"}
    assert "content" not in answers["204"]


@pytest.mark.parametrize(
    ("sse", "media_type"), [("true", "text/event-stream"), ("false", "application/x-ndjson")]
)
async def test_the_example_of_a_stream_is_what_the_example_tokens_gives(
    client: httpx.AsyncClient, document: Document, sse: str, media_type: str
) -> None:
    run = {"start_event": {"text": "Durable first", "delay": 0}, "handler_id": "recited"}
    await client.post("/workflows/tokens/run", json=run)
    query = {"after_sequence": "-1", "sse": sse}
    stream = await client.get("/events/recited", params=query)
    answer = document["paths"]["/events/{handler_id}"]["get"]["responses"]["200"]
    assert f"as `{media_type}`:\n\n```text\n{stream.text}```\n" in answer["description"]
    last = answer["content"][media_type]["examples"]["tokens"]["value"]
    assert stream.text.splitlines()[-1 if sse == "false" else -2].endswith(
        json.dumps(last, separators=(",", ":"))
    )


def test_only_results_are_deprecated(document: Document) -> None:
    operations = list_operations(document)
    deprecated = [key for key, operation in operations.items() if operation.get("deprecated")]
    assert deprecated == [("get", "/results/{handler_id}")]


def test_every_schema_is_used(document: Document) -> None:
    used = set(re.findall(r"#/components/schemas/([\w.]+)", json.dumps(document)))
    assert used == document["components"]["schemas"].keys()


def test_every_field_of_an_answer_is_required() -> None:
    taken = {"RunRequest", "SendEventRequest", "Status", "Phase"}
    taken.add("HandlerInPart")  # which has the fields that were asked for
    schemas = WorkflowServer().openapi_schema()["components"]["schemas"].items()
    # What `fields` asks for; and RFC 6902, by which nothing is put where something is removed.
    partial = {"HandlerInPart", "PatchOperation"}
    answers = {name: schema for name, schema in schemas if name not in taken | partial}
    assert {name: set(schema["properties"]) for name, schema in answers.items()} == {
        name: set(schema["required"]) for name, schema in answers.items()
    }


def test_the_tags_are_listed_with_the_workflows_below_the_generic_ones(document: Document) -> None:
    assert [tag["name"] for tag in document["tags"]] == TAGS


class Links(HTMLParser):
    """Gathers what a page loads, and the text of its scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.scripts = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value for name, value in attrs if name in ("src", "href") if value]

    def handle_data(self, data: str) -> None:
        self.scripts += data


@pytest.mark.parametrize("path", PAGES)
async def test_an_api_page_loads_nothing_from_elsewhere(
    client: httpx.AsyncClient, path: str
) -> None:
    page = Links((await client.get(path)).text)
    loaded = [await client.get(link) for link in page.links]
    hosts = {response.url.host for response in loaded}
    assert len(loaded) >= 2
    assert (hosts, {response.status_code for response in loaded}) == ({"127.0.0.1"}, {200})
    assert "//" not in page.scripts.replace(str(client.base_url), "")


@pytest.mark.parametrize("path", PAGES)
async def test_an_api_page_shows_this_document(client: httpx.AsyncClient, path: str) -> None:
    assert "/openapi.json" in (await client.get(path)).text


def test_the_document_says_which_handler_ids_there_are(document: Document) -> None:
    fields = document["components"]["schemas"]["RunRequest"]["properties"]
    assert fields["handler_id"]["pattern"] == f"^({HANDLER_ID.pattern})?$"


@pytest.mark.parametrize(
    ("root_path", "url"), [("", "/"), ("/flows", "/flows"), ("/flows/", "/flows")]
)
def test_the_server_is_where_the_document_is(root_path: str, url: str) -> None:
    document = WorkflowServer(root_path=root_path).openapi_schema()
    assert document["servers"] == [{"url": url}]


OPEN = {("get", "/health"), ("get", "/livez"), ("get", "/readyz")}


@pytest.mark.parametrize("access", [None, Access()], ids=["open", "guarded"])
def test_an_operation_says_whether_it_asks_for_a_credential(access: Access | None) -> None:
    operations = list_operations(WorkflowServer(access=access).openapi_schema())
    unasked = {key for key, operation in operations.items() if operation["security"] == []}
    refusing = {key for key, operation in operations.items() if "401" in operation["responses"]}
    assert (unasked, refusing) == (
        (operations.keys(), set()) if access is None else (OPEN, operations.keys() - OPEN)
    )


def list_declared(name: str, access: Access | None = None) -> set[tuple[str, str, str]]:
    """Return the answers that declare a header: method, path and status."""
    operations = list_operations(WorkflowServer(access=access).openapi_schema())
    return {
        (*key, status)
        for key, operation in operations.items()
        for status, answer in operation["responses"].items()
        if name in answer.get("headers", {})
    }


HANDLER_VIEWS = ["/handlers/{handler_id}", "/results/{handler_id}"]
RUNS = "/workflows/{name}/run"


def test_the_answers_that_have_a_header_declare_it() -> None:
    assert list_declared("ETag") == {
        ("get", path, status) for path in HANDLER_VIEWS for status in ("200", "202", "304", "500")
    }
    assert list_declared("Location") == {
        *(("post", RUNS, status) for status in ("200", "500", "503")),
        ("post", f"{RUNS}-nowait", "200"),
    }
    assert {path for _, path, _ in list_declared("Deprecation")} == {"/results/{handler_id}"}


def test_every_refusal_that_may_pass_declares_when_to_ask_again() -> None:
    operations = list_operations(WorkflowServer().openapi_schema())
    passing = {
        (*key, status)
        for key, operation in operations.items()
        for status in operation["responses"]
        if status in ("429", "503")
    }
    assert list_declared("Retry-After") == passing


def test_every_refusal_of_a_credential_declares_the_challenge() -> None:
    guarded = list_operations(WorkflowServer().openapi_schema()).keys() - OPEN
    refusals = {(*key, status) for key in guarded for status in ("401", "403")}
    assert list_declared("WWW-Authenticate", Access()) == refusals
