"""JSON Patches (RFC 6902), applied as a client would."""

from copy import deepcopy
from typing import Any


def apply_patch(document: Any, patch: list[dict[str, Any]]) -> Any:
    """Return a JSON document after the operations of a patch."""
    root = {"": deepcopy(document)}
    for operation in patch:
        node: Any = root
        *parents, last = [""] + [unescape(part) for part in operation["path"].split("/")[1:]]
        for part in parents:
            node = node[int(part) if isinstance(node, list) else part]
        match operation["op"], node:
            case "remove", list():
                del node[int(last)]
            case "remove", dict():
                del node[last]
            case "add", list():
                node.insert(int(last), operation["value"])
            case "replace", list():
                node[int(last)] = operation["value"]
            case "add" | "replace", dict():
                assert (last in node) is (operation["op"] == "replace"), operation
                node[last] = operation["value"]
            case _:
                raise AssertionError(operation)
    return root[""]


def unescape(part: str) -> str:
    """Return a part of a JSON Pointer as it was before it was escaped."""
    return part.replace("~1", "/").replace("~0", "~")
