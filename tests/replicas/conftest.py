"""A schema for servers that share it."""

from collections.abc import AsyncIterator

import pytest

from tests.support.postgres import temporary_schema


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """Yield the URL of a schema that is not there yet."""
    async with temporary_schema() as url:
        yield url
