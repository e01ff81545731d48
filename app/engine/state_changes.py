"""Changes of a state: what differs from what was written last, and how that is put in again.

What was written last is kept as trees of what JSON has: lists and dicts are copies, and share the
strings and numbers in them with the state. So most of what is the same is found by identity, many
members in one go; everything else is compared by its type and its JSON. Values that are no tree
themselves are encoded to be compared.

A change is a list, with a path of keys and indexes that begins with the name of a field:

- `["set", path, tree]`, also for a key that is new, which is then the last one,
- `["del", path]`,
- `["splice", path, start, count, trees]`: trees take the place of so many items of a list.
"""

import json
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate, chain, compress, count, islice
from math import isfinite
from operator import is_not, itemgetter
from typing import Any

from workflow_server.app.engine.heavy import MANY as LOOKS
from workflow_server.app.engine.heavy import are_heavy
from workflow_server.app.engine.values.writer import TAG

Tree = Any
Path = list[str | int]
Change = list[Any]
Encode = Callable[[Any], Tree]

ATOMS = frozenset({str, int, float, bool, type(None)})
_SAME = ATOMS - {float}  # which are their own trees, and have one form in JSON
_TEXT = frozenset({str})
_DICT = {dict}
_CONTAINERS = frozenset({list, dict})
NUMBER_SIZE = 8
MANY = 8  # items that are compared as rows
AT_ONCE = 100  # members that are the same, and take as long as a look at one that may not be
LITTLE = 1 << 14  # characters of text in a small change
FEW = 16  # items of a list that are put in beside those that stay, however short it is


def is_flat(members: Sequence[Any]) -> bool:
    """Return whether nothing in these can be changed in place."""
    return ATOMS.issuperset(map(type, members))


def _is_plain(items: list[Any]) -> bool:
    """Return whether a list is its own tree, and nothing in it can be changed in place."""
    kinds = set(map(type, items))
    return kinds <= ATOMS and (float not in kinds or all(map(_is_finite, items)))


def _is_finite(atom: Any) -> bool:
    return type(atom) is not float or isfinite(atom)


def is_named(value: dict[Any, Any]) -> bool:
    """Return whether a dict is its own tree, if its members are: with texts as keys, and no tag."""
    return TAG not in value and _TEXT.issuperset(map(type, value))


