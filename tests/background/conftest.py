"""Servers of each way to do work beside the runs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest

from tests.background.servers import Alone, Servers, Sharing
from tests.support.postgres import temporary_schema
from tests.support.tcp_proxy import tcp_proxy


@asynccontextmanager
async def alone() -> AsyncIterator[Servers]:
    """Yield the servers of a store that is one server's."""
    yield Alone()


@asynccontextmanager
async def sharing() -> AsyncIterator[Servers]:
    """Yield the servers of a store that many share."""
    async with temporary_schema() as url:
        target = urlsplit(url)
        async with tcp_proxy(target.hostname or "", target.port or 5432) as proxy:
            place = f"{target.username}@127.0.0.1:{proxy.port}"
            yield Sharing(url, url.replace(target.netloc, place), proxy)


WAYS = {"alone": alone, "sharing": sharing}


@pytest.fixture(params=WAYS)
async def servers(request: pytest.FixtureRequest) -> AsyncIterator[Servers]:
    """Yield servers of each way, which end with the test."""
    async with WAYS[request.param]() as servers, servers.stack:
        yield servers
