"""Fixtures of the tests of journals and their commits."""

from collections.abc import AsyncIterator

import pytest

from tests.support.stores import ScriptedStore
from workflow_server.app.runs.commit_log import CommitLog


@pytest.fixture
async def log(store: ScriptedStore) -> AsyncIterator[CommitLog]:
    """Yield a commit log, started."""
    log = CommitLog(store, backoff=())
    log.start()
    yield log
    store.open.set()
    await log.stop()
