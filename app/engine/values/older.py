"""Older formats: what the engine's own serializer encoded, before there was a codec."""

from typing import Any

from workflows.context.serializers import JsonSerializer

from workflow_server.app.engine.values.classes import Classes


class OlderSerializer(JsonSerializer):
    """Decodes as the engine does, of classes that are loaded: it imports nothing."""

    def __init__(self, classes: Classes) -> None:
        super().__init__()
        self._classes = classes

    def resolve_class(self, qualified_name: str) -> type[Any]:
        return self._classes.find_dotted(qualified_name)
