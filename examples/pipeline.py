"""A pipeline over real text: split, count in parallel, join.

The first step splits the documents of this repository, or a text of yours, into chunks and returns
them as a list. The engine starts the second step once for each chunk, several at a time; each tells
the event stream what it has done. The third step gets all the counts together and sums them up.
Where the examples stand alone, as in the container, they count their own source files.
"""

import asyncio
import math
import re
from collections import Counter
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field
from workflows import Context, Workflow, step
from workflows.collect import Collect
from workflows.events import Event, StartEvent, StopEvent

EXAMPLES = Path(__file__).parent
DOCUMENTS = ("README.md", "ARCHITECTURE.md", "CHANGELOG.md")
WORD = re.compile(r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*")
RANKED_WORDS = 10
RANKED_LETTERS = 4


class Corpus(StartEvent):
    """What to count, and in how many chunks."""

    text: str | None = Field(
        default=None,
        max_length=200_000,
        description="The text to count; without it, the repository's own documents.",
        examples=["so much depends upon\na red wheel barrow"],
    )
    chunks: int = Field(
        default=4,
        ge=1,
        le=100,
        description="Into how many chunks each document is split, at most.",
        examples=[4],
    )


class Chunk(Event):
    """Some lines of a document, to be counted."""

    number: int
    total: int
    document: str
    text: str


class Counted(Event):
    """How often each word occurs in a chunk."""

    document: str
    counts: dict[str, int]


class Progress(Event):
    """A chunk has been counted; chunks end in any order."""

    chunk: int = Field(description="The number of the chunk, from 1.", examples=[3])
    chunks: int = Field(description="How many chunks there are in all.", examples=[12])
    document: str = Field(description="Where the chunk comes from.", examples=["README.md"])
    words: int = Field(description="How many words it has.", examples=[210])


class RankedWord(BaseModel):
    """A word, and how often it occurs."""

    word: str = Field(description="The word, in lower case.", examples=["workflow"])
    count: int = Field(description="How often it occurs.", examples=[42])


class Summary(StopEvent):
    """The words of all documents together."""

    documents: list[str] = Field(description="What was counted.", examples=[["README.md"]])
    chunks: int = Field(description="How many chunks were counted.", examples=[12])
    words: int = Field(description="How many words there are.", examples=[2520])
    most_common: list[RankedWord] = Field(
        description="The ten most common words of four letters or more, the commonest first.",
        examples=[[{"word": "workflow", "count": 42}]],
    )


class Pipeline(Workflow):
    """Counts the words of documents, in parallel."""

    @step
    async def split(self, ev: Corpus) -> list[Chunk]:
        documents = (
            await asyncio.to_thread(read_documents, EXAMPLES)
            if ev.text is None
            else {"text": ev.text}
        )
        parts = [
            (document, part)
            for document, text in documents.items()
            for part in split_lines(text, ev.chunks)
        ]
        return [
            Chunk(number=number, total=len(parts), document=document, text=part)
            for number, (document, part) in enumerate(parts, start=1)
        ]

    @step
    async def count(self, ctx: Context, ev: Chunk) -> Counted:
        counts = Counter(WORD.findall(ev.text.lower()))
        ctx.write_event_to_stream(
            Progress(chunk=ev.number, chunks=ev.total, document=ev.document, words=counts.total())
        )
        return Counted(document=ev.document, counts=counts)

    @step
    async def summarize(self, counted: Annotated[list[Counted], Collect()]) -> Summary:
        counts: Counter[str] = Counter()
        for ev in counted:
            counts.update(ev.counts)
        return Summary(
            documents=sorted({ev.document for ev in counted}),
            chunks=len(counted),
            words=counts.total(),
            most_common=rank_words(counts),
        )


def read_documents(examples: Path) -> dict[str, str]:
    """Read the repository's documents, or the examples where no repository is around them."""
    documents = [examples.parent / name for name in DOCUMENTS]
    paths = [path for path in documents if path.is_file()] or sorted(examples.glob("*.py"))
    return {path.name: path.read_text(encoding="utf-8") for path in paths}


def split_lines(text: str, chunks: int) -> list[str]:
    """Cut a text between its lines, into at most so many chunks of about the same length."""
    lines = text.splitlines()
    size = max(1, math.ceil(len(lines) / chunks))
    return ["\n".join(lines[start : start + size]) for start in range(0, len(lines), size)]


def rank_words(counts: Counter[str]) -> list[RankedWord]:
    """List the most common of the longer words; words that are as common stand in order."""
    longer = [(word, count) for word, count in counts.items() if len(word) >= RANKED_LETTERS]
    ranked = sorted(longer, key=lambda item: (-item[1], item[0]))
    return [RankedWord(word=word, count=count) for word, count in ranked[:RANKED_WORDS]]


pipeline = Pipeline()
