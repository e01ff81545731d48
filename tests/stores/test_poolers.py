"""Postgres through PgBouncer: what works, and what is refused."""

from collections.abc import AsyncIterator

import pytest

from tests.stores.test_conformance import batch_of, make_run
from tests.support.backends import opened_store
from tests.support.pgbouncer import pooled
from tests.support.postgres import connect, schema_of, temporary_schema
from workflow_server.stores.base import StoreError
from workflow_server.stores.postgres import PostgresStore

IGNORES = {"ignore_startup_parameters": "search_path, extra_float_digits"}


@pytest.fixture
async def schemas() -> AsyncIterator[list[str]]:
    """Yield the names of two schemas."""
    async with temporary_schema() as one, temporary_schema() as other:
        yield [schema_of(one), schema_of(other)]


@pytest.mark.parametrize("settings", [{}, IGNORES])
async def test_a_store_works_through_a_pooler_of_sessions(
    schemas: list[str], settings: dict[str, str]
) -> None:
    async with pooled(**settings) as pooler:
        async with opened_store(f"{pooler}?schema={schemas[0]}") as store:
            await store.commit(batch_of(make_run()))
            assert await store.get_run("r") == make_run()
            with pytest.raises(StoreError, match="in use by another process"):
                await PostgresStore(f"{pooler}?schema={schemas[0]}").start()
        async with opened_store(f"{pooler}?schema={schemas[0]}") as store:
            assert await store.get_run("r") == make_run()


@pytest.mark.parametrize("settings", [{}, IGNORES])
async def test_two_schemas_are_apart_through_a_pooler(
    schemas: list[str], settings: dict[str, str]
) -> None:
    async with (
        pooled(**settings) as pooler,
        opened_store(f"{pooler}?schema={schemas[0]}") as one,
        opened_store(f"{pooler}?schema={schemas[1]}") as other,
    ):
        await one.commit(batch_of(make_run()))
        assert await other.get_run("r") is None
        await other.commit(batch_of(make_run("s")))
        assert await one.get_run("s") is None
    async with connect() as database:
        assert await database.fetchval("SELECT to_regclass('public.runs')") is None


async def test_a_pooler_of_transactions_is_refused_with_a_sentence(schemas: list[str]) -> None:
    async with pooled(pool_mode="transaction") as pooler:
        with pytest.raises(
            StoreError,
            match=r"pool_mode=transaction\), and no lock holds .*or start with --replicas",
        ):
            await PostgresStore(f"{pooler}?schema={schemas[0]}").start()
    async with connect() as database:
        assert await database.fetchval("SELECT to_regnamespace($1)", schemas[0]) is None
