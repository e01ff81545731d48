"""A live server of the examples."""

from collections.abc import AsyncIterator

import pytest

from tests.support.examples import make_example_server
from tests.support.live import serving


@pytest.fixture
async def base_url() -> AsyncIterator[str]:
    """Yield the address of a server of all examples."""
    async with serving(make_example_server()) as base_url:
        yield base_url
