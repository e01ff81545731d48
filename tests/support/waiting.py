"""Waiting for conditions, never for time."""

import asyncio
from collections.abc import Awaitable, Callable
from inspect import isawaitable

DEADLINE = 10.0
PAUSE = 0.005


async def until(
    condition: Callable[[], bool | Awaitable[bool]], *, within: float = DEADLINE
) -> None:
    """Return once the condition holds; fail when it does not within so many seconds."""
    async with asyncio.timeout(within):
        while not await _holds(condition):  # noqa: ASYNC110  # HTTP has no event
            await asyncio.sleep(PAUSE)


async def _holds(condition: Callable[[], bool | Awaitable[bool]]) -> bool:
    answer = condition()
    return await answer if isawaitable(answer) else answer
