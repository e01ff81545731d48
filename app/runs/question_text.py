"""The text of a question, from the event that asks it."""

from typing import Any

from pydantic_core import from_json

from workflow_server.app.engine.waiters import MASKED

MAX_TEXT = 1_000  # characters that the record of a run keeps
TEXT_FIELD = "prefix"  # in which the engine's own examples ask


def find_text(envelope: bytes) -> str | None:
    """Return what a question's event asks: its `prefix`, or else the first text in its fields.

    It is read from the envelope, in which secrets are masked. None where no field is a text.
    """
    value: dict[str, Any] = from_json(envelope)["value"]
    free = value.get("_data")  # where the engine puts fields that no class declares
    fields = {**value, **free} if isinstance(free, dict) else value
    texts = [fields.get(TEXT_FIELD), *fields.values()]
    found = next((text for text in texts if isinstance(text, str) and _says_something(text)), None)
    if found is None or len(found) <= MAX_TEXT:
        return found
    return f"{found[: MAX_TEXT - 1]}…"


def _says_something(text: str) -> bool:
    return bool(text.strip()) and text != MASKED
