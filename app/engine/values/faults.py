"""Faults of values: one that would not come back as it is, and one that cannot be read back."""

from pydantic import ValidationError

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


def explain(error: BaseException) -> str:
    """Return what an exception says of a class to which a stored value does not fit.

    What pydantic quotes of the value is left out.
    """
    if isinstance(error, NotReadable):
        return str(error).rstrip(".")
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        cause = first.get("ctx", {}).get("error")
        if isinstance(cause, NotReadable):
            return explain(cause)  # that a validator of the engine has wrapped
        place = ".".join(map(str, first["loc"]))
        return f"{error.title} does not take it ({f'{place}: ' if place else ''}{first['msg']})"
    try:
        message = str(error).partition("\n")[0]
    except Exception:  # noqa: BLE001  # the exception is the user's, and its `__str__` may raise anything
        message = ""
    return f"{type(error).__name__}: {message}" if message else type(error).__name__
