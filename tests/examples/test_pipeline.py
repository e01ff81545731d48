from collections import Counter
from pathlib import Path

import pytest

from examples.pipeline import (
    EXAMPLES,
    WORD,
    Corpus,
    Progress,
    RankedWord,
    Summary,
    pipeline,
    rank_words,
    read_documents,
    split_lines,
)

pytestmark = pytest.mark.anyio

POEM = "The rose is red,\nthe rose is sweet.\nIt's May-time now: 1, 2!"


async def test_the_chunks_of_a_text_are_counted_and_summed_up() -> None:
    assert await pipeline.run(start_event=Corpus(text=POEM, chunks=3)) == Summary(
        documents=["text"],
        chunks=3,
        words=11,
        most_common=[
            RankedWord(word="rose", count=2),
            RankedWord(word="it's", count=1),
            RankedWord(word="may-time", count=1),
            RankedWord(word="sweet", count=1),
        ],
    )


async def test_each_chunk_reports_its_progress_before_the_end() -> None:
    handler = pipeline.run(start_event=Corpus(text=POEM, chunks=2))

    *progress, _ = [event async for event in handler.stream_events()]

    assert sorted(progress, key=lambda event: event.chunk) == [
        Progress(chunk=1, chunks=2, document="text", words=8),
        Progress(chunk=2, chunks=2, document="text", words=3),
    ]


async def test_a_text_without_words_has_an_empty_summary() -> None:
    assert await pipeline.run(start_event=Corpus(text="")) == Summary(
        documents=[], chunks=0, words=0, most_common=[]
    )


async def test_without_a_text_the_documents_at_hand_are_counted() -> None:
    documents = read_documents(EXAMPLES)
    counts = Counter(WORD.findall("\n".join(documents.values()).lower()))

    assert await pipeline.run(start_event=Corpus(chunks=1)) == Summary(
        documents=sorted(documents),
        chunks=len(documents),
        words=counts.total(),
        most_common=rank_words(counts),
    )


def test_the_documents_are_those_of_the_repository(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("Read me.", encoding="utf-8")
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "one.py").write_text("pass", encoding="utf-8")

    assert read_documents(tmp_path / "examples") == {"README.md": "Read me."}


def test_without_a_repository_the_documents_are_the_examples(tmp_path: Path) -> None:
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "one.py").write_text("pass", encoding="utf-8")

    assert read_documents(tmp_path / "examples") == {"one.py": "pass"}


@pytest.mark.parametrize(
    ("chunks", "parts"),
    [
        (1, ["a\nb\nc\nd\ne"]),
        (4, ["a\nb", "c\nd", "e"]),
        (5, ["a", "b", "c", "d", "e"]),
        (9, ["a", "b", "c", "d", "e"]),
    ],
)
def test_a_text_is_cut_between_lines_into_at_most_so_many_chunks(
    chunks: int, parts: list[str]
) -> None:
    assert split_lines("a\nb\nc\nd\ne\n", chunks) == parts
