"""`workflow-server openapi`: the document of a server that does not run."""

import json
from collections.abc import Sequence
from pathlib import Path

import click

from workflow_server.app.commands.errors import UsageError
from workflow_server.app.commands.servers import make_server
from workflow_server.app.loader import load_sources
from workflow_server.app.settings import Settings


def write_openapi(sources: Sequence[str], settings: Settings, output: Path | None) -> None:
    """Write the document to a file, or print it."""
    server = make_server(load_sources(sources), settings)
    document = json.dumps(server.openapi_schema(), indent=2, ensure_ascii=False)
    if output is None:
        click.echo(document)
        return
    try:
        output.write_text(document + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"{output} cannot be written ({error.strerror}): give another file with --output."
        ) from error
