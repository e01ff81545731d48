"""A stream of tokens, as a language model would write them.

One step sends each word of a text as an event of its own, with a small pause after each. Whoever
reads the run's event stream sees the words appear one by one, and a typed stop event at the end.
"""

import asyncio

from pydantic import Field
from workflows import Context, Workflow, step
from workflows.events import Event, StartEvent, StopEvent

PROVERB = "Nothing leaves the process before the commit that holds it."


class Recite(StartEvent):
    """A text to recite, and the pace."""

    text: str = Field(
        default=PROVERB,
        max_length=1000,
        description="The text that is streamed word by word.",
        examples=[PROVERB],
    )
    delay: float = Field(
        default=0.1,
        ge=0,
        le=0.5,
        description="The pause after each word, in seconds.",
        examples=[0.1],
    )


class Token(Event):
    """The next word of the text."""

    text: str = Field(description="The word.", examples=["Nothing"])


class Recited(StopEvent):
    """The text has been streamed to its end."""

    tokens: int = Field(description="How many words were streamed.", examples=[10])


class Tokens(Workflow):
    """Streams the words of a text."""

    @step
    async def recite(self, ctx: Context, ev: Recite) -> Recited:
        words = ev.text.split()
        for word in words:
            ctx.write_event_to_stream(Token(text=word))
            await asyncio.sleep(ev.delay)
        return Recited(tokens=len(words))


# The longest text at the slowest pace takes 250 seconds.
tokens = Tokens(timeout=300)