class Comparison:
    """Finds the changes between trees that were written and the values that there are now.

    `encode` makes a tree of a value that is none; without it, what is compared are trees already,
    in which a tag is a dict like any other. `grown` is by how many bytes, about, the trees have
    grown. The trees are brought up to date: they are not to be used after an error.
    """

    def __init__(self, encode: Encode | None, changes: list[Change] | None = None) -> None:
        self._encode = encode
        self.changes: list[Change] = [] if changes is None else changes
        self._of_trees = self if encode is None else Comparison(None, self.changes)
        self._grown = 0

    @property
    def grown(self) -> int:
        """By how many bytes, about, the trees have grown."""
        return self._grown + (self._of_trees.grown if self._of_trees is not self else 0)

    def copy(self, value: Any) -> Tree:
        """Return a value as a tree that nothing changes."""
        kind = type(value)
        if kind in ATOMS and self._is_tree(value):
            return value
        if kind is list:
            if _is_plain(value):
                return list(value)
            return [item if type(item) in _SAME else self.copy(item) for item in value]
        if self._encode is None or (kind is dict and is_named(value)):
            return {
                name: member if type(member) in _SAME else self.copy(member)
                for name, member in value.items()
            }
        return json.loads(json.dumps(self._encode(value)))

    def compare(self, old: Tree, new: Any, path: Path) -> Tree:
        """Note what has changed at a path, and return its tree now."""
        if old is new:
            return old
        kind = type(new)
        if not self._is_tree(new):
            return self._of_trees.compare(old, self.copy(new), path)
        if kind is not type(old) or kind in ATOMS:
            return old if self.is_same(old, new) else self.put(path, new, old)
        if kind is list:
            return self._compare_lists(old, new, path)
        return self._compare_dicts(old, new, path)

    def put(self, path: Path, value: Any, *replaced: Tree) -> Tree:
        """Note that a path has a value, and return its tree."""
        tree = self.copy(value)
        self._note(["set", path, tree], [tree], replaced)
        return tree

    def remove(self, path: Path, removed: Tree) -> None:
        """Note that there is nothing at a path any more."""
        self._note(["del", path], (), [removed])

    def _note(self, change: Change, added: Sequence[Tree], removed: Sequence[Tree]) -> None:
        self.changes.append(change)
        self._grown += sum(map(_size_of, added)) - sum(map(_size_of, removed))

    def _is_tree(self, value: Any) -> bool:
        """Return whether a value is its own tree, if its members are."""
        kind = type(value)
        if kind is float:
            return self._encode is None or isfinite(value)
        if kind in ATOMS or kind is list or self._encode is None:
            return True
        return kind is dict and is_named(value)

    def is_same(self, old: Tree, new: Any) -> bool:
        """Return whether a value has this tree."""
        if old is new:
            return True
        if not self._is_tree(new):
            return self._of_trees.is_same(old, self.copy(new))
        kind = type(new)
        if kind is not type(old):
            return False
        if kind is float:
            return repr(old) == repr(new)  # of -0.0 and 0.0, and of NaN
        if kind in ATOMS:
            return bool(old == new)
        if len(old) != len(new):
            return False
        if kind is dict:
            return list(old) == list(new) and self._are_same(list(old.values()), new.values())
        return self._are_same(old, new)

    def _are_same(self, old: list[Tree], new: Any) -> bool:
        members = new if isinstance(new, list) else list(new)
        others = compress(range(len(old)), map(is_not, old, members))
        for index in others:
            before, now = old[index], members[index]
            if type(now) in _SAME:
                # Without a call, of which a large state would take as many as it has parts.
                if type(before) is not type(now) or before != now:
                    return False
            elif not self.is_same(before, now):
                return False
        return True

    def _compare_dicts(self, old: dict[str, Tree], new: dict[str, Any], path: Path) -> Tree:
        names = list(old)
        if list(islice(new, len(names))) != names:
            left = [name for name in names if name in new]
            if [*left, *(name for name in new if name not in old)] != list(new):
                return self.put(path, new, old)  # its members are in another order
            for name in names:
                if name not in new:
                    self.remove([*path, name], old.pop(name))
        names, members = list(old), list(islice(new.values(), len(old)))
        for index in list(compress(range(len(names)), map(is_not, old.values(), members))):
            name = names[index]
            old[name] = self.compare(old[name], members[index], [*path, name])
        for name in islice(new, len(names), None):
            old[name] = self.put([*path, name], new[name])
        return old

    def _compare_lists(self, old: list[Tree], new: list[Any], path: Path) -> Tree:
        different = self._find_different(old, new)
        if len(old) == len(new):
            return self._compare_items(old, new, path, different)
        first = different[0] if different else min(len(old), len(new))
        if first == len(old):
            return self._splice(old, path, first, 0, new[first:])
        last = self._count_same(old[first:][::-1], new[first:][::-1])
        few, added = FEW + len(new) // 8, new[first : len(new) - last]
        if len(added) <= few:
            return self._splice(old, path, first, len(old) - first - last, added)
        if 0 < len(new) - len(old) <= few and not _are_most(different, old):
            tree = self._compare_items(old, new, path, different)
            return self._splice(tree, path, len(old), 0, new[len(old) :])
        return self._move(old, new, path)

    def _count_same(self, old: list[Tree], new: list[Any]) -> int:
        """Return how many items are the same, from the first on."""
        different = self._find_different(old, new)
        return different[0] if different else min(len(old), len(new))

    def _find_different(self, old: list[Tree], new: list[Any]) -> list[int]:
        """Return the indexes of the items that are not the same, where both have one."""
        others = list(compress(range(min(len(old), len(new))), map(is_not, old, new)))
        if len(others) > MANY:
            others = _leave_out_rows(others, old, new)
        return [index for index in others if not self.is_same(old[index], new[index])]

    def _compare_items(
        self, old: list[Tree], new: list[Any], path: Path, different: list[int]
    ) -> Tree:
        """Compare the items of lists one by one, where `different` ones are not the same.

        The new list may be longer, unless most are different: its other items are left out.
        """
        if _are_most(different, old):
            return self.put(path, new, old)
        for index in different:
            old[index] = self.compare(old[index], new[index], [*path, index])
        return old

    def _move(self, old: list[Tree], new: list[Any], path: Path) -> Tree:
        """Compare lists of which one has lost its first items, and may have others at its end."""
        gone = next((at for at, item in enumerate(old) if new and self.is_same(item, new[0])), 0)
        kept = len(old) - gone
        if gone and self._count_same(old[gone:], new) == kept:
            self._splice(old, path, 0, gone, [])
            return self._splice(old, path, kept, 0, new[kept:])
        return self.put(path, new, old)

    def _splice(
        self, old: list[Tree], path: Path, start: int, count: int, items: list[Any]
    ) -> Tree:
        trees = [self.copy(item) for item in items]
        self._note(["splice", path, start, count, trees], trees, old[start : start + count])
        old[start : start + count] = trees
        return old


