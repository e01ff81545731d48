"""Errors of libraries that patch the event loop, which uvloop does not let them."""

import asyncio
from collections.abc import Iterator

REMEDY = "A library patches the event loop, and uvloop takes no patch: serve with --loop asyncio."
# What nest_asyncio says, what uvloop says once nest_asyncio has patched asyncio, and what libraries
# say that want it patched.
SIGNS = (
    "Can't patch loop of type",
    "this event loop is already running",
    "nest_asyncio",
)


def find_loop_remedy(error: BaseException) -> str:
    """Return what helps against an error of a library that patches the loop; else nothing."""
    try:
        takes_patches = isinstance(asyncio.get_running_loop(), asyncio.BaseEventLoop)
    except RuntimeError:
        takes_patches = True  # no loop runs, so none was in the way
    if takes_patches:
        return ""
    is_told = any(sign in text for text in _list_texts(error) for sign in SIGNS)
    return REMEDY if is_told else ""


def _list_texts(error: BaseException | None) -> Iterator[str]:
    """Yield what an exception says, and what those say that led to it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield " ".join(arg for arg in error.args if isinstance(arg, str))
        error = error.__cause__ or error.__context__
