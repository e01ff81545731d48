"""Parameters of a workflow's own `run()`: the fields that a client may give, and their types.

A `run()` that takes any keyword hands on what it does not name to the `run()` above it, and in the
end to the engine's, which builds the start event.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from operator import or_
from types import NoneType, SimpleNamespace, UnionType
from typing import (
    Annotated,
    Any,
    Union,
    get_args,
    get_origin,
    get_overloads,
    get_type_hints,
)

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, create_model
from pydantic.config import JsonDict
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from workflows import Workflow
from workflows.events import StartEvent

# Parameters that the server gives, or has no use for.
RESERVED = frozenset({"ctx", "start_event", "run_id"})
BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
EXAMPLE = "Hello"

Run = Callable[..., Any]
Fields = dict[str, tuple[Any, Any]]


@dataclass(frozen=True, slots=True)
class _Parameter:
    """A parameter of a `run()`."""

    annotation: Any
    default: Any
    is_required: bool


@dataclass(frozen=True, slots=True)
class RunParameters:
    """The fields that start a workflow through its own `run()`.

    `named` converts the fields that `run()` names to their types. `shown` describes all fields,
    those of the start event among them. The fields of both stand for parameters by their aliases.
    """

    named: type[BaseModel]
    shown: type[BaseModel]
    is_open: bool
    takes_context: bool
    takes_start_event: bool

    @property
    def names(self) -> frozenset[str]:
        """The names of all fields that are known."""
        return _aliases(self.named) | _aliases(self.shown)

    def takes(self, fields: Mapping[str, object]) -> bool:
        """Return whether `run()` takes these fields as keywords."""
        return self.is_open or _aliases(self.named).issuperset(fields)


def has_own_run(workflow: Workflow) -> bool:
    """Return whether a workflow's `run()` is not the engine's."""
    return "run" in vars(workflow) or type(workflow).run is not Workflow.run


def read_parameters(workflow: Workflow) -> RunParameters:
    """Return the parameters of a workflow's own `run()`."""
    known, is_open = _collect(workflow)
    parameters = {name: known[name] for name in known if name not in RESERVED}
    start_class: type[StartEvent] = workflow.start_event_class
    takes_start_event = is_open or "start_event" in known
    shown = {name: _show(name, p) for name, p in parameters.items() if _givable(p.annotation)}
    if is_open or (takes_start_event and not parameters):
        for field, info in start_class.model_fields.items():
            name = info.alias or field
            shown[name] = _show_field(name, info, parameters.get(name))
    return RunParameters(
        named=_make_model(
            start_class.__name__,
            {name: _convert(name, parameter) for name, parameter in parameters.items()},
            ConfigDict(extra="allow" if is_open else "forbid"),
        ),
        shown=_describe(start_class, shown) if shown else start_class,
        is_open=is_open,
        takes_context=is_open or "ctx" in known,
        takes_start_event=takes_start_event,
    )


def _collect(workflow: Workflow) -> tuple[dict[str, _Parameter], bool]:
    """Return all parameters by name, and whether the engine's `run()` gets the other keywords.

    What is required by a `run()` further up may be filled in by the nearest.
    """
    known: dict[str, _Parameter] = {}
    for number, run in enumerate(_runs_of(workflow)):
        found, is_open = _parameters_of(run)
        for name, parameter in found.items():
            known.setdefault(name, _left_out(parameter) if number else parameter)
        if not is_open:
            return known, False
    return known, True


def _runs_of(workflow: Workflow) -> Iterator[Run]:
    """Yield each `run()` of a workflow, from the nearest up to the engine's."""
    if "run" in vars(workflow):
        yield workflow.run
    for owner in type(workflow).__mro__:
        if owner is Workflow:
            return
        if "run" in vars(owner):
            yield vars(owner)["run"].__get__(workflow, type(workflow))


def _parameters_of(run: Run) -> tuple[dict[str, _Parameter], bool]:
    """Return the parameters of one `run()`, and whether it takes others too.

    Where it takes others, its overloads say which.
    """
    signature = inspect.signature(run)
    found = _read_signature(run, signature)
    is_open = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    function = inspect.unwrap(getattr(run, "__func__", run))
    if is_open and inspect.isfunction(function):
        for overload in get_overloads(function):
            described = _read_signature(overload, inspect.signature(overload))
            for name, parameter in described.items():
                if name != "self":
                    found.setdefault(name, _left_out(parameter))
    return found, is_open


def _read_signature(run: Run, signature: inspect.Signature) -> dict[str, _Parameter]:
    return {
        name: _Parameter(
            annotation=_resolve(run, parameter.annotation),
            default=None if parameter.default is parameter.empty else parameter.default,
            is_required=parameter.default is parameter.empty,
        )
        for name, parameter in signature.parameters.items()
        if parameter.kind in BY_NAME
    }


def _left_out(parameter: _Parameter) -> _Parameter:
    return replace(parameter, is_required=False)


