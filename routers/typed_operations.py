"""Each workflow's own operations in the OpenAPI document, typed by its events.

They are documentation only: the generic routes serve their paths. Nobody writes their schemas:
pydantic makes them of models that are put together from the event classes.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from pydantic import Field, create_model
from pydantic.json_schema import models_json_schema
from pydantic_core import from_json, to_json
from workflows.events import HumanResponseEvent

from workflow_server.app.engine.served import ServedWorkflow
from workflow_server.routers.event_models import EventModels, Model, SchemaGenerator, make_union
from workflow_server.schemas.handlers import Handler, RunRequest

JsonObject = dict[str, Any]

JSON = "application/json"
COMPONENT = "#/components/schemas/{model}"
RUN, START = "/workflows/{name}/run", "/workflows/{name}/run-nowait"
EVENTS = "/events/{handler_id}"


@dataclass(frozen=True)
class _Typed:
    """A workflow, its names in the document, and its models."""

    name: str
    slug: str
    tag: dict[str, str]
    start: Model
    request: Model
    handler: Model
    streamed: Model
    sent: Model
    answers: tuple[Model, ...]

    @property
    def models(self) -> tuple[Model, ...]:
        """Every model of the workflow."""
        return self.start, self.request, self.handler, self.streamed, self.sent, *self.answers


def add_typed_operations(document: JsonObject, catalog: Mapping[str, ServedWorkflow]) -> None:
    """Put the operations of all workflows, and the schemas of their events, into the document."""
    if not catalog:
        return
    names, models = _Names(document), EventModels()
    workflows = [_type_workflow(served, names, models) for served in catalog.values()]
    schemas = _Schemas(workflows, document["components"]["schemas"])
    document["tags"] = [*names.generic_tags, *(workflow.tag for workflow in workflows)]
    _describe_events(workflows, document["paths"], schemas)
    for workflow in workflows:
        document["paths"].update(_describe_runs(workflow, document["paths"], schemas))


class _Names:
    """Names that are readable, and that no generic operation and no other workflow has."""

    def __init__(self, document: JsonObject) -> None:
        operations = [o for path in document["paths"].values() for o in path.values()]
        self.generic_tags = document["tags"]
        self._taken = {operation["operationId"] for operation in operations}

    def find_slug(self, name: str) -> str:
        """Return the name as part of operations' names; case alone does not tell two apart."""
        wanted = slug = re.sub("[^0-9A-Za-z]+", "_", name).strip("_") or "workflow"
        number = 1
        while not self._taken.isdisjoint(ids := {i.lower() for i in _operation_ids(slug)}):
            number += 1
            slug = f"{wanted}_{number}"
        self._taken |= ids
        return slug

    def describe_tag(self, served: ServedWorkflow) -> dict[str, str]:
        """Return the workflow's tag, which the docstring of its class describes."""
        taken = {tag["name"] for tag in self.generic_tags}
        return {
            "name": f"{served.name} (workflow)" if served.name in taken else served.name,
            "description": served.description or f"The workflow `{served.name}`.",
        }


def _operation_ids(slug: str) -> tuple[str, str]:
    return f"run_{slug}", f"run_{slug}_nowait"


def _type_workflow(served: ServedWorkflow, names: _Names, models: EventModels) -> _Typed:
    name, slug = served.name, names.find_slug(served.name)
    prefix = "".join(part[:1].upper() + part[1:] for part in slug.split("_"))
    start = models.fields(served.start_model)
    start_field: Any = (start | None, Field(default=None, description="The start event's fields."))
    if any(field.is_required() for field in start.model_fields.values()):
        start_field = (start, Field(description="The start event's fields."))
    result: Any = models.envelope(served.workflow.stop_event_class)
    # What goes from step to step is none of them. What a step waits for in its code nobody knows
    # before it does; mostly it is a plain answer.
    awaited = dict.fromkeys([*served.awaitable.outside, *served.additional_events])
    sent = models.sent(awaited or [HumanResponseEvent])
    return _Typed(
        name=name,
        slug=slug,
        tag=names.describe_tag(served),
        start=start,
        request=create_model(
            f"{prefix}RunRequest",
            __base__=RunRequest,
            __doc__=f"What a run of `{name}` starts from.",
            start_event=start_field,
        ),
        handler=create_model(
            f"{prefix}Handler",
            __base__=Handler,
            __doc__=f"One conversation with `{name}`, and its current run.",
            result=(result | None, Handler.model_fields["result"]),
        ),
        streamed=make_union(
            f"{prefix}StreamEvent",
            f"An event of `{name}` as its streams carry it. Others, which the workflow does not"
            " declare, come as an `EventEnvelope`.",
            models.envelopes(served.decoder.event_classes),
        ),
        sent=make_union(
            f"{prefix}SentEvent",
            f"An event that is sent to `{name}` from outside. What else its runs wait for, their"
            " `awaits` say.",
            sent.values(),
        ),
        answers=tuple(sent[c] for c in awaited if issubclass(c, HumanResponseEvent)),
    )


