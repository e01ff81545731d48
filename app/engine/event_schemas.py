"""JSON Schemas of events, whatever their classes hold.

A schema is made by code of the class's author and of libraries, which may fail in any way, or give
what no JSON holds. Such a class is described as an open object: any fields.
"""

from collections.abc import Callable
from math import isfinite
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field
from pydantic.errors import PydanticUserError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, JsonSchemaWarningKind
from pydantic_core import PydanticSerializationError, core_schema, from_json, to_json
from workflows.events import HumanResponseEvent

from workflow_server.app.telemetry.logs import get_logger

logger = get_logger(__name__)

JsonSchema = dict[str, Any]

# A `HumanResponseEvent` takes any fields, and nearly every workflow reads this one.
RESPONSE: JsonSchema = {
    "title": "Response",
    "type": "string",
    "description": "The answer. Other fields are taken too.",
}


class SchemaGenerator(GenerateJsonSchema):
    """Leaves out a default that JSON cannot hold."""

    def emit_warning(self, kind: JsonSchemaWarningKind, detail: str) -> None:
        """Pass over what JSON Schema cannot say of a class: its author does not read this."""

    def encode_default(self, dft: Any) -> Any:
        """Return a default as JSON has it; the one error tells of every kind that it cannot have.

        Bytes that are no text were another one before pydantic 2.13.
        """
        try:
            return super().encode_default(dft)
        except UnicodeDecodeError as error:
            raise PydanticSerializationError(str(error)) from error

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """Return the schema of a field that has a default."""
        described = super().default_schema(schema)
        default = described.get("default")
        if isinstance(default, float) and not isfinite(default):
            del described["default"]
        return described


class _Readable(BaseModel):
    """Shape of a schema that can be read: the keywords that the web UI and the API pages follow."""

    model_config = ConfigDict(strict=True)

    ref: str = Field("", alias="$ref")
    definitions: dict[str, Self] = Field({}, alias="$defs")
    title: str = ""
    description: str = ""
    type: str | list[str] = ""
    properties: dict[str, Self] = {}
    required: list[str] = []
    additional_properties: bool | Self = Field(False, alias="additionalProperties")
    items: Self | None = None
    any_of: list[Self] = Field([], alias="anyOf")
    one_of: list[Self] = Field([], alias="oneOf")
    all_of: list[Self] = Field([], alias="allOf")
    enum: list[Any] = []
    examples: list[Any] = []
    max_length: int = Field(0, alias="maxLength")


def describe(model: type[BaseModel]) -> JsonSchema:
    """Return the JSON Schema of a class, or that of an open object with the class's name."""
    schema = read_schema(model, lambda: model.model_json_schema(schema_generator=SchemaGenerator))
    if schema is None:
        return {"additionalProperties": True, "title": model.__name__, "type": "object"}
    if issubclass(model, HumanResponseEvent) and not schema.get("properties", "$ref" in schema):
        return {**schema, "properties": {"response": RESPONSE}, "additionalProperties": True}
    return schema


def read_schema(model: type[BaseModel], make: Callable[[], object]) -> JsonSchema | None:
    """Return a class's schema as JSON holds it, or None where that cannot be made or read."""
    try:
        schema: JsonSchema = from_json(to_json(make(), inf_nan_mode="null"))
        _Readable.model_validate(schema)
    except PydanticUserError:
        return None  # a field that JSON Schema cannot describe
    except BaseException as error:  # noqa: BLE001  # it is code of the class's author
        logger.info(
            "event has no JSON Schema",
            event_class=f"{model.__module__}.{model.__qualname__}",
            reason=type(error).__name__,
        )
        return None
    return schema
