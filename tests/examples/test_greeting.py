import pytest
from workflows.errors import WorkflowRuntimeError

from examples.greeting import greeting

pytestmark = pytest.mark.anyio


async def test_somebody_is_greeted_by_name() -> None:
    assert await greeting.run(name="Ada") == "Hello, Ada!"


async def test_nobody_cannot_be_greeted() -> None:
    with pytest.raises(WorkflowRuntimeError, match="start event of type 'Greet'"):
        greeting.run()
