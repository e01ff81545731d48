"""Every kind of store, for the tests of the contract that all of them keep."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.backends import FRESH_URLS, opened_store
from workflow_server.stores.base import Store


@pytest.fixture(params=FRESH_URLS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """Yield an empty store of each kind, started."""
    async with FRESH_URLS[request.param](tmp_path) as url, opened_store(url) as store:
        yield store
