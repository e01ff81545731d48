import pytest

from examples.approval import ApprovalRequired, Decided, Decision, Expense, approval

pytestmark = pytest.mark.anyio

EXPENSE = Expense(purpose="Train tickets", amount=240.5)


async def test_the_run_asks_a_person() -> None:
    handler = approval.run(start_event=EXPENSE)

    question = await anext(handler.stream_events())

    assert question == ApprovalRequired(question="Approve 240.50 € for: Train tickets?")
    await handler.cancel_run()


@pytest.mark.parametrize(
    ("decision", "decided"),
    [
        (
            Decision(approved=True, comment="Second class, please"),
            Decided(outcome="approved", purpose="Train tickets", comment="Second class, please"),
        ),
        (
            Decision(approved=False),
            Decided(outcome="rejected", purpose="Train tickets", comment=""),
        ),
    ],
)
async def test_the_answer_decides_about_what_was_asked(
    decision: Decision, decided: Decided
) -> None:
    handler = approval.run(start_event=EXPENSE)
    await anext(handler.stream_events())

    await handler.send_event(decision)

    assert await handler == decided
