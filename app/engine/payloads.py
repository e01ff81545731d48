"""Payloads: the large values that ticks and snapshots hold, each written once.

An event goes from step to step in several ticks, and then waits in queues and buffers, which every
snapshot holds. Written in full each time, a fan-out costs a multiple of what its events hold. So an
encoded value of some size becomes a payload of its own with a number, and ticks and snapshots
refer to that. Values are the same where their JSON is: one that a step has changed in place is
another payload. A snapshot drops the payloads that it does not refer to.

A document with references is `{"$": TREE}`; one without is left as it was. In a tree, and in a
payload, an object with the key `$` is a mark, by the value that it has there:

- a number: the payload of this number,
- an array: a text that holds JSON, as a tree, and how it was written,
- an object: data that has such a key itself.
"""

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from pydantic_core import from_json, to_json

from workflow_server.app.engine.codec import check_readable
from workflow_server.app.engine.values.writer import TAG
from workflow_server.schemas.records import PayloadRecord

Tree = Any

MARK = "$"
HEAD = b'{"$":'
# Keys of an object that is an encoded value: of the codec, and of the engine before.
ENCODED = (TAG, "__is_pydantic", "__is_component")
LARGE = 256  # bytes of an encoded value, from which it is a payload
SMALL_DOCUMENT = 512  # bytes of a document in which nothing is looked for
REFERENCE_SIZE = 12  # bytes, about
NUMBER_SIZE = 8
DIGEST_SIZE = 16
# Ways to write JSON: that of the engine's serializer, and that of ours.
WRITTEN: tuple[Callable[[Tree], str], ...] = (json.dumps, lambda tree: to_json(tree).decode())
_NUMBERS = frozenset({int, float, bool, type(None)})
_FLAT = _NUMBERS | {str}


class PayloadMissing(Exception):
    """A document refers to a payload that is not there."""


@dataclass(slots=True)
class Stripped:
    """A document without its large values: those that are new, and the numbers of all of them."""

    document: bytes = b""
    added: list[tuple[int, bytes]] = field(default_factory=list)
    numbers: set[int] = field(default_factory=set)