def _resolve(run: Run, annotation: Any) -> Any:
    """Return the type that an annotation means; any type where that cannot be found out."""
    if annotation is inspect.Parameter.empty:
        return Any
    function = inspect.unwrap(getattr(run, "__func__", run))
    holder = SimpleNamespace(__annotations__={"it": annotation})
    try:
        return get_type_hints(holder, getattr(function, "__globals__", {}), include_extras=True)[
            "it"
        ]
    except BaseException:  # noqa: BLE001  # a string may hold any code, such as a name that only checkers know
        return Any


def _givable(annotation: Any) -> Any | None:
    """Return the part of a type that JSON can give, or None where that is nothing but null."""
    if get_origin(annotation) in (Union, UnionType):
        members = [member for member in get_args(annotation) if _givable(member) is not None]
        return reduce(or_, members) if members else None
    if annotation is None or annotation is NoneType or _is_abstract(annotation):
        return None
    try:
        TypeAdapter(annotation).json_schema()
    except BaseException:  # noqa: BLE001  # schemas are made by the code of any class
        return None
    return annotation


def _is_abstract(annotation: Any) -> bool:
    return inspect.isabstract(annotation) or any(map(_is_abstract, get_args(annotation)))


def _type_of(parameter: _Parameter) -> Any:
    """Return the type that a client may give for a parameter, null included where it may be."""
    annotation = _givable(parameter.annotation)
    if annotation is None:
        return None
    members = get_args(parameter.annotation)
    may_be_null = NoneType in members or (not parameter.is_required and parameter.default is None)
    return annotation | None if may_be_null and annotation is not Any else annotation


def _convert(name: str, parameter: _Parameter) -> tuple[Any, Any]:
    """Return the field that converts a parameter."""
    annotation = _type_of(parameter)
    if annotation is None:
        annotation = Annotated[Any, BeforeValidator(_refuse)]
    return annotation, Field(... if parameter.is_required else parameter.default, alias=name)


def _refuse(value: object) -> None:
    """Let a parameter that takes objects of the program be left out, or null."""
    if value is not None:
        raise ValueError("run() takes an object here that JSON cannot give")


def _show(name: str, parameter: _Parameter) -> tuple[Any, Any]:
    """Return the field that describes a parameter."""
    default = ... if parameter.is_required else parameter.default
    return _type_of(parameter), Field(default, alias=name, title=_title(name))


def _show_field(name: str, info: FieldInfo, parameter: _Parameter | None) -> tuple[Any, Any]:
    """Return the field that describes one of the start event; `run()` may fill it in."""
    options: dict[str, Any] = {"default": info.default}
    if parameter is not None:
        options = {"default": ... if parameter.is_required else parameter.default}
    elif info.is_required() or info.default_factory is not None:
        options = {"default_factory": lambda: None}
    field: Any = Field(
        alias=name,
        title=info.title or _title(name),
        description=info.description,
        examples=info.examples,
        discriminator=info.discriminator,
        json_schema_extra=info.json_schema_extra,
        **options,
    )
    annotation: Any = info.annotation
    for constraint in info.metadata:
        annotation = Annotated[annotation, constraint]
    return annotation, field


def _title(name: str) -> str:
    return name.replace("_", " ").title()


def _exemplify(start_class: type[StartEvent], shown: Fields) -> Any:
    """Return what the start event says of its schema, or else an example with one text.

    It helps where every field may be left out, and nothing says which one a run needs.
    """
    said = start_class.model_config.get("json_schema_extra")
    if said or not shown:
        return said
    name, (annotation, _) = next(iter(shown.items()))
    takes_text = annotation is str or str in get_args(annotation)
    is_said = any(_says_a_value(field) for _, field in shown.values())
    example: JsonDict = {"examples": [{name: EXAMPLE}]}
    return example if takes_text and not is_said else None


def _says_a_value(field: FieldInfo) -> bool:
    has_default = field.default is not None and field.default is not PydanticUndefined
    return field.is_required() or has_default or bool(field.examples)


def _describe(start_class: type[StartEvent], shown: Fields) -> type[BaseModel]:
    """Return the model that describes what a run starts from, under the start event's title."""
    name = start_class.__name__
    config = ConfigDict(title=name, json_schema_extra=_exemplify(start_class, shown))
    model = _make_model(f"{name}Fields", shown, config)
    model.__doc__ = start_class.__doc__
    return model


def _make_model(name: str, fields: Fields, config: ConfigDict) -> type[BaseModel]:
    """Return a model whose fields stand for parameters of any name by their aliases."""
    named: dict[str, Any] = {f"field_{n}": field for n, field in enumerate(fields.values())}
    config = {**config, "arbitrary_types_allowed": True}
    model: type[BaseModel] = create_model(name, __config__=config, **named)
    return model


def _aliases(model: type[BaseModel]) -> frozenset[str]:
    return frozenset(field.alias or name for name, field in model.model_fields.items())
