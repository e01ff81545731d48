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
from itertools import chain
from types import MappingProxyType
from typing import Any, NamedTuple

from pydantic_core import from_json, to_json

from workflow_server.app.engine.codec import check_readable
from workflow_server.app.engine.values.writer import TAG
from workflow_server.app.json_size import building_values
from workflow_server.schemas.records import PayloadRecord

Tree = Any

MARK = "$"
HEAD = b'{"$":'
# Keys of an object that is an encoded value: of the codec, and of the engine before.
ENCODED = (TAG, "__is_pydantic", "__is_component")
MARKS = frozenset({MARK, *ENCODED})
LARGE = 256  # bytes of an encoded value, from which it is a payload
SMALL_DOCUMENT = 512  # bytes of a document in which nothing is looked for
REFERENCE_SIZE = 12  # bytes, about
NUMBER_SIZE = 8
DIGEST_SIZE = 16
MANY = 64  # items of what is looked at as a whole first
LOOKS = 1_000_000
# Ways to write JSON: that of the engine's serializer, and that of ours.
WRITTEN: tuple[Callable[[Tree], str], ...] = (json.dumps, lambda tree: to_json(tree).decode())
MARK_KEY = b'"%b"' % MARK.encode()
TAG_KEY = b'"%b":' % TAG.encode()
# Signs of marks, of texts that hold JSON, and of what the engine's own serializer has encoded.
NOT_LONE = (MARK_KEY, b'"{\\"', b'"__is_')
NO_FIELDS: Mapping[str, Tree] = MappingProxyType({})
_NUMBERS = frozenset({int, float, bool, type(None)})
_FLAT = _NUMBERS | {str}


class Payload(NamedTuple):
    """An encoded value that refers to no other payload, and its digest."""

    encoded: bytes
    digest: bytes


class PayloadMissing(Exception):
    """A document refers to a payload that is not there."""


@dataclass(slots=True)
class Stripped:
    """A document without its large values: those that are new, and the numbers of all of them."""

    document: bytes = b""
    added: list[tuple[int, bytes]] = field(default_factory=list)
    numbers: set[int] = field(default_factory=set)
    looks: int = LOOKS  # how many values may still be looked at before it is known what they hold


