"""The program: its commands and their options.

What a command does is imported when it is called, so that `--help` answers at once.
"""

import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from workflow_server.app.access.principals import Scope
from workflow_server.app.commands.collecting import begin_start
from workflow_server.app.commands.options import (
    SourcesCommand,
    list_options,
    make_option,
    make_sources_argument,
)
from workflow_server.app.settings import ENV_PREFIX, Settings, load_settings

NAME = "workflow-server"


class Program(click.Group):
    """The program, which lists its commands in the order in which they are added."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands."""
        return list(self.commands)


def make_program() -> Program:
    """Return the program with its commands."""
    program = Program(NAME, help="Serve LlamaIndex Workflows over HTTP.")
    click.version_option(package_name=NAME, message="%(version)s", help="Print the version.")(
        program
    )
    sources, store, debug = make_sources_argument(), make_option("store"), make_option("debug")
    program.command(cls=SourcesCommand, params=[sources, *list_options()])(serve)
    program.command(cls=SourcesCommand, params=[sources, _output_option(), debug])(openapi)
    program.command(params=[store, debug])(migrate)
    program.command(params=[_age_option(), store, debug])(prune)
    program.command(params=[*_copy_options(), debug])(copy)
    keys = click.Group("key", help="API keys: who may call the server.")
    keys.command("create", params=[*_key_options(), debug])(create_key)
    program.add_command(keys)
    return program


def serve(sources: tuple[str, ...], **flags: Any) -> None:
    """Serve the workflows in the sources until the process ends."""
    begin_start()
    given = _drop_absent(flags)
    with _settings_of(given) as settings:
        from workflow_server.app.commands.serve import serve_sources

        serve_sources(sources, settings, given)


def openapi(sources: tuple[str, ...], output: Path | None, **flags: Any) -> None:
    """Print the OpenAPI document of a server with the workflows in the sources, if any."""
    with _settings_of(flags) as settings:
        from workflow_server.app.commands.openapi import write_openapi

        write_openapi(sources, settings, output)


def migrate(**flags: Any) -> None:
    """Bring a store's schema up to date; `serve` does it by itself when it starts."""
    with _settings_of(flags) as settings:
        from workflow_server.app.commands.stores import migrate_store

        migrate_store(settings)


def prune(older_than: str, **flags: Any) -> None:
    """Remove old ended handlers from a store that no server uses."""
    with _settings_of(flags) as settings:
        from workflow_server.app.commands.stores import prune_handlers

        prune_handlers(settings, older_than)


def copy(source: str, target: str, compare: bool, **flags: Any) -> None:
    """Copy all runs from one store to another, and compare them; no server uses either."""
    with _settings_of(flags):
        from workflow_server.app.commands.copying import copy_store

        copy_store(source, target, compare=compare)


def create_key(debug: bool | None, **answers: Any) -> None:
    """Print a new API key, once, and add its hash to a file of keys."""
    with _settings_of({"debug": debug}) as settings:
        from workflow_server.app.commands.keys import print_new_key

        print_new_key(settings, **answers)


def _output_option() -> click.Option:
    return click.Option(
        ["-o", "--output"],
        type=Path,
        metavar="<path>",
        help="File to write, instead of printing.",
    )


def _age_option() -> click.Option:
    return click.Option(
        ["--older-than"],
        required=True,
        metavar="<str>",
        help="Remove handlers that ended longer ago, such as 12h or 30d.",
    )


def _copy_options() -> list[click.Option]:
    return [
        click.Option(
            ["--from", "source"],
            required=True,
            metavar="<str>",
            help="URL of the store whose runs are copied, such as sqlite:///runs.db.",
        ),
        click.Option(
            ["--to", "target"],
            required=True,
            metavar="<str>",
            help="URL of an empty store, or of one with a copy that was cut off.",
        ),
        click.Option(
            ["--verify-only", "compare"],
            is_flag=True,
            help="Compare the runs of the two stores, and copy none.",
        ),
    ]


def _key_options() -> list[click.Option]:
    return [
        click.Option(
            ["--name"],
            required=True,
            metavar="<str>",
            help="Name of the key, by which it is known and revoked.",
        ),
        click.Option(
            ["--scope", "scopes"],
            type=click.Choice([scope.value for scope in Scope]),
            multiple=True,
            required=True,
            metavar=f"<list[{'|'.join(Scope)}]>",
            help="What it is good for; repeatable. run implies read, admin implies both.",
        ),
        click.Option(["--tenant"], metavar="<str>", help="Owner of all that is done with it."),
        click.Option(
            ["--expires"], metavar="<str>", help="How long it is good, such as 12h or 90d."
        ),
        click.Option(
            ["--file"],
            type=Path,
            metavar="<path>",
            help=f"File to add its hash to. [{ENV_PREFIX}API_KEYS_FILE]",
        ),
    ]


def _drop_absent(flags: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in flags.items() if value not in (None, ())}


@contextmanager
def _settings_of(flags: Mapping[str, Any]) -> Iterator[Settings]:
    """Yield the settings for a command; a user's mistake in it is told in one sentence."""
    debug = bool(flags.get("debug"))
    try:
        settings = load_settings(**_drop_absent(flags))
        debug = settings.debug
        yield settings
    except _list_mistakes() as error:
        if debug:
            traceback.print_exception(error)
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(2) from error


def _list_mistakes() -> tuple[type[Exception], ...]:
    """Return the errors that a user can put right; only asked for when there is one."""
    from workflow_server.app.access import AccessError
    from workflow_server.app.address import AddressError
    from workflow_server.app.commands.errors import UsageError
    from workflow_server.app.loader import LoadError
    from workflow_server.app.settings import SettingsError
    from workflow_server.stores.base import StoreError

    return AccessError, AddressError, LoadError, SettingsError, StoreError, UsageError
