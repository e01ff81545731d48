"""The operations of each workflow in the OpenAPI document, typed by its events."""

from typing import Any
from urllib.parse import quote

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from pydantic import Field, create_model
from workflows import Workflow, step
from workflows.events import Event, HumanResponseEvent, StartEvent, StopEvent

from tests.support.awaiting import Interview
from tests.support.examples import EXAMPLES
from tests.support.live import open_client
from tests.support.workflows import WORKFLOWS, Echo, Extra, ExtraWaiter, Greeter, Number
from workflow_server.app.access import Access
from workflow_server.app.server import WorkflowServer

Document = dict[str, Any]
REF = "#/components/schemas/"
ENDINGS = ["WorkflowCancelledEvent", "WorkflowFailedEvent", "WorkflowTimedOutEvent"]


class Question(StartEvent):
    """Something to find out, with a field of every kind that makes trouble."""

    text: str = Field(examples=["Why?"])
    limit: float = float("inf")
    previous: "Question | None" = None


class Unknowable(Event):
    """What JSON Schema cannot describe."""

    view: memoryview


class Problem(HumanResponseEvent):
    """Named as one of the service's own schemas."""

    text: str


class Odd(Workflow):
    """Has odd events."""

    @step
    async def ask(self, ev: Question) -> Unknowable | Problem:
        return Problem(text=ev.text)

    @step
    async def end(self, ev: Unknowable | Problem) -> StopEvent:
        return StopEvent(result="ended")


def make_namesake(module: str, **fields: Any) -> Any:
    """Return an event class `Number` of another module."""
    return create_model("Number", __base__=Event, __module__=module, **fields)


def describe(workflow: Workflow, name: str = "it", **options: Any) -> Document:
    """Return the document of a server of one workflow."""
    server = WorkflowServer()
    server.add_workflow(name, workflow, **options)
    return check(server)


def check(server: WorkflowServer) -> Document:
    """Return the document of a server, which is valid, with unique names."""
    document = server.openapi_schema()
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []
    names = [o["operationId"] for path in document["paths"].values() for o in path.values()]
    assert len({name.lower() for name in names}) == len(names)
    return document


def get_run(document: Document, name: str = "it") -> dict[str, Any]:
    operation: dict[str, Any] = document["paths"][f"/workflows/{name}/run"]["post"]
    return operation


def follow(document: Document, schema: dict[str, Any]) -> dict[str, Any]:
    """Return the component that a schema refers to."""
    component: dict[str, Any] = document["components"]["schemas"][schema["$ref"].removeprefix(REF)]
    return component


def get_start(document: Document, name: str = "it") -> dict[str, Any]:
    """Return the schema of a workflow's start event, which it needs."""
    body = get_run(document, name)["requestBody"]["content"]["application/json"]
    return follow(document, follow(document, body["schema"])["properties"]["start_event"])


def test_a_start_event_is_described_by_its_class() -> None:
    document = describe(EXAMPLES["greeting"])
    assert get_start(document) == EXAMPLES["greeting"].start_event_class.model_json_schema()


def test_a_run_is_filled_in_with_examples_and_defaults() -> None:
    body = get_run(describe(EXAMPLES["approval"]))["requestBody"]
    expense = {"purpose": "Train tickets to the conference", "amount": 240.5}
    assert body["content"]["application/json"]["example"] == {"start_event": expense}
    assert body["required"] is True


def test_a_start_event_whose_fields_have_defaults_may_be_left_out() -> None:
    body = get_run(describe(EXAMPLES["tokens"]))["requestBody"]
    assert body["required"] is False
    assert body["content"]["application/json"]["example"]["start_event"]["delay"] == 0.1


def test_a_plain_start_event_is_an_open_object() -> None:
    document = describe(Echo())
    body = get_run(document)["requestBody"]
    assert document["components"]["schemas"]["StartEvent"]["additionalProperties"] is True
    assert body["content"]["application/json"]["example"] == {"start_event": {"message": "Hello"}}


def test_a_result_is_the_envelope_of_the_stop_event() -> None:
    document = describe(Greeter())
    answers = get_run(document)["responses"]
    handlers = [answers[code]["content"]["application/json"]["schema"] for code in ("200", "500")]
    assert handlers == [{"$ref": f"{REF}ItHandler"}] * 2
    result = follow(document, handlers[0])["properties"]["result"]
    assert result["anyOf"] == [{"$ref": f"{REF}GreetingEnvelope"}, {"type": "null"}]
    envelope = follow(document, result["anyOf"][0])
    assert envelope["properties"]["type"]["const"] == "Greeting"
    assert envelope["properties"]["value"]["$ref"] == f"{REF}Greeting"


def test_streams_are_told_apart_by_the_type_of_their_events() -> None:
    document = describe(ExtraWaiter(), additional_events=[Extra])
    stream = document["paths"]["/events/{handler_id}"]["get"]["responses"]["200"]
    assert stream["content"]["text/event-stream"]["schema"] == {
        "anyOf": [{"$ref": f"{REF}ItStreamEvent"}, {"$ref": f"{REF}EventEnvelope"}]
    }
    events = document["components"]["schemas"]["ItStreamEvent"]
    assert events["discriminator"] == {
        "propertyName": "type",
        "mapping": {
            name: f"{REF}{name}Envelope"
            for name in sorted(["Extra", "StartEvent", "StopEvent", *ENDINGS])
        },
    }