class _Schemas:
    """The JSON Schemas of all models, among the components of the document."""

    def __init__(self, workflows: Iterable[_Typed], components: dict[str, JsonObject]) -> None:
        models = list(dict.fromkeys(model for w in workflows for model in w.models))
        made, definitions = models_json_schema(
            [(model, "validation") for model in models],
            schema_generator=SchemaGenerator,
            ref_template=COMPONENT,
        )
        schemas = definitions["$defs"]
        # Some have names that the service's own schemas have; no class's name holds a dot.
        renamed = {n: f"event.{n}" for n in schemas if components.get(n, schemas[n]) != schemas[n]}
        text = to_json([[made[m, "validation"] for m in models], schemas], inf_nan_mode="null")
        for old, new in renamed.items():
            text = text.replace(_component(old), _component(new))
        refs, schemas = from_json(text)
        components.update({renamed.get(name, name): schemas[name] for name in schemas})
        self._refs: dict[Model, JsonObject] = dict(zip(models, refs, strict=True))
        self._components = components

    def ref(self, model: Model) -> JsonObject:
        """Return the reference to a model."""
        return self._refs[model]

    def find(self, ref: JsonObject) -> JsonObject:
        """Return the schema that a reference leads to."""
        return self._components[ref["$ref"].rpartition("/")[2]]

    def example(self, ref: JsonObject) -> Any:
        """Return what examples and defaults make, or None where a required field has neither."""
        schema = self.find(ref)
        for example in _examples(schema):
            return example
        fields = {name: _examples(field) for name, field in schema.get("properties", {}).items()}
        values = {name: examples[0] for name, examples in fields.items() if examples}
        return values if values.keys() >= set(schema.get("required", ())) else None


def _component(name: str) -> bytes:
    return to_json(COMPONENT.format(model=name))


def _examples(schema: JsonObject) -> list[Any]:
    examples = schema.get("examples")
    default = [schema["default"]] if "default" in schema else []
    return [*(examples if isinstance(examples, list) else []), *default]


def _describe_runs(
    workflow: _Typed, paths: JsonObject, schemas: _Schemas
) -> Iterator[tuple[str, JsonObject]]:
    """Yield the paths of a workflow: the generic operations with its types in place of theirs."""
    run_id, start_id = _operation_ids(workflow.slug)
    name = workflow.name
    request: JsonObject = {"schema": schemas.ref(workflow.request)}
    if (example := schemas.example(schemas.ref(workflow.start))) is not None:
        request["example"] = {"start_event": example}
    required = "required" in schemas.find(request["schema"])
    answer = {JSON: {"schema": schemas.ref(workflow.handler)}}
    for path, operation_id, summary in (
        (RUN, run_id, f"Run {name} to its end"),
        (START, start_id, f"Start {name}"),
    ):
        generic = paths[path]["post"]
        operation = {
            **generic,
            "tags": [workflow.tag["name"]],
            "summary": summary,
            "operationId": operation_id,
            "requestBody": {"content": {JSON: request}, "required": required},
            "responses": {
                status: _typed(response, answer)
                for status, response in generic["responses"].items()
            },
        }
        del operation["parameters"]  # the name
        yield path.replace("{name}", quote(name, safe="")), {"post": operation}


def _typed(response: JsonObject, answer: JsonObject) -> JsonObject:
    """Return an answer of a generic operation with a workflow's handler in place of any."""
    content = response["content"]
    return {**response, "content": {**content, **answer}} if JSON in content else response


def _describe_events(workflows: Iterable[_Typed], paths: JsonObject, schemas: _Schemas) -> None:
    """Let streams, and what is sent to runs, be described by what each workflow declares."""
    stream, send = paths[EVENTS]["get"], paths[EVENTS]["post"]
    for content in stream["responses"]["200"]["content"].values():
        envelopes = [schemas.ref(workflow.streamed) for workflow in workflows]
        content["schema"] = {"anyOf": [*envelopes, content["schema"]]}
    body = send["requestBody"]["content"][JSON]
    event = schemas.find(body["schema"])["properties"]["event"]
    event["anyOf"] = [*(schemas.ref(w.sent) for w in workflows), *event["anyOf"]]
    examples = {}
    for workflow in workflows:
        for answer in workflow.answers:
            fields = schemas.find(schemas.ref(answer))["properties"]
            type_name, value = fields["type"]["const"], schemas.example(fields["value"])
            if value is not None:
                sent = {"type": type_name, "value": value}
                examples[f"{workflow.name}: {type_name}"] = {"value": {"event": sent}}
    if examples:
        body["examples"] = examples
