"""A review of what was retrieved, by a person: nodes and messages in events and in the state."""

from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.schema import Document, NodeRelationship, NodeWithScore, TextNode
from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent


def ask(prefix: str) -> InputRequiredEvent:
    """Return a question, whose text is a field that its class does not declare."""
    return InputRequiredEvent(prefix=prefix)  # type: ignore[call-arg]  # as the engine takes it


class Retrieved(Event):
    nodes: list[NodeWithScore]


class Chat(Event):
    messages: list[ChatMessage]


class Rag(Workflow):
    @step
    async def retrieve(self, ctx: Context, ev: StartEvent) -> Retrieved:
        source = Document(text="all of it", id_="d", metadata={"page": 1})
        node = TextNode(text="a part", id_="n")
        node.relationships[NodeRelationship.SOURCE] = source.as_related_node_info()
        memory = ChatMemoryBuffer.from_defaults(token_limit=1000)
        memory.put(ChatMessage(role="user", content="what was asked"))
        await ctx.store.set("memory", memory)
        await ctx.store.set("sources", {"d": source})
        return Retrieved(nodes=[NodeWithScore(node=node, score=0.5)])

    @step
    async def review(self, ctx: Context, ev: Retrieved) -> StopEvent:
        answer = await ctx.wait_for_event(
            HumanResponseEvent, waiter_event=ask("Use these?"), timeout=None
        )
        memory = await ctx.store.get("memory")
        sources = await ctx.store.get("sources")
        node = ev.nodes[0].node
        assert isinstance(node, TextNode)
        assert isinstance(memory, ChatMemoryBuffer)
        return StopEvent(
            result=[
                answer.response,
                node.get_content(),
                node.source_node.node_id if node.source_node else None,
                sources["d"].metadata,
                [message.content for message in memory.get_all()],
            ]
        )


class Images(Workflow):
    @step
    async def prepare(self, ev: StartEvent) -> Chat:
        blocks = [
            TextBlock(text="look"),
            ImageBlock(image=b"\x89PNG\x00", image_mimetype="image/png"),
        ]
        return Chat(messages=[ChatMessage(role="user", blocks=blocks)])

    @step
    async def review(self, ctx: Context, ev: Chat) -> StopEvent:
        await ctx.wait_for_event(HumanResponseEvent, waiter_event=ask("Use these?"), timeout=None)
        text, image = ev.messages[0].blocks
        assert isinstance(text, TextBlock)
        assert isinstance(image, ImageBlock)
        return StopEvent(result=[text.text, image.resolve_image().read().hex()])


rag = Rag(timeout=None)
images = Images(timeout=None)
