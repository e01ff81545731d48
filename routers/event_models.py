"""Models of events for the OpenAPI document, put together from the events' classes.

They are described as they are validated, since the engine's serializer hides an event's fields.
"""

import inspect
from collections.abc import Callable, Iterable
from functools import cache, reduce
from operator import or_
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel, create_model
from pydantic.config import JsonDict
from pydantic.json_schema import JsonSchemaValue, model_json_schema
from pydantic_core import core_schema
from workflows.events import (
    Event,
    HumanResponseEvent,
    StartEvent,
    StopEvent,
    WorkflowCancelledEvent,
    WorkflowFailedEvent,
    WorkflowTimedOutEvent,
)

from workflow_server.app.engine import event_schemas
from workflow_server.app.engine.codec import base_names, qualified_name
from workflow_server.app.engine.event_schemas import read_schema
from workflow_server.schemas.events import EventEnvelope

Model = type[BaseModel]

# The engine's own events that take any fields.
OPEN_EXAMPLES: dict[Model, JsonDict] = {
    StartEvent: {"examples": [{"message": "Hello"}]},
    HumanResponseEvent: {"examples": [{"response": "yes"}]},
}
# How the service ends a run that does not complete.
ENDINGS = (WorkflowFailedEvent, WorkflowTimedOutEvent, WorkflowCancelledEvent)


class SchemaGenerator(event_schemas.SchemaGenerator):
    """Says of a field that may be left out no more than that, where its default is None."""

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """Return the schema of a field that has a default."""
        described = super().default_schema(schema)
        if described.get("default", ...) is None:
            del described["default"]
        return described


class EventModels:
    """Models of events; what is made of an event's class is made once."""

    def __init__(self) -> None:
        self.fields: Callable[[Model], Model] = cache(_describe_fields)
        self.envelope: Callable[..., Model] = cache(self._make_envelope)
        self._sent: Callable[[type[Event], str], Model] = cache(self._make_sent)

    def envelopes(self, classes: Iterable[type[Event]]) -> list[Model]:
        """Return the envelopes of events as clients read them, one for each name."""
        by_name = _group_by_name([*classes, *ENDINGS])
        return [self.envelope(*dict.fromkeys(group)) for group in by_name.values()]

    def sent(self, classes: Iterable[type[Event]]) -> dict[type[Event], Model]:
        """Return the envelopes of events as clients send them.

        Events that share a name are sent under their qualified ones.
        """
        return {
            event_class: self._sent(
                event_class, name if len(group) == 1 else qualified_name(event_class)
            )
            for name, group in _group_by_name(classes).items()
            for event_class in group
        }

    def _make_envelope(self, *classes: type[Event]) -> Model:
        """Return the envelope of an event as clients read it, or of several that share a name."""
        name = classes[0].__name__
        return create_model(
            f"{name}Envelope",
            __base__=EventEnvelope,
            __module__=classes[0].__module__,
            __doc__=f"The event `{name}` as clients read it.",
            value=_field("value", _union(map(self.fields, classes))),
            type=_field("type", Literal[name], examples=[name]),
            types=_field("types", list[str] | None, examples=[base_names(classes[0])]),
            qualified_name=_field(
                "qualified_name", str | None, examples=[qualified_name(c) for c in classes]
            ),
        )

    def _make_sent(self, event_class: type[Event], name: str) -> Model:
        """Return the envelope of an event as clients send it, under a name that is its alone."""
        return create_model(
            f"Sent{event_class.__name__}",
            __module__=event_class.__module__,
            __doc__=f"The event `{event_class.__name__}` as clients send it.",
            type=_field("type", Literal[name], examples=[name]),
            value=_field("value", self.fields(event_class)),
        )


def make_union(name: str, sentence: str, members: Iterable[Model]) -> Model:
    """Return a model of several envelopes, told apart by their `type`."""
    root: Any = Annotated[_union(members), Field(discriminator="type")]
    return create_model(name, __base__=RootModel, __doc__=sentence, root=(root, ...))


def _group_by_name(classes: Iterable[type[Event]]) -> dict[str, list[type[Event]]]:
    by_name: dict[str, list[type[Event]]] = {}
    for event_class in classes:
        by_name.setdefault(event_class.__name__, []).append(event_class)
    return by_name


def _union(members: Iterable[Model]) -> Any:
    return reduce(or_, members)


def _field(name: str, annotation: Any, *, examples: list[Any] | None = None) -> Any:
    """Return a field of the envelope with another type and other examples."""
    description = EventEnvelope.model_fields[name].description
    return annotation, Field(description=description, examples=examples)


def _describe_fields(event_class: Model) -> Model:
    """Return the model of an event's fields, which mostly is the event's class itself.

    An event that declares no field takes any; so does one that JSON Schema cannot describe.
    """
    name, module = event_class.__name__, event_class.__module__
    if event_class is StopEvent:
        result = (Any, Field(description="What the run returned."))
        return create_model(name, __module__=module, __doc__="A plain end.", result=result)
    if _is_described(event_class):
        return event_class
    summary = inspect.cleandoc(event_class.__doc__ or "").partition("\n\n")[0]
    return create_model(
        name,
        __module__=module,
        __doc__=summary or "Any fields.",
        __config__=ConfigDict(extra="allow", json_schema_extra=OPEN_EXAMPLES.get(event_class)),
    )


def _is_described(event_class: Model) -> bool:
    # Not the class's own method, which the document does not call either.
    schema = read_schema(
        event_class, lambda: model_json_schema(event_class, schema_generator=SchemaGenerator)
    )
    if schema is None:
        return False
    # A class that refers to itself has its fields among the definitions.
    return bool(schema.get("properties")) or "$ref" in schema