class Payloads:
    """The payloads of one run that its journal has, known by their digests."""

    def __init__(self, records: Iterable[PayloadRecord] = ()) -> None:
        self._next = 0
        self._numbers: dict[bytes, int] = {}
        self._digests: dict[int, bytes] = {}
        self._inner: dict[int, frozenset[int]] = {}  # those to which a payload itself refers
        for record in records:
            self._add(record.number, _digest(record.payload), _references(record.payload))

    def __len__(self) -> int:
        return len(self._digests)

    def strip(self, document: bytes) -> Stripped:
        """Return a document with references in place of its large values.

        Where it has any, fields that are null are left out of it, which a reader takes for null.
        One that marks would make too deep to be read is left as it was.
        """
        if len(document) < SMALL_DOCUMENT:
            return Stripped(document)
        stripped = Stripped()
        try:
            tree, _ = self._strip(from_json(document), stripped)
            fields = {name: value for name, value in tree.items() if value is not None}
            stripped.document = to_json({MARK: fields})
            check_readable(stripped.document, depth=0)
        except ValueError:
            self._forget(number for number, _ in stripped.added)
            return Stripped(document)
        return stripped if stripped.numbers else Stripped(document)

    def keep_only(self, numbers: Iterable[int]) -> list[int]:
        """Forget all payloads but these, and those to which they refer; return the forgotten."""
        kept, left = set[int](), list(numbers)
        while left:
            number = left.pop()
            if number not in kept:
                kept.add(number)
                left += self._inner.get(number, ())
        dropped = [number for number in self._digests if number not in kept]
        self._forget(dropped)
        return dropped

    def _forget(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            self._numbers.pop(self._digests.pop(number), None)
            self._inner.pop(number, None)

    def _strip(self, node: Tree, stripped: Stripped) -> tuple[Tree, int]:
        """Return a node without its large values, and about how many bytes are left of it."""
        if isinstance(node, str):
            return self._strip_text(node, stripped) if len(node) >= LARGE else (node, len(node))
        if isinstance(node, list):
            flat = _measure_flat(node)
            if flat is not None:
                return node, flat
            items = [self._strip(item, stripped) for item in node]
            return [item for item, _ in items], sum(size for _, size in items) + len(items)
        if not isinstance(node, dict):
            return node, NUMBER_SIZE
        tree, size = node, _measure_flat(node.values())
        if size is None:
            members = {name: self._strip(value, stripped) for name, value in node.items()}
            size = sum(size for _, size in members.values())
            tree = {name: value for name, (value, _) in members.items()}
        size += sum(map(len, node)) + 4 * len(node)
        if MARK in tree:
            tree = {MARK: tree}
        if size >= LARGE and any(key in node for key in ENCODED):
            return {MARK: self._refer(tree, stripped)}, REFERENCE_SIZE
        return tree, size

    def _strip_text(self, text: str, stripped: Stripped) -> tuple[Tree, int]:
        """Strip a text that holds an encoded value, as engine state is serialized."""
        if not text.startswith('{"'):
            return text, len(text)
        try:
            value = from_json(text)
        except ValueError:
            return text, len(text)
        way = next((way for way, write in enumerate(WRITTEN) if write(value) == text), None)
        if way is None:
            return text, len(text)
        tree, size = self._strip(value, stripped)
        return {MARK: [tree, way]}, size

    def _refer(self, tree: Tree, stripped: Stripped) -> int:
        """Return the number of the payload that is a tree."""
        payload = to_json(tree)
        digest = _digest(payload)
        number = self._numbers.get(digest)
        if number is None:
            number = self._next
            self._add(number, digest, _references(payload))
            stripped.added.append((number, payload))
        stripped.numbers.add(number)
        return number

    def _add(self, number: int, digest: bytes, inner: frozenset[int]) -> None:
        self._next = max(self._next, number + 1)
        self._numbers[digest] = number
        self._digests[number] = digest
        if inner:
            self._inner[number] = inner


def _measure_flat(values: Collection[Tree]) -> int | None:
    """Return about how many bytes values have in which nothing can be large, or None for others."""
    kinds = set(map(type, values))
    if kinds <= _NUMBERS:
        return NUMBER_SIZE * len(values)
    if not kinds <= _FLAT:
        return None
    sizes = [len(value) for value in values if type(value) is str]
    return None if max(sizes) >= LARGE else sum(sizes) + NUMBER_SIZE * len(values)


def has_payloads(document: bytes) -> bool:
    """Return whether a document refers to payloads."""
    return document.startswith(HEAD)


def put_back(document: bytes, payloads: Mapping[int, bytes]) -> bytes:
    """Return a document as it was before it was stripped; `PayloadMissing` where it cannot be."""
    if not has_payloads(document):
        return document
    return to_json(_put_back(from_json(document)[MARK], payloads))


def _put_back(node: Tree, payloads: Mapping[int, bytes]) -> Tree:
    if isinstance(node, list):
        return [_put_back(item, payloads) for item in node]
    if not isinstance(node, dict):
        return node
    if MARK not in node:
        return {name: _put_back(value, payloads) for name, value in node.items()}
    match node[MARK]:
        case int(number):
            if number not in payloads:
                raise PayloadMissing(f"payload {number} is missing")
            return _put_back(from_json(payloads[number]), payloads)
        case [tree, int(way)]:
            return WRITTEN[way](_put_back(tree, payloads))
        case data:
            return {name: _put_back(value, payloads) for name, value in data.items()}


def _digest(payload: bytes) -> bytes:
    return blake2b(payload, digest_size=DIGEST_SIZE).digest()


def _references(payload: bytes) -> frozenset[int]:
    """Return the numbers of the payloads to which a payload refers."""
    return frozenset(_find_references(from_json(payload))) if HEAD in payload else frozenset()


def _find_references(node: Tree) -> Iterable[int]:
    if isinstance(node, list):
        for item in node:
            yield from _find_references(item)
    elif isinstance(node, dict):
        mark = node.get(MARK)
        if isinstance(mark, int):
            yield mark
        else:
            # Data with such a key has it once more inside, where it is no mark.
            for value in (mark if isinstance(mark, dict) else node).values():
                yield from _find_references(value)
