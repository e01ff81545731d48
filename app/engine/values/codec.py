"""Codec of what a run holds: its state, the events between its steps, its waiters.

A value comes back equal, in type and value, or is refused with a sentence that names its place:
`NotFaithful`. The bytes are JSON; what JSON lacks is written as a tag (see `writer`). Reading
imports nothing, and runs no constructor and no validator.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, cast

from pydantic_core import PydanticSerializationError, from_json, to_json
from workflows.context.serializers import BaseSerializer, JsonSerializer

from workflow_server.app.engine.heavy import Beside
from workflow_server.app.engine.values.classes import Classes
from workflow_server.app.engine.values.faults import NotFaithful, NotReadable, explain
from workflow_server.app.engine.values.instances import find_writer
from workflow_server.app.engine.values.reader import Reader
from workflow_server.app.engine.values.writer import Tree, Writer
from workflow_server.app.json_size import building_values, without_collection

FORMAT = 2  # of what is stored; before it was the engine's own, and nothing said so
MARK = b'{"format":2,'  # what is stored begins so


def is_current(encoded: bytes) -> bool:
    """Return whether something is stored in today's format."""
    return encoded.startswith(MARK)


class Codec(JsonSerializer):
    """Encodes and decodes values; `declared` are classes that are found wherever they are.

    `own` is the workflow's own serializer, if it was given one: it has what the codec cannot hold.
    It takes the place of the engine's serializer, so that what the engine writes itself is written
    in this way too. `beside` has threads for what is heavy.
    """

    def __init__(self, declared: Iterable[type] = (), own: BaseSerializer | None = None) -> None:
        super().__init__()
        self.beside = Beside()
        self.classes = Classes(declared)
        self._reader = Reader(self.classes, own)
        find = find_writer if own is None else partial(find_writer, own=own)
        self._writer = Writer(self.classes, find, self.read)
        self._careful_writer = Writer(self.classes, find, self.read, careful=True)

    def encode(self, write: Callable[[Writer], Tree]) -> bytes:
        """Return the tree that `write` makes as JSON; `NotFaithful` where it cannot be made."""
        try:
            try:
                with without_collection():
                    return to_json(write(self._writer))
            except PydanticSerializationError:
                return to_json(write(self._careful_writer))
        except NotFaithful:
            raise
        except BaseException as error:  # values look after themselves, by code of the user's
            raise NotFaithful(f"to look into it raised {type(error).__name__}") from error

    def write(self, value: Any) -> Tree:
        """Return a value's tree, which shares its parts; `NotFaithful` where it cannot be made."""
        return self._writer.write(value)

    def decode(self, encoded: bytes | str) -> Any:
        """Return the value that was encoded; `NotReadable` where it does not fit the code."""
        with building_values(encoded):
            return self.read(from_json(encoded, cache_strings="keys"))

    def read(self, tree: Tree) -> Any:
        """Return the value of a tree, which is taken over; `NotReadable` as of `decode`."""
        try:
            return self._reader.read(tree)
        except NotReadable:
            raise
        except BaseException as error:  # hashes and loading functions are the user's
            raise NotReadable(explain(error)) from error

    # What the engine calls.

    def serialize(self, value: Any) -> str:
        return self.encode(lambda writer: writer.write_root(value)).decode()

    def deserialize(self, value: str) -> Any:
        return self.decode(value)

    def resolve_class(self, qualified_name: str) -> type[Any]:
        if qualified_name[0] in '"[':  # a reference of ours, as JSON
            return cast("type[Any]", self.classes.find(from_json(qualified_name)))
        return self.classes.find_dotted(qualified_name)
