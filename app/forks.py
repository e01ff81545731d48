"""Children that are forked: what keeps the next server from the port or the store stays behind."""

import os
import weakref
from collections.abc import Callable, Iterable


def drop_in_children(find: Callable[[], Iterable[int]]) -> None:
    """Let a child that is forked close the descriptors that a method of an object returns.

    A child that a step forks has all that the server has open, and may outlive it. Their numbers
    stay taken, since the child's copies of their owners close them once more.
    """
    found = weakref.WeakMethod(find)

    def drop() -> None:
        method = found()
        if method is None:
            return
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in method():
            os.dup2(nothing, descriptor, inheritable=False)
        os.close(nothing)

    if hasattr(os, "register_at_fork"):  # there is none for Windows, which does not fork
        os.register_at_fork(after_in_child=drop)