def are_small_changes(pairs: Sequence[tuple[Tree, Any]]) -> bool:
    """Return whether little is to be written of what has changed from trees to the values now.

    Few of the values are looked at: what is the same object is passed over, many in one go.
    """
    look = _Look()
    for old, new in pairs:
        look.finds_difference(old, new)
    return look.left >= 0 and not are_heavy(look.changed, size=LITTLE)


class _Look:
    """Gathers what `Comparison` is going to write, or to measure, in `changed`.

    That is all of a list, or of a dict, where too much of it differs. Beyond what may be looked at
    `left` is less than 0, and `changed` is not complete.
    """

    def __init__(self) -> None:
        self.left = LOOKS * AT_ONCE
        self.changed: list[Any] = []

    def finds_difference(self, old: Tree, new: Any) -> bool:
        """Return whether a tree and a value may differ."""
        kind = type(new)
        if kind is not type(old) or kind not in _CONTAINERS:
            if type(old) is kind and kind in _SAME and old == new:
                return False
            return self._take(old, new)
        self.left -= max(len(old), len(new))
        if self.left < 0:
            return True
        if kind is dict and list(islice(new, len(old))) != list(old):
            return self._take(old, new)
        olds, news = (old, new) if kind is list else (list(old.values()), list(new.values()))
        pairs = list(compress(zip(olds, news, strict=False), map(is_not, olds, news)))
        self.left -= AT_ONCE * len(pairs)
        if self.left < 0:
            return True
        different = [pair for pair in pairs if self.finds_difference(*pair)]
        grown = len(news) - len(olds)
        if kind is list and different and (_are_most(different, old) or not 0 <= grown <= FEW):
            return self._take(old, new)
        self.changed += news[len(olds) :] + olds[len(news) :]
        return bool(different or grown)

    def _take(self, old: Tree, new: Any) -> bool:
        self.changed += (old, new)
        return True


def _are_most(different: Sequence[Any], items: Sequence[Tree]) -> bool:
    return len(different) > FEW + len(items) // 2


def _leave_out_rows(others: list[int], old: list[Tree], new: list[Any]) -> list[int]:
    """Leave out indexes of dicts in lists that have the same keys and the same atoms.

    Many rows are compared at once, in which no line of Python is carried out for each.
    """
    pick = itemgetter(*others)
    olds, news = pick(old), pick(new)
    sizes = list(map(len, olds)) if set(map(type, olds)) == _DICT == set(map(type, news)) else []
    if not sizes or sizes != list(map(len, news)):
        return others
    keys = list(chain.from_iterable(olds))
    if TAG in keys or keys != list(chain.from_iterable(news)):
        return others
    values, members = (chain.from_iterable(map(dict.values, rows)) for rows in (olds, news))
    ends, left = list(accumulate(sizes)), dict[int, None]()
    for place in compress(count(), map(is_not, values, members)):
        left[others[bisect_right(ends, place)]] = None
    return list(left)


def _size_of(tree: Tree) -> int:
    if isinstance(tree, str):
        return len(tree) + 4  # its quotes, and what parts it from the next
    return len(json.dumps(tree)) if isinstance(tree, list | dict) else NUMBER_SIZE


def apply_changes(fields: dict[str, Tree], changes: Sequence[Change]) -> None:
    """Put changes into the fields that they were found in."""
    for kind, path, *rest in changes:
        node: Any = fields
        for step in path[:-1]:
            node = node[step]
        last = path[-1]
        match kind:
            case "set":
                node[last] = rest[0]
            case "del":
                del node[last]
            case _:
                start, count, trees = rest
                node[last][start : start + count] = trees