def test_what_can_be_sent_is_told_apart_by_its_type_and_has_examples() -> None:
    document = describe(EXAMPLES["approval"])
    body = document["paths"]["/events/{handler_id}"]["post"]["requestBody"]
    content = body["content"]["application/json"]
    sent = document["components"]["schemas"]["ItSentEvent"]
    decision = {"approved": True, "comment": "Second class, please"}
    event = follow(document, content["schema"])["properties"]["event"]
    assert event["anyOf"][0] == {"$ref": f"{REF}ItSentEvent"}
    assert sent["discriminator"]["mapping"]["Decision"] == f"{REF}SentDecision"
    assert content["examples"] == {
        "it: Decision": {"value": {"event": {"type": "Decision", "value": decision}}}
    }


def test_events_between_steps_are_not_offered_to_be_sent() -> None:
    document = describe(Interview())
    sent = document["components"]["schemas"]["ItSentEvent"]
    assert [*sent["discriminator"]["mapping"]] == ["HumanResponseEvent"]


def test_odd_events_leave_the_document_valid_and_whole() -> None:
    document = describe(Odd())
    schemas = document["components"]["schemas"]
    assert schemas["Unknowable"] == {
        "additionalProperties": True,
        "description": "What JSON Schema cannot describe.",
        "properties": {},
        "title": "Unknowable",
        "type": "object",
    }
    assert get_start(document)["properties"]["limit"] == {"title": "Limit", "type": "number"}


def test_an_event_that_is_named_as_a_schema_of_the_service_replaces_it_not() -> None:
    document = describe(Odd())
    schemas, generic = document["components"]["schemas"], WorkflowServer().openapi_schema()
    assert schemas["Problem"] == generic["components"]["schemas"]["Problem"]
    assert schemas["event.Problem"]["description"] == "Named as one of the service's own schemas."
    assert schemas["SentProblem"]["properties"]["value"]["$ref"] == f"{REF}event.Problem"


def test_events_of_one_name_in_one_workflow_are_sent_under_their_qualified_ones() -> None:
    others = [make_namesake("one", text=(str, ...)), make_namesake("two", count=(int, ...))]
    document = describe(ExtraWaiter(), additional_events=others)
    schemas = document["components"]["schemas"]
    assert {*schemas["ItSentEvent"]["discriminator"]["mapping"]} == {"one.Number", "two.Number"}
    values = schemas["NumberEnvelope"]["properties"]["value"]["anyOf"]
    assert [follow(document, value)["required"] for value in values] == [["text"], ["count"]]


def test_events_of_one_name_in_two_workflows_do_not_mix() -> None:
    server = WorkflowServer()
    server.add_workflow("a", ExtraWaiter(), additional_events=[Number])
    other = make_namesake("elsewhere", text=(str, ...))
    server.add_workflow("b", ExtraWaiter(), additional_events=[other])
    document = check(server)
    values = [
        follow(
            document,
            follow(
                document,
                {
                    "$ref": document["components"]["schemas"][union]["discriminator"]["mapping"][
                        "Number"
                    ]
                },
            )["properties"]["value"],
        )["required"]
        for union in ("ASentEvent", "BSentEvent")
    ]
    assert values == [["number"], ["text"]]


@pytest.mark.parametrize(
    "name", ["workflow", "events", "ein Gruß", "漢字", "{name}", "a?b#c%41", "run", "1"]
)
async def test_a_workflow_of_any_name_is_served_where_the_document_says(name: str) -> None:
    server = WorkflowServer()
    server.add_workflow(name, Echo())
    path = f"/workflows/{quote(name, safe='')}/run"
    assert path in check(server)["paths"]
    async with open_client(server) as client:
        answer = await client.post(client.base_url.copy_with(raw_path=path.encode()))
    assert (answer.status_code, answer.json()["workflow_name"]) == (200, name)


def test_names_that_differ_in_case_or_punctuation_alone_are_told_apart() -> None:
    server = WorkflowServer()
    for name in ("a b", "a-b", "A_B", "a b nowait"):
        server.add_workflow(name, Echo())
    names = [get_run(check(server), quote(name))["operationId"] for name in ("a b", "a-b", "A_B")]
    assert names == ["run_a_b", "run_a_b_2", "run_A_B_3"]


def test_a_workflow_named_as_a_tag_has_one_of_its_own() -> None:
    document = describe(Echo(), "events")
    assert get_run(document, "events")["tags"] == ["events (workflow)"]


def test_a_workflow_that_is_added_later_appears() -> None:
    server = WorkflowServer()
    server.openapi_schema()
    server.add_workflow("late", Echo())
    assert "/workflows/late/run" in server.openapi_schema()["paths"]


def test_a_workflow_says_what_its_class_says() -> None:
    assert describe(Echo())["tags"][-1] == {"name": "it", "description": Echo.__doc__}


def test_a_workflow_that_says_nothing_is_described_by_its_name() -> None:
    class Silent(Workflow):
        @step
        async def end(self, ev: StartEvent) -> StopEvent:
            return StopEvent()

    assert describe(Silent())["tags"][-1] == {"name": "it", "description": "The workflow `it`."}


def test_all_test_workflows_are_described() -> None:
    server = WorkflowServer()
    for name, make in WORKFLOWS.items():
        server.add_workflow(name, make())
    assert len(check(server)["paths"]) == len(WorkflowServer().openapi_schema()["paths"]) + 2 * len(
        WORKFLOWS
    )


def test_a_workflows_own_operations_ask_for_what_the_generic_ones_ask_for() -> None:
    server = WorkflowServer(access=Access())
    server.add_workflow("it", Echo())
    document = check(server)
    generic, typed = get_run(document, "{name}"), get_run(document)
    assert typed["security"] == generic["security"]
    assert typed["responses"].keys() == generic["responses"].keys() > {"401", "403"}
