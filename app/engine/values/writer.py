"""Writer: values to trees of what JSON has, with tags for what it lacks.

A tree is a str, bool, None, int, finite float, list, or dict with keys of str alone. A dict with
the key `!` is a tag: its kind, and what belongs to it. A dict of the data's that has such a key is
written as a tag itself, so that no data can forge one. Trees share their parts with the values
that they were made of: they are turned into bytes at once.
"""

from collections.abc import Callable, Iterable, Mapping
from math import isfinite
from typing import Any

from workflow_server.app.engine.values.classes import Classes
from workflow_server.app.engine.values.faults import NotFaithful, name_of
from workflow_server.app.engine.values.leaves import FLOAT, INT, LEAVES, TEXT, Leaf

Tree = Any
Write = Callable[[Any, int], Tree]
Members = Mapping[str, Any]

TAG = "!"
MAX_DEPTH = 180  # of JSON in itself, where 200 levels are read
LARGE = 1 << 4096  # integers from here on are written as text: JSON is read up to 4,300 digits
SMALL = -LARGE
_ATOMS = frozenset({str, bool, type(None)})
_TEXT_ALONE = {str}


class Writer:
    """Writes values as trees, and keeps how the values of a class are written.

    `find` returns that for a class of which it is not known yet, and keeps it in `known`. `read`
    makes a value of a tree again, to try the way back. A `careful` writer looks into every text for
    what JSON cannot carry.
    """

    def __init__(
        self,
        classes: Classes,
        find: Callable[["Writer", type], Write],
        read: Callable[[Tree], Any],
        *,
        careful: bool = False,
    ) -> None:
        self.classes = classes
        self.read = read
        self.known: dict[type, Write] = {
            **{cls: _leaf_writer(leaf) for cls, leaf in LEAVES.items()},
            list: self._write_list,
            dict: self.write_dict,
            int: _write_int,
            float: _write_float,
        }
        self._find = find
        self._atoms = _ATOMS
        if careful:
            self._atoms = _ATOMS - {str}
            self.known[str] = _write_text

    def write(self, value: Any, depth: int = 0) -> Tree:
        """Return a value's tree; `NotFaithful` where it would not come back as it is."""
        cls = type(value)
        if cls in self._atoms:
            return value
        if depth > MAX_DEPTH:
            raise NotFaithful("it is nested too deeply, or holds itself")
        writer = self.known.get(cls) or self._find(self, cls)
        return writer(value, depth)

    def write_root(self, value: Any, depth: int = 0) -> Tree:
        """Return a value's tree; places in it start at its class."""
        try:
            return self.write(value, depth)
        except NotFaithful as fault:
            fault.add_step(name_of(type(value)))
            raise

    def write_dict(self, value: dict[Any, Any], depth: int) -> Tree:
        """Return the tree of a dict."""
        if TAG in value or (value and set(map(type, value)) != _TEXT_ALONE):
            return {TAG: "dict", "v": self.write_pairs(value, depth)}
        if str not in self._atoms and not all(map(_is_clean, value)):
            return {TAG: "dict", "v": self.write_pairs(value, depth)}
        return self._write_named(value, depth, NotFaithful.add_key)

    def write_members(self, members: Members, depth: int) -> Members:
        """Return the trees of an instance's members."""
        return self._write_named(members, depth, _add_member)

    def _write_named(
        self, members: Members, depth: int, add_step: Callable[[NotFaithful, str], None]
    ) -> Members:
        """Return the trees of members; the same object where JSON has all of it."""
        if TAG in members:
            raise NotFaithful(f"it has an attribute named {TAG}")
        changed: dict[str, Tree] | None = None
        atoms, name = self._atoms, ""
        try:
            for name, member in members.items():
                kind = type(member)
                if kind in atoms or (kind is int and SMALL < member < LARGE):
                    continue
                written = self.write(member, depth + 1)
                if written is not member:
                    changed = dict(members) if changed is None else changed
                    changed[name] = written
        except NotFaithful as fault:
            add_step(fault, name)
            raise
        return members if changed is None else changed

    def write_items(self, values: Iterable[Any], depth: int) -> list[Tree]:
        """Return the trees of values in a tag."""
        items: list[Tree] = []
        try:
            for item in values:
                items.append(self.write(item, depth + 2))  # noqa: PERF401  # the index is a place
        except NotFaithful as fault:
            fault.add_step(f"[{len(items)}]")
            raise
        return items

    def write_pairs(self, value: Mapping[Any, Any], depth: int) -> list[list[Tree]]:
        """Return the trees of keys and values in a tag."""
        check_apart(value)
        pairs: list[list[Tree]] = []
        key: Any = None
        try:
            for key, item in value.items():
                pairs.append([self.write(key, depth + 3), self.write(item, depth + 3)])
        except NotFaithful as fault:
            fault.add_key(key)
            raise
        return pairs

    def _is_plain(self, value: list[Any]) -> bool:
        """Return whether a list holds what JSON has, of few classes, without a look at each."""
        kinds = set(map(type, value))
        if kinds <= self._atoms:
            return True
        if kinds == {int}:
            return _is_small(value)
        return kinds == {float} and all(map(isfinite, value))

    def _write_list(self, value: list[Any], depth: int) -> Tree:
        if self._is_plain(value):
            return value
        changed: list[Tree] | None = None
        index = -1
        try:
            for index, item in enumerate(value):
                written = self.write(item, depth + 1)
                if written is not item:
                    changed = list(value) if changed is None else changed
                    changed[index] = written
        except NotFaithful as fault:
            fault.add_step(f"[{index}]")
            raise
        return value if changed is None else changed


def check_apart(keys: Iterable[Any]) -> None:
    """Raise `NotFaithful` for keys that were changed since, so that two of them are equal now."""
    now = list(keys)
    if len(set(now)) != len(now):
        raise NotFaithful("two of its keys are equal")


def _is_small(numbers: list[int]) -> bool:
    return min(numbers) > SMALL and max(numbers) < LARGE


def _add_member(fault: NotFaithful, name: str) -> None:
    fault.add_step(f".{name}")


def _leaf_writer(leaf: Leaf) -> Write:
    kind, dump = leaf.kind, leaf.dump
    return lambda value, _depth: {TAG: kind, "v": dump(value)}


def _write_int(value: int, _depth: int) -> Tree:
    return value if SMALL < value < LARGE else {TAG: INT.kind, "v": INT.dump(value)}


def _write_float(value: float, _depth: int) -> Tree:
    return value if isfinite(value) else {TAG: FLOAT.kind, "v": FLOAT.dump(value)}


def _write_text(value: str, _depth: int) -> Tree:
    return value if _is_clean(value) else {TAG: TEXT.kind, "v": TEXT.dump(value)}


def _is_clean(text: str) -> bool:
    """Return whether a text has no lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
