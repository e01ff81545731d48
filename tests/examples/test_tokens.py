import pytest

from examples.tokens import Recite, Recited, Token, tokens

pytestmark = pytest.mark.anyio


async def test_each_word_is_an_event_and_the_end_counts_them() -> None:
    handler = tokens.run(start_event=Recite(text="one two  three", delay=0))

    assert [event async for event in handler.stream_events()] == [
        Token(text="one"),
        Token(text="two"),
        Token(text="three"),
        Recited(tokens=3),
    ]


async def test_an_empty_text_ends_at_once() -> None:
    handler = tokens.run(start_event=Recite(text=""))

    assert [event async for event in handler.stream_events()] == [Recited(tokens=0)]


async def test_without_a_text_there_is_one_to_recite() -> None:
    assert await tokens.run(delay=0) == Recited(tokens=10)
