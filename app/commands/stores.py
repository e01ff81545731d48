"""`workflow-server migrate` and `prune`: stores, and how they are told of."""

import asyncio
import re

import click

from workflow_server.app.commands.options import read_duration_of
from workflow_server.app.handlers.retention import prune_store
from workflow_server.app.settings import Settings
from workflow_server.stores.backends import open_store

# Of a user, up to the last @ before the path, and of the query.
PASSWORD = re.compile(
    r"(//[^:/?]*:)[^/?]*(?=@)"
    r"|([?&](?:(?:ssl)?password|scram_\w+_key|oauth_client_secret)=)[^&]*"
)


def migrate_store(settings: Settings) -> None:
    """Bring the schema up to date, and say so."""
    asyncio.run(_migrate(settings.store))
    click.echo(f"The schema is up to date: {hide_password(settings.store)}")


def prune_handlers(settings: Settings, older_than: str) -> None:
    """Remove the handlers, and the earlier runs of others, that ended longer ago; say how many."""
    age = read_duration_of("--older-than", older_than)
    removed = asyncio.run(prune_store(open_store(settings.store), older_than=age))
    handlers, runs = count(removed.handlers, "handler"), count(removed.runs, "earlier run")
    click.echo(f"Removed {handlers} and {runs} of other handlers.")


def hide_password(url: str) -> str:
    """Return a URL without the password in it."""
    return PASSWORD.sub(r"\1\2***", url)


def describe_store(server_origin: str | None, store: str) -> str:
    """Say where runs are kept, without the password in a URL."""
    if server_origin is not None:
        return f"Runs are kept as {server_origin} says."
    if store.startswith("memory:"):
        return "Runs are kept in memory, and gone when the server ends; --store keeps them."
    return f"Runs are kept in {hide_password(store)}"


def count(number: int, what: str) -> str:
    """Return a number of things with their name."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


async def _migrate(url: str) -> None:
    store = open_store(url)
    await store.start()
    await store.stop()
