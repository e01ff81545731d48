"""An agent with a scripted model and a tool that asks a person; and one that remembers."""

from collections.abc import Sequence
from typing import Any

from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent
from llama_index.core.base.llms.types import ToolCallBlock
from llama_index.core.llms import ChatMessage
from llama_index.core.llms.mock import MockFunctionCallingLLM
from llama_index.core.memory import Memory
from workflows import Context, Workflow, step
from workflows.events import HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent


def ask(prefix: str) -> InputRequiredEvent:
    """Return a question, whose text is a field that its class does not declare."""
    return InputRequiredEvent(prefix=prefix)  # type: ignore[call-arg]  # as the engine takes it


def script(messages: Sequence[ChatMessage], **_options: Any) -> ChatMessage:
    """Call the tool once a question, and then say what it returned and what was asked."""
    asked = {message.content for message in messages if message.role == "user"}
    last = messages[-1]
    if last.role == "tool":
        return ChatMessage(role="assistant", content=f"{last.content} to {asked}")
    call = ToolCallBlock(tool_call_id=f"c{len(messages)}", tool_name="approve", tool_kwargs={})
    return ChatMessage(role="assistant", blocks=[call])


async def approve(ctx: Context[Any]) -> str:
    """Ask a person."""
    answer = await ctx.wait_for_event(
        HumanResponseEvent,
        waiter_id="approval",
        waiter_event=ask("Approve?"),
        timeout=None,
    )
    return f"They said {answer.response}"


class Remembers(Workflow):
    """Keeps a `Memory` in the state, over the runs of its handler."""

    @step
    async def listen(self, ctx: Context, ev: StartEvent) -> InputRequiredEvent:
        memory = await ctx.store.get("memory", default=None)
        if memory is None:
            memory = Memory.from_defaults(token_limit=1000, session_id="s")
            await memory.aput(ChatMessage(role="user", content="hello"))
            await ctx.store.set("memory", memory)
        return ask("Go on?")

    @step
    async def tell(self, ctx: Context, ev: HumanResponseEvent) -> StopEvent:
        memory = await ctx.store.get("memory")
        return StopEvent(result=[message.content for message in await memory.aget_all()])


def make_agent() -> AgentWorkflow:
    """Return an agent."""
    return AgentWorkflow(
        agents=[
            FunctionAgent(
                name="A",
                description="a",
                tools=[approve],
                llm=MockFunctionCallingLLM(response_generator=script),
                system_prompt="s",
                streaming=False,
            )
        ],
        timeout=None,
    )


agent = make_agent()
remembers = Remembers(timeout=None)
