"""Containers of the standard library, beside lists and dicts: how they are written and read."""

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from datetime import datetime, time
from typing import Any

from pydantic_core import to_json

from workflow_server.app.engine.values.classes import Classes
from workflow_server.app.engine.values.faults import NotReadable, explain
from workflow_server.app.engine.values.writer import TAG, Tree, Write, Writer, check_apart

# Makes a value of the tag of its kind, whose parts have been read already.
Load = Callable[[dict[str, Any], Classes], Any]


def find_container_writer(writer: Writer, cls: type) -> Write | None:
    """Return how values of a class are written, or None for one that is not of these."""
    make = _WRITERS.get(cls)
    return None if make is None else make(writer)


def _write_in_order(kind: str) -> Callable[[Writer], Write]:
    return lambda writer: lambda value, depth: {TAG: kind, "v": writer.write_items(value, depth)}


def _write_set(kind: str) -> Callable[[Writer], Write]:
    def make(writer: Writer) -> Write:
        def write(value: Any, depth: int) -> Tree:
            check_apart(value)
            # In an order of their own, so that equal sets are written as the same.
            return {TAG: kind, "v": sorted(writer.write_items(value, depth), key=to_json)}

        return write

    return make


def _write_pairs(kind: str) -> Callable[[Writer], Write]:
    return lambda writer: lambda value, depth: {TAG: kind, "v": writer.write_pairs(value, depth)}


def _write_deque(writer: Writer) -> Write:
    return lambda value, depth: {
        TAG: "deque",
        "v": writer.write_items(value, depth),
        "n": value.maxlen,
    }


def _write_defaultdict(writer: Writer) -> Write:
    def write(value: defaultdict[Any, Any], depth: int) -> Tree:
        make = value.default_factory
        reference = None if make is None else writer.classes.reference(make)
        return {TAG: "defaultdict", "v": writer.write_pairs(value, depth), "c": reference}

    return write


def _write_datetime(writer: Writer) -> Write:
    def write(value: datetime | time, depth: int) -> Tree:
        zone = writer.write(value.tzinfo, depth + 1)
        tree: dict[str, Tree] = {
            TAG: type(value).__name__,
            "v": value.replace(tzinfo=None).isoformat(),
        }
        if zone is not None:
            tree["z"] = zone
        if value.fold:
            tree["n"] = value.fold
        return tree

    return write


def _load_datetime(tag: dict[str, Any], _classes: Classes) -> datetime:
    return datetime.fromisoformat(tag["v"]).replace(tzinfo=tag.get("z"), fold=tag.get("n", 0))


def _load_time(tag: dict[str, Any], _classes: Classes) -> time:
    return time.fromisoformat(tag["v"]).replace(tzinfo=tag.get("z"), fold=tag.get("n", 0))


def _load_defaultdict(tag: dict[str, Any], classes: Classes) -> defaultdict[Any, Any]:
    factory = None if tag["c"] is None else classes.find(tag["c"])
    loaded: defaultdict[Any, Any] = _load_keys(lambda pairs: defaultdict(factory, pairs), tag)
    return loaded


def _load_keys(make: Callable[[list[Any]], Any], tag: dict[str, Any]) -> Any:
    """Return a dict or a set, in which no key has taken the place of another."""
    try:
        loaded = make(tag["v"])
    except BaseException as error:  # the keys are the user's, and may raise anything
        raise NotReadable(f"a key of a {tag[TAG]} raised {explain(error)}") from error
    if len(loaded) != len(tag["v"]):
        raise NotReadable(f"two keys of a {tag[TAG]} are equal now")
    return loaded


def _keyed(make: Callable[[list[Any]], Any]) -> Load:
    return lambda tag, _classes: _load_keys(make, tag)


_WRITERS: dict[type, Callable[[Writer], Write]] = {
    tuple: _write_in_order("tuple"),
    set: _write_set("set"),
    frozenset: _write_set("frozenset"),
    OrderedDict: _write_pairs("ordered"),
    Counter: _write_pairs("counter"),
    deque: _write_deque,
    defaultdict: _write_defaultdict,
    datetime: _write_datetime,
    time: _write_datetime,
}

LOADERS: dict[str, Load] = {
    "dict": _keyed(dict),
    "tuple": lambda tag, _classes: tuple(tag["v"]),
    "set": _keyed(set),
    "frozenset": _keyed(frozenset),
    "ordered": _keyed(OrderedDict),
    "counter": _keyed(lambda pairs: Counter(dict(pairs))),
    "deque": lambda tag, _classes: deque(tag["v"], tag["n"]),
    "defaultdict": _load_defaultdict,
    "datetime": _load_datetime,
    "time": _load_time,
}
