"""`workflow-server migrate` and `prune`: stores, and how they are told of."""

import asyncio
import re

import click

from app.commands.options import read_duration_of
from app.handlers.retention import prune_store
from app.settings import Settings
from stores.backends import open_store

PASSWORD = re.compile(r"(?<=:)[^/@][^@]*(?=@)")


def migrate_store(settings: Settings) -> None:
    """Bring the schema up to date, and say so."""
    asyncio.run(_migrate(settings.store))
    click.echo(f"The schema is up to date: {hide_password(settings.store)}")


def prune_handlers(settings: Settings, older_than: str) -> None:
    """Remove the handlers that ended longer ago, and say how many."""
    age = read_duration_of("--older-than", older_than)
    removed = asyncio.run(prune_store(open_store(settings.store), older_than=age))
    click.echo(f"Removed {removed} handler{'' if removed == 1 else 's'}.")


def hide_password(url: str) -> str:
    """Return a URL without the password in it."""
    return PASSWORD.sub("***", url)


def describe_store(server_origin: str | None, store: str) -> str:
    """Say where runs are kept, without the password in a URL."""
    if server_origin is not None:
        return f"Runs are kept as {server_origin} says."
    if store.startswith("memory:"):
        return "Runs are kept in memory, and gone when the server ends; --store keeps them."
    return f"Runs are kept in {hide_password(store)}"


async def _migrate(url: str) -> None:
    store = open_store(url)
    await store.start()
    await store.stop()
