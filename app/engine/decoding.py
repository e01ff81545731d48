"""Client data to engine objects, with nothing but declared classes.

Whatever a client sends (`start_event`, `event`, `context`), at the top or nested inside values,
only classes from a closed table are ever built, and no name is imported. The table is the
workflow's own events and state class, and the events that were registered with it.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import from_json
from workflows.context.serializers import JsonSerializer
from workflows.events import Event

from workflow_server.app.engine.codec import qualified_name
from workflow_server.app.engine.outcome import clean_text
from workflow_server.app.engine.outcome import describe as describe_error
from workflow_server.app.errors import BadRequest
from workflow_server.app.json_size import building_values, count_values, without_collection
from workflow_server.schemas.problems import Fault

E = TypeVar("E", bound=Event)
M = TypeVar("M", bound=BaseModel)
R = TypeVar("R", bound=BadRequest)

JSON_TYPES = (str, int, bool, NoneType, list, dict)
# Modules of what a field's declaration may hold without changing a value.
CONSTRAINTS = ("annotated_types", "pydantic.fields", "pydantic._internal._fields")

ENVELOPE_KEYS = frozenset({"type", "types", "value", "data", "qualified_name"})
NAME_KEYS = ("type", "qualified_name")
# Set by the engine's serializer, with which Python clients of 2.8 write events.
PYDANTIC_MARK = "__is_pydantic"
MAX_FAULTS = 100  # that an answer names


class TextBudget:
    """Number of JSON values that the texts in a client's context may still have."""

    def __init__(self, values: int) -> None:
        self.left = values

    def spend(self, text: str) -> None:
        """Count the values of a text; ValueError where they are too many."""
        self.left -= count_values(text.encode(errors="surrogatepass"), max(self.left, 0))
        if self.left < 0:
            raise ValueError("it has too many JSON values")


_budget: ContextVar[TextBudget | None] = ContextVar("workflow_server_text_budget", default=None)


@contextmanager
def counting_texts(values: int) -> Iterator[TextBudget]:
    """Let the serializers of clients' contexts read texts of so many values, and no more."""
    budget = TextBudget(values)
    token = _budget.set(budget)
    try:
        yield budget
    finally:
        _budget.reset(token)


class _ClientSerializer(JsonSerializer):
    """Decodes the texts in a context, whose values are counted before they are built."""

    def deserialize(self, value: str) -> Any:
        if (budget := _budget.get()) is not None and isinstance(value, str):
            budget.spend(value)
        return super().deserialize(value)


class _EventSerializer(_ClientSerializer):
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
        self.serializer = _ClientSerializer(allowed_types=[*self.event_classes, *other])
        self.event_serializer = _EventSerializer(allowed_types=self.event_classes)
        self._by_name: dict[str, list[type[Event]]] = {}
        for event_class in self.event_classes:
            self._by_name.setdefault(event_class.__name__, []).append(event_class)
            self._by_name.setdefault(qualified_name(event_class), []).append(event_class)

    def knows(self, envelope: Mapping[str, Any]) -> bool:
        """Return whether an envelope carries the name of a class of the table."""
        return self._find_name(envelope) is not None

    def resolve_envelope(
        self, envelope: Mapping[str, Any], *, error: type[BadRequest]
    ) -> type[Event]:
        """Return the class that an envelope is of: the first of its names that is known."""
        names = envelope_names(envelope)
        if not names:
            raise error("The event needs a `type`, the name of its class, and a `value`.")
        return self.resolve(self._find_name(envelope) or names[0], error=error)

    def _find_name(self, envelope: Mapping[str, Any]) -> str | None:
        """Return the first name that is known, as it is or else without its module.

        The module is the client's: a script calls that `__main__` which the server knows by its
        file.
        """
        names = envelope_names(envelope)
        bare = [name.rpartition(".")[2] for name in names]
        return next(filter(self._by_name.__contains__, [*names, *bare]), None)

    def resolve(self, name: str, *, error: type[BadRequest]) -> type[Event]:
        """Return the class of a name, bare or qualified."""
        match self._by_name.get(name, []):
            case [event_class]:
                return event_class
            case []:
                known = ", ".join(sorted(c.__name__ for c in self.event_classes))
                raise error(
                    f"The workflow declares no event '{name:.100}'; it declares {known}. Others"
                    " are registered with add_workflow(…, additional_events=[…])."
                )
            case found:
                names = ", ".join(sorted(qualified_name(c) for c in found))
                raise error(f"'{name:.100}' is the name of several events; say which: {names}.")

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
        except Exception as invalid:  # validators and constructors are the user's
            reason = clean_text(describe_error(invalid))
            raise error(f"{model.__name__} refuses these fields: {reason}.") from invalid


def describe_invalid(
    invalid: ValidationError, name: str, *, error: type[R], place: tuple[str, ...]
) -> R:
    """Return the error that names each faulty field of a class, up to `MAX_FAULTS` of them."""
    with without_collection():
        found = invalid.errors(include_url=False, include_context=False, include_input=False)
    faults = [
        Fault(loc=[*place, *fault["loc"]], msg=fault["msg"], type=fault["type"])
        for fault in found[:MAX_FAULTS]
    ]
    return error(_sentence(name, faults, len(place), invalid.error_count()), faults=faults)


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
        with building_values(data):
            parsed = from_json(data, allow_inf_nan=False)
    except ValueError as invalid:
        raise error(f"{what} is a string that is not JSON: {invalid}.") from invalid
    if not isinstance(parsed, dict):
        raise error(f"{what} must be an object, or a JSON string of one.")
    return parsed


def envelope_names(envelope: Mapping[str, Any]) -> list[str]:
    """Return the class names that an envelope carries: its `type`, then its qualified name."""
    names = map(envelope.get, NAME_KEYS)
    return [name for name in names if isinstance(name, str) and name]


def envelope_value(envelope: Mapping[str, Any]) -> object:
    """Return the fields that an envelope carries; no fields where it carries none."""
    value = envelope.get("value")
    if value is None:
        value = envelope.get("data")
    return {} if value is None else value


def declared_names(event_class: type[Event]) -> frozenset[str]:
    """Return the names, and aliases, of the fields that the class declares."""
    fields = event_class.model_fields
    aliases = (field.alias for field in fields.values())
    return frozenset(fields).union(alias for alias in aliases if alias is not None)


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


def _sentence(name: str, faults: list[Fault], depth: int, count: int) -> str:
    parts = []
    for fault in faults[:5]:
        field = ".".join(str(part) for part in fault.loc[depth:])
        parts.append(f"'{field}': {fault.msg}" if field else fault.msg)
    more = f", and {count - 5} more" if count > 5 else ""
    return f"{name} does not accept the fields: {'; '.join(parts)}{more}."
