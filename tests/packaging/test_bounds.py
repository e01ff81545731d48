"""The versions that are locked here, and those that others may have."""

import re
import tomllib

from llama_index.core.llms import ChatMessage
from llama_index.core.memory import ChatMemoryBuffer

from tests.packaging.wheel import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# We build on their inside.
CAPPED = {"llama-index-workflows", "uvicorn"}


def test_a_memory_of_an_agent_is_serialized_with_the_locked_packages() -> None:
    memory = ChatMemoryBuffer.from_defaults(token_limit=100)
    memory.put(ChatMessage(role="user", content="Hello"))
    again = ChatMemoryBuffer.from_string(memory.to_string())
    assert [message.content for message in again.get_all()] == ["Hello"]


def test_others_are_bound_from_above_in_two_packages_only() -> None:
    capped = {re.split(r"[\[<>=]", line)[0] for line in PROJECT["dependencies"] if "<" in line}
    assert capped == CAPPED