class Payloads:
    """The payloads of one run that its journal has, known by their digests."""

    def __init__(self, records: Iterable[PayloadRecord] = ()) -> None:
        self._next = 0
        self._numbers: dict[bytes, int] = {}
        self._digests: dict[int, bytes] = {}
        self._inner: dict[int, frozenset[int]] = {}  # those to which a payload itself refers
        # Texts that are a payload each, by their digests: an engine's snapshot has one an event.
        self._texts: dict[bytes, tuple[int, int]] = {}
        self._text_of: dict[int, bytes] = {}
        self._sizes: dict[int, int] = {}
        self.bytes = 0  # of all of them
        for record in records:
            self._add(record.number, _digest(record.payload), find_numbers(record.payload))
            self._weigh(record.number, len(record.payload))

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
            self._strip_fields(document, stripped)
        except ValueError:
            return Stripped(document)
        return stripped if stripped.numbers else Stripped(document)

    def has(self, payload: Payload) -> bool:
        """Return whether the journal has a payload."""
        return payload.digest in self._numbers

    def strip_beside(self, document: bytes, name: str, payload: Payload) -> Stripped:
        """Return what `strip` does, with a payload as the field of a name.

        Raises ValueError where marks would make the document too deep to be read.
        """
        stripped = Stripped()
        reference = {MARK: self._refer_to(payload, frozenset(), stripped)}
        self._strip_fields(document, stripped, {name: reference})
        return stripped

    def _strip_fields(
        self, document: bytes, stripped: Stripped, beside: Mapping[str, Tree] = NO_FIELDS
    ) -> None:
        try:
            with building_values(document):
                tree, _ = self._strip(from_json(document), stripped)
            fields = {name: value for name, value in tree.items() if value is not None}
            stripped.document = to_json({MARK: {**fields, **beside}})
            check_readable(stripped.document, depth=0)
        except ValueError:
            self._forget(number for number, _ in stripped.added)
            raise

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
            self._texts.pop(self._text_of.pop(number, b""), None)
            self.bytes -= self._sizes.pop(number, 0)

    def _strip(self, node: Tree, stripped: Stripped) -> tuple[Tree, int]:
        """Return a node without its large values, and about how many bytes are left of it."""
        if isinstance(node, str):
            return self._strip_text(node, stripped) if len(node) >= LARGE else (node, len(node))
        if isinstance(node, list):
            flat = _measure(node, stripped)
            if flat is not None:
                return node, flat
            items = [self._strip(item, stripped) for item in node]
            return [item for item, _ in items], sum(size for _, size in items) + len(items)
        if not isinstance(node, dict):
            return node, NUMBER_SIZE
        if TAG in node and _is_lone(payload := to_json(node)):
            if len(payload) < LARGE:
                return node, len(payload)
            return {MARK: self._refer(payload, stripped)}, REFERENCE_SIZE
        tree, size = node, _measure(node.values(), stripped)
        if size is None:
            members = {name: self._strip(value, stripped) for name, value in node.items()}
            size = sum(size for _, size in members.values())
            tree = {name: value for name, (value, _) in members.items()}
        size += sum(map(len, node)) + 4 * len(node)
        if MARK in tree:
            tree = {MARK: tree}
        if size >= LARGE and any(key in node for key in ENCODED):
            return {MARK: self._refer(to_json(tree), stripped)}, REFERENCE_SIZE
        return tree, size

    def _strip_text(self, text: str, stripped: Stripped) -> tuple[Tree, int]:
        """Strip a text that holds an encoded value, as engine state is serialized."""
        if not text.startswith('{"'):
            return text, len(text)
        digest = _digest(text.encode(errors="surrogatepass"))
        known = self._texts.get(digest)
        if known is not None:
            number, known_way = known
            stripped.numbers.add(number)
            return {MARK: [{MARK: number}, known_way]}, REFERENCE_SIZE
        try:
            value = from_json(text)
        except ValueError:
            return text, len(text)
        ways = reversed(range(len(WRITTEN)))  # that of today first
        way = next((way for way in ways if WRITTEN[way](value) == text), None)
        if way is None:
            return text, len(text)
        tree, size = self._strip(value, stripped)
        reference = tree.get(MARK)
        if isinstance(reference, int) and reference not in self._text_of:
            self._texts[digest], self._text_of[reference] = (reference, way), digest
        return {MARK: [tree, way]}, size

    def _refer(self, payload: bytes, stripped: Stripped) -> int:
        """Return the number of a payload."""
        return self._refer_to(Payload(payload, _digest(payload)), None, stripped)

    def _refer_to(self, payload: Payload, inner: frozenset[int] | None, stripped: Stripped) -> int:
        """Return the number of a payload; `inner` are those to which it refers, where known."""
        encoded, digest = payload
        number = self._numbers.get(digest)
        if number is None:
            number = self._next
            self._add(number, digest, find_numbers(encoded) if inner is None else inner)
            self._weigh(number, len(encoded))
            stripped.added.append((number, encoded))
        stripped.numbers.add(number)
        return number

    def _weigh(self, number: int, size: int) -> None:
        self._sizes[number] = size
        self.bytes += size

    def _add(self, number: int, digest: bytes, inner: frozenset[int]) -> None:
        self._next = max(self._next, number + 1)
        self._numbers[digest] = number
        self._digests[number] = digest
        if inner:
            self._inner[number] = inner


def make_payload(encoded: bytes) -> Payload | None:
    """Return an encoded value as a payload; None where marks in it would make it too deep."""
    payload = encoded
    if MARK_KEY in encoded:
        try:
            with building_values(encoded):
                payload = to_json(_mark(from_json(encoded)))
                from_json(payload)
        except ValueError:
            return None
    return Payload(payload, _digest(payload))


def _mark(node: Tree) -> Tree:
    """Return data in which what looks like a mark is none."""
    if isinstance(node, list):
        return [_mark(item) for item in node]
    if not isinstance(node, dict):
        return node
    tree = {name: _mark(value) for name, value in node.items()}
    return {MARK: tree} if MARK in tree else tree


