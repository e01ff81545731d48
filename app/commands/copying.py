"""`workflow-server copy`: all that one store has, in another."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import click

from workflow_server.app.commands.errors import UsageError
from workflow_server.app.commands.stores import count, hide_password
from workflow_server.stores.backends import open_store
from workflow_server.stores.base import Store
from workflow_server.stores.copying import Copied, Side, compare_runs, copy_runs, count_runs


def copy_store(source: str, target: str, *, compare: bool) -> None:
    """Copy a store into another, or compare the two, and say in one line what both have."""
    for flag, url in (("--from", source), ("--to", target)):
        if url.lower().startswith("memory:"):
            raise UsageError(f"{flag} is {url}, which is gone when its server ends.")
    if source == target:
        raise UsageError(f"--from and --to are the same store, {hide_password(source)}.")
    copied = asyncio.run(_copy(source, target, compare=compare))
    found = f"{count(copied.runs, 'run')} with {count(copied.events, 'event')}"
    before = f", {copied.before:,} of them before" if copied.before else ""
    did = "Compared" if compare else "Copied"
    click.echo(
        f"{did} {found} ({copied.size / 1e6:,.1f} MB){before}; all are the same in"
        f" {hide_password(source)} and {hide_password(target)}."
    )


async def _copy(source: str, target: str, *, compare: bool) -> Copied:
    async with (
        _opened(open_store(source), "--from", source, is_made=False) as from_store,
        _opened(open_store(target), "--to", target, is_made=not compare) as to_store,
    ):
        work = compare_runs if compare else copy_runs
        with click.progressbar(
            length=await count_runs(from_store),
            label="Comparing" if compare else "Copying",
            file=sys.stderr,
            hidden=not sys.stderr.isatty(),
            show_pos=True,
        ) as bar:
            return await work(
                Side(from_store, hide_password(source)),
                Side(to_store, hide_password(target)),
                progress=bar.update,
            )


@asynccontextmanager
async def _opened(store: Store, flag: str, url: str, *, is_made: bool) -> AsyncIterator[Store]:
    """Open a store; `UsageError` where there is none and none is to be made."""
    if not is_made and not await store.exists():
        raise UsageError(f"{flag} is {hide_password(url)}, where there is no store.")
    await store.start()
    try:
        yield store
    finally:
        await store.stop()
