"""Faults of values: one that would not come back as it is, and one that cannot be read back."""

from workflow_server.app.engine.codec import NotSerializable

# Private attributes of the engine's models: undeclared fields, and the result of a stop event.
_STEPS = {"._data": "", "._result": ".result"}

LONGEST_PLACE = 120  # characters; a value that holds itself has an endless one


class NotFaithful(NotSerializable):
    """A value that would not come back as it is; the sentence names its place and its class.

    The place is put together on the way out of the value: each holder puts its step in front. An
    `is_essential` one also counts in a member that would come back as its default.
    """

    def __init__(self, reason: str, *, is_essential: bool = False) -> None:
        super().__init__(reason)
        self.is_essential = is_essential
        self._reason = reason
        self._place = ""

    def add_step(self, step: str) -> None:
        """Put a step in front of the place: `Order`, `.vehicle`, `[0]`."""
        self._place = _STEPS.get(step, step) + self._place

    def add_key(self, key: object) -> None:
        """Put a key in front of the place; one that is no name may be data, and is left out."""
        is_name = isinstance(key, str) and key.isidentifier() and len(key) < LONGEST_PLACE
        self.add_step(f"[{key!r}]" if is_name else "[…]")

    def __str__(self) -> str:
        place = self._place.lstrip(".")
        if len(place) > LONGEST_PLACE:
            place = f"{place[:LONGEST_PLACE]}…"
        return f"{place}: {self._reason}" if place else self._reason


class NotReadable(ValueError):
    """A stored value that does not fit the code; the sentence says what does not."""


def name_of(cls: type) -> str:
    """Return the name of a class, for a sentence."""
    return cls.__qualname__.rpartition(".<locals>.")[2]
