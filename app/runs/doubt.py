"""Doubt: whether a server may be dead to others that share its store, so that it begins nothing."""

from typing import Protocol


class Doubt(Protocol):
    """A doubt: this server may be dead to others that share the store with it."""

    @property
    def is_in_doubt(self) -> bool:
        """Return whether it may be."""

    async def wait_certain(self) -> None:
        """Return when it is known to be alive, under its old number or a new one."""


class Alone:
    """No doubt, of a server that shares its store with nobody."""

    is_in_doubt = False

    async def wait_certain(self) -> None:
        """Return at once."""
