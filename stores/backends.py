"""The table of stores: which URL opens which."""

from collections.abc import Callable

from stores.base import Store, StoreError
from stores.memory import MemoryStore

BACKENDS: dict[str, Callable[[str], Store]] = {
    "memory": lambda _url: MemoryStore(),
}


def open_store(url: str) -> Store:
    """Return the store that a URL names, not yet started; `StoreError` for an unknown one."""
    scheme = url.partition(":")[0]
    try:
        make_store = BACKENDS[scheme]
    except KeyError:
        known = ", ".join(f"{name}:" for name in BACKENDS)
        raise StoreError(f"No store is known for '{scheme}:'; known are {known}") from None
    return make_store(url)
