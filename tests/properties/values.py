"""Strategies for what the service may meet, and the settings that all properties share."""

import math
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

# The same examples in every run: what fails once fails again, for everyone.
SETTINGS = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

# All that ends a line somewhere: in HTTP, in SSE, in `str.splitlines`, in `bytes.splitlines`.
LINE_BREAKS = "\r\n\v\f\x1c\x1d\x1e\x85\u2028\u2029"
HOSTILE = [
    *LINE_BREAKS,
    "\r\n",
    "\n\n",
    "\0",
    "\ufeff",
    "\ufffe",
    "\ud800",
    "\udfff",
    "\udfff\ud800",
    "\U0010ffff",
    "\ndata: {}\n\n",
    "\nid: 7\n",
    '"',
    "\\",
    ',"qualified_name":',
    '","qualified_name":null}',
    "__is_pydantic",
]

text = st.lists(
    st.sampled_from(HOSTILE) | st.text(st.characters(exclude_categories=()), max_size=8),
    max_size=4,
).map("".join)
numbers = st.integers() | st.integers(10**18, 10**400) | st.floats()


def json_like(strings: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    """Return a strategy for nested values of the kinds that JSON has, and NaN and infinities."""
    return st.recursive(
        st.none() | st.booleans() | numbers | strings,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(strings, inner, max_size=4),
        max_leaves=12,
    )


def objects(strings: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, Any]]:
    """Return a strategy for JSON objects."""
    return st.dictionaries(strings, json_like(strings), max_size=4)


def carried(value: Any) -> Any:
    """Return what is left of a value on the wire: surrogates are replaced, NaN becomes null."""
    match value:
        case float() if not math.isfinite(value):
            return None
        case str():
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case list():
            return [carried(item) for item in value]
        case dict():
            return {carried(key): carried(item) for key, item in value.items()}
        case _:
            return value
