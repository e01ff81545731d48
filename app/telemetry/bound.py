"""The ids that every record of a context carries: of its request, its handler and its run.

Their variables are named as structlog names its own. So structlog's `merge_contextvars` puts them
into the events of a program or a workflow that uses it, and what is bound with structlog is in our
log; neither needs the other to be installed.
"""

from collections.abc import Mapping
from contextvars import ContextVar, Token, copy_context
from types import EllipsisType

PREFIX = "structlog_"

Variable = ContextVar[str | EllipsisType]

VARIABLES: Mapping[str, Variable] = {
    name: ContextVar(PREFIX + name, default=...) for name in ("request_id", "handler_id", "run_id")
}


def bind_contextvars(**ids: str) -> dict[str, Token[str | EllipsisType]]:
    """Let every record of this context carry the ids; return what takes them back."""
    return {name: VARIABLES[name].set(value) for name, value in ids.items()}


def reset_contextvars(**tokens: Token[str | EllipsisType]) -> None:
    """Let the records carry what they did before."""
    for name, token in tokens.items():
        VARIABLES[name].reset(token)


def merge_contextvars(event: dict[str, object]) -> None:
    """Put what is bound in this context into an event, where the event has nothing of that name."""
    for variable, value in copy_context().items():
        if variable.name.startswith(PREFIX) and value is not ...:
            event.setdefault(variable.name.removeprefix(PREFIX), value)
