"""The base of what the service answers with: a schema that is built when it is first used."""

from pydantic import BaseModel, ConfigDict


class AnswerModel(BaseModel):
    """A model whose validator and serializer no start needs.

    Most of them serve the OpenAPI document alone.
    """

    model_config = ConfigDict(defer_build=True)
