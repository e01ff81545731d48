"""`workflow-server key create`: API keys, shown once."""

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from workflow_server.app.access import Scope
from workflow_server.app.access.issuing import add_key, issue_key, write_document
from workflow_server.app.commands.options import read_duration_of
from workflow_server.app.settings import ENV_PREFIX, Settings


def print_new_key(
    settings: Settings,
    name: str,
    *,
    scopes: Sequence[Scope],
    tenant: str | None,
    expires: str | None,
    file: Path | None,
) -> None:
    """Print a new key, and add its hash to a file where there is one."""
    lifetime = read_duration_of("--expires", expires) if expires is not None else None
    secret, key = issue_key(name, scopes=scopes, tenant=tenant, lifetime=lifetime)
    if file is None and settings.api_keys_file is not None:
        file = Path(settings.api_keys_file)
    if file is not None:
        add_key(file, key)
    click.echo(secret)
    if file is None:
        document = write_document([key], indent=None).strip()
        click.echo(f"To let the key in, set {ENV_PREFIX}API_KEYS={document!r}", err=True)
    if sys.stdout.isatty():
        click.echo("The key is shown this once, and kept nowhere.", err=True)
