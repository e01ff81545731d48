import json

import pytest
from workflows import Context

from examples.conversation import Message, Reply, conversation

pytestmark = pytest.mark.anyio


async def test_the_first_message_has_nothing_before_it() -> None:
    assert await conversation.run(start_event=Message(message="I am Ada.")) == Reply(
        turn=1, message="I am Ada.", said_before=[]
    )


async def test_a_run_remembers_the_runs_before_it() -> None:
    first = conversation.run(start_event=Message(message="I am Ada."))
    await first

    second = conversation.run(ctx=first.ctx, start_event=Message(message="Who am I?"))

    assert await second == Reply(turn=2, message="Who am I?", said_before=["I am Ada."])


async def test_what_was_said_survives_as_json() -> None:
    first = conversation.run(start_event=Message(message="I am Ada."))
    await first
    stored = json.dumps(first.ctx.to_dict())

    ctx = Context.from_dict(conversation, json.loads(stored))
    second = conversation.run(ctx=ctx, start_event=Message(message="Who am I?"))

    assert await second == Reply(turn=2, message="Who am I?", said_before=["I am Ada."])


async def test_two_conversations_know_nothing_of_each_other() -> None:
    await conversation.run(start_event=Message(message="I am Ada."))

    assert await conversation.run(start_event=Message(message="Who am I?")) == Reply(
        turn=1, message="Who am I?", said_before=[]
    )