def _is_lone(encoded: bytes) -> bool:
    """Return whether an encoded value has nothing in it that is a payload, or is to be marked.

    That takes far less time than to look at each part of a large one. Quotation marks in a text
    follow a backslash, so what is found is a whole key or text, or the end of one.
    """
    return encoded.count(TAG_KEY) == 1 and not any(other in encoded for other in NOT_LONE)


def _measure(values: Collection[Tree], stripped: Stripped) -> int | None:
    """Return about how many bytes values have in which nothing can be large, or None for others."""
    size = _measure_flat(values)
    if size is None and len(values) >= MANY and stripped.looks > 0:
        size = _measure_nested(values, stripped)
    return size


def _measure_flat(values: Collection[Tree]) -> int | None:
    """Return the same for values that hold no others, None for all else."""
    kinds = set(map(type, values))
    if kinds <= _NUMBERS:
        return NUMBER_SIZE * len(values)
    if not kinds <= _FLAT:
        return None
    sizes = [len(value) for value in values if type(value) is str]
    return None if max(sizes) >= LARGE else sum(sizes) + NUMBER_SIZE * len(values)


def _measure_nested(values: Collection[Tree], stripped: Stripped) -> int | None:
    """Return the same for values at any depth, None where as many were looked at as may be.

    They are looked at level by level, which for many small ones is far quicker than one by one.
    """
    level, size = values, 0
    while level:
        stripped.looks -= len(level)
        if stripped.looks < 0:
            return None
        size += NUMBER_SIZE * len(level)
        texts = [len(value) for value in level if type(value) is str]
        dicts = [value for value in level if type(value) is dict]
        marked = [value for value in dicts if not value.keys().isdisjoint(MARKS)]
        if max(texts, default=0) >= LARGE or any(map(_may_be_changed, marked)):
            return None
        size += sum(texts) + sum(map(len, chain.from_iterable(dicts)))
        held = chain.from_iterable(value for value in level if type(value) is list)
        level = [*held, *chain.from_iterable(value.values() for value in dicts)]
    return size


def _may_be_changed(marked: dict[str, Tree]) -> bool:
    """Return whether an object with a mark is written in another way, or large enough for it."""
    return MARK in marked or len(to_json(marked)) >= LARGE


def has_payloads(document: bytes) -> bool:
    """Return whether a document refers to payloads."""
    return document.startswith(HEAD)


def put_back(document: bytes, payloads: Mapping[int, bytes]) -> bytes:
    """Return a document as it was before it was stripped; `PayloadMissing` where it cannot be."""
    if not has_payloads(document):
        return document
    return to_json(_put_back(from_json(document)[MARK], payloads))


def measure_whole(document: bytes, payloads: Mapping[int, bytes]) -> int:
    """Return about how many bytes a document has with its payloads wherever it refers to them."""
    sizes: dict[int, int] = {}

    def measure(number: int) -> int:
        if number not in sizes:
            payload = payloads.get(number, b"")
            sizes[number] = len(payload)
            if MARK_KEY in payload:
                sizes[number] += sum(map(measure, _find_references(from_json(payload))))
        return sizes[number]

    if not has_payloads(document):
        return len(document)
    return len(document) + sum(map(measure, _find_references(from_json(document)[MARK])))


def without_payloads(document: bytes) -> bytes:
    """Return the rest of a document that refers to payloads."""
    return to_json(from_json(document)[MARK])


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
            payload = payloads[number]
            tree = from_json(payload)
            return _put_back(tree, payloads) if MARK_KEY in payload else tree
        case [tree, int(way)]:
            return WRITTEN[way](_put_back(tree, payloads))
        case data:
            return {name: _put_back(value, payloads) for name, value in data.items()}


def _digest(payload: bytes) -> bytes:
    return blake2b(payload, digest_size=DIGEST_SIZE).digest()


def find_numbers(document: bytes) -> frozenset[int]:
    """Return the numbers of the payloads to which a document, or a payload, itself refers."""
    if HEAD not in document:
        return frozenset()
    with building_values(document):
        return frozenset(_find_references(from_json(document)))


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
