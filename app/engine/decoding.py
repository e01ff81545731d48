"""Client data to engine objects, with nothing but declared classes.

Whatever a client sends (`start_event`, `event`, `context`), at the top or nested inside values,
only classes from a closed table are ever built, and no name is imported. The table is the
workflow's own events and state class, and the events that were registered with it.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import from_json
from workflows.context.serializers import JsonSerializer
from workflows.events import Event

from workflow_server.app.engine.codec import qualified_name
from workflow_server.app.errors import BadRequest
from workflow_server.schemas.problems import Fault

E = TypeVar("E", bound=Event)
M = TypeVar("M", bound=BaseModel)
R = TypeVar("R", bound=BadRequest)

JSON_TYPES = (str, int, bool, NoneType, list, dict)
# Modules of what a field's declaration may hold without changing a value.
CONSTRAINTS = ("annotated_types", "pydantic.fields", "pydantic._internal._fields")

ENVELOPE_KEYS = frozenset({"type", "types", "value", "data", "qualified_name"})


class _EventSerializer(JsonSerializer):
    """Decodes events and nothing else: a queue that holds another thing stops the engine."""

    def deserialize(self, value: str) -> Event:
        event = super().deserialize(value)
        if not isinstance(event, Event):
            raise ValueError(f"{type(event).__name__} stands where an event must be")
        return event


class EventDecoder:
    """Builds the events of a closed table of classes."""

    def __init__(self, event_classes: Iterable[type[Event]], *other: type[BaseModel]) -> None:
        self.event_classes = tuple(dict.fromkeys(event_classes))
        self.serializer = JsonSerializer(allowed_types=[*self.event_classes, *other])
        self.event_serializer = _EventSerializer(allowed_types=self.event_classes)
        self._by_name: dict[str, list[type[Event]]] = {}
        for event_class in self.event_classes:
            self._by_name.setdefault(event_class.__name__, []).append(event_class)
            self._by_name.setdefault(qualified_name(event_class), []).append(event_class)

    def resolve(self, name: str, *, error: type[BadRequest]) -> type[Event]:
        """Return the class of a name, bare or qualified."""
        found = self._by_name.get(name, [])
        match found:
            case [event_class]:
                return event_class
            case []:
                known = ", ".join(sorted(c.__name__ for c in self.event_classes))
                raise error(
                    f"The workflow declares no event '{name:.100}'; it declares {known}. Others"
                    " are registered with add_workflow(…, additional_events=[…])."
                )
            case _:
                names = ", ".join(sorted(qualified_name(c) for c in found))
                raise error(f"'{name}' is the name of several events; say which: {names}.")

    def build(
        self,
        event_class: type[E],
        fields: object,
        *,
        error: type[BadRequest],
        place: tuple[str, ...],
    ) -> E:
        """Return the event of a class with these fields; `error` names each faulty one."""
        values = flatten(event_class, fields, error=error, place=place)
        return self.validate(event_class, values, error=error, place=place)

    def validate(
        self,
        model: type[M],
        values: dict[str, Any],
        *,
        error: type[BadRequest],
        place: tuple[str, ...],
    ) -> M:
        """Return a model of these values; `error` names each faulty one."""
        try:
            with self.serializer.validation_context():
                return model.model_validate(values)
        except ValidationError as invalid:
            raise describe_invalid(invalid, model.__name__, error=error, place=place) from invalid
        except (ValueError, TypeError, AttributeError, KeyError) as invalid:
            # A class of the user's may check its fields in a constructor of its own.
            raise error(f"{model.__name__} refuses these fields: {invalid}.") from invalid


def describe_invalid(
    invalid: ValidationError, name: str, *, error: type[R], place: tuple[str, ...]
) -> R:
    """Return the error that names each faulty field of a class."""
    faults = [
        Fault(loc=[*place, *fault["loc"]], msg=fault["msg"], type=fault["type"])
        for fault in invalid.errors(include_url=False, include_context=False, include_input=False)
    ]
    return error(_sentence(name, faults, len(place)), faults=faults)


@lru_cache(maxsize=4096)
def comes_back_from_json(event_class: type[Event]) -> bool:
    """Return whether an event that was built from JSON is the same when it is built from its own.

    That is so where no code of its class takes part, and each field holds what JSON holds.
    """
    decorators = event_class.__pydantic_decorators__
    own = (
        decorators.validators,
        decorators.field_validators,
        decorators.root_validators,
        decorators.field_serializers,
        decorators.model_validators,
        decorators.computed_fields,
    )
    engine = Event.__module__
    serializers = decorators.model_serializers.values()
    return (
        not any(own)
        and all(getattr(each.func, "__module__", None) == engine for each in serializers)
        and event_class.__init__.__module__ == engine
        and set(event_class.__private_attributes__) <= {"_data"}
        and all(map(_is_plain, event_class.model_fields.values()))
    )


def _is_plain(field: FieldInfo) -> bool:
    constraints = all(type(each).__module__ in CONSTRAINTS for each in field.metadata)
    is_shown = not field.exclude and field.alias is None
    return constraints and is_shown and _holds_json(field.annotation)


def _holds_json(annotation: Any) -> bool:
    """Return whether a type is of what JSON holds; a float is not, for it may be no number."""
    origin = get_origin(annotation)
    if origin in (list, dict, Union, UnionType):
        return all(map(_holds_json, get_args(annotation)))
    if origin is Literal:
        return all(type(value) in JSON_TYPES for value in get_args(annotation))
    return annotation is Any or annotation in JSON_TYPES


def as_object(data: dict[str, Any] | str, *, what: str, error: type[BadRequest]) -> dict[str, Any]:
    """Return an object that was sent as such or as a JSON string."""
    if isinstance(data, dict):
        return data
    try:
        parsed = from_json(data, allow_inf_nan=False)
    except ValueError as invalid:
        raise error(f"{what} is a string that is not JSON: {invalid}.") from invalid
    if not isinstance(parsed, dict):
        raise error(f"{what} must be an object, or a JSON string of one.")
    return parsed


def envelope_name(envelope: Mapping[str, Any]) -> str | None:
    """Return the class name that an envelope carries, or None where it carries none."""
    for key in ("type", "qualified_name"):
        name = envelope.get(key)
        if isinstance(name, str) and name:
            return name
    return None


def envelope_value(envelope: Mapping[str, Any]) -> object:
    """Return the fields that an envelope carries; no fields where it carries none."""
    value = envelope.get("value", envelope.get("data"))
    return {} if value is None else value


def has_declared_fields_only(event_class: type[Event], fields: Mapping[str, Any]) -> bool:
    """Return whether every key is a field that the class declares."""
    names = set(event_class.model_fields)
    names.update(f.alias for f in event_class.model_fields.values() if f.alias is not None)
    return names.issuperset(fields)


def flatten(
    event_class: type[Event], fields: object, *, error: type[BadRequest], place: tuple[str, ...]
) -> dict[str, Any]:
    """Return an event's fields as one object, undeclared ones among the declared.

    `model_dump` of an event, which existing clients send, puts undeclared fields under `_data`.
    Other private attributes are the workflow's own and are refused.
    """
    if not isinstance(fields, dict):
        raise error(f"The fields of {event_class.__name__} must be an object.")
    private = event_class.__private_attributes__
    flat: dict[str, Any] = {}
    for key, value in fields.items():
        if key == "_data" and isinstance(value, dict):
            flat.update((k, v) for k, v in value.items() if k not in private)
        elif key in private:
            fault = Fault(loc=[*place, key], msg="Private attribute", type="extra_forbidden")
            raise error(f"'{key}' of {event_class.__name__} cannot be set.", faults=[fault])
        else:
            flat[key] = value
    return flat


def _sentence(name: str, faults: list[Fault], depth: int) -> str:
    parts = []
    for fault in faults[:5]:
        field = ".".join(str(part) for part in fault.loc[depth:])
        parts.append(f"'{field}': {fault.msg}" if field else fault.msg)
    more = f", and {len(faults) - 5} more" if len(faults) > 5 else ""
    return f"{name} does not accept the fields: {'; '.join(parts)}{more}."
