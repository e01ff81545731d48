"""The command line: `workflow-server serve`, `workflow-server openapi`.

What takes long to import is imported where it is needed, so that `--help` answers at once.
"""

import asyncio
import gc
import json
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.access import AccessError, Scope, make_access
from app.access.issuing import add_key, issue_key, write_document
from app.address import AddressError, find_port, is_loopback, show_url
from app.settings import ENV_PREFIX, Settings, SettingsError, load_settings, read_duration

if TYPE_CHECKING:
    from app.loader import LoadedSources
    from app.server import WorkflowServer

# What a server that a user's file makes takes from the command line all the same.
PROCESS_SETTINGS = frozenset({"host", "port", "log_level", "log_format", "debug"})

# Runs make many objects that live as long as a run does: fewer looks at them find as much.
GC_THRESHOLDS = (20_000, 20, 50)

PASSWORD = re.compile(r"(?<=:)[^/@][^@]*(?=@)")


OPEN_WARNING = """
*** WARNING: ANYBODY WHO REACHES {host} MAY START, READ AND CANCEL RUNS. ***
No credentials are configured, and {host} is not an address of this machine alone. Make a key with
`workflow-server key create --name NAME --scope run --file keys.json`, and serve with
`--api-keys keys.json`; or listen on 127.0.0.1 only.
"""


class UsageError(Exception):
    """The command cannot be carried out as it was given; the sentence says what to give."""


def main() -> None:
    """Run the command line, and end the process: with status 2 for a user's mistake."""
    program = typer.Typer(
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    program.callback()(introduce)
    program.command()(serve)
    program.command()(openapi)
    program.command()(migrate)
    program.command()(prune)
    keys = typer.Typer(
        no_args_is_help=True, rich_markup_mode=None, help="API keys: who may call the server."
    )
    keys.command("create")(create_key)
    keys.callback()(_introduce_keys)
    program.add_typer(keys, name="key")
    program()


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(version("workflow-server"))
        raise typer.Exit


def _flag(field: str, name: str | None = None) -> Any:
    """Return the option of a setting, described as the setting is."""
    setting = Settings.model_fields[field]
    value = setting.default
    shown = ",".join(map(str, value)) if isinstance(value, tuple) else value
    default = "" if shown in (None, "") else f"; default: {shown}"
    return typer.Option(
        name or f"--{field.replace('_', '-')}",
        help=f"{setting.description} [{ENV_PREFIX}{field.upper()}{default}]",
        show_default=False,
    )


Sources = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SOURCE...",
        help="A Python file with workflows, a folder of such files, or package.module[:name].",
        show_default=False,
    ),
]
Debug = Annotated[bool | None, _flag("debug")]


def introduce(
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Print the version."
        ),
    ] = False,
) -> None:
    """Serve LlamaIndex Workflows over HTTP."""


# The flags are read from the context, all at once; the parameters declare them.
def serve(
    context: typer.Context,
    sources: Sources = None,
    host: Annotated[str | None, _flag("host")] = None,
    port: Annotated[int | None, _flag("port")] = None,
    store: Annotated[str | None, _flag("store")] = None,
    persistence_backoff: Annotated[str | None, _flag("persistence_backoff")] = None,
    idle_timeout: Annotated[float | None, _flag("idle_timeout")] = None,
    max_resumes: Annotated[int | None, _flag("max_resumes")] = None,
    retention: Annotated[str | None, _flag("retention")] = None,
    sse_heartbeat_interval: Annotated[float | None, _flag("sse_heartbeat_interval")] = None,
    api_keys_file: Annotated[str | None, _flag("api_keys_file", "--api-keys")] = None,
    jwt_issuer: Annotated[str | None, _flag("jwt_issuer")] = None,
    jwt_audience: Annotated[str | None, _flag("jwt_audience")] = None,
    jwt_jwks: Annotated[str | None, _flag("jwt_jwks")] = None,
    jwt_algorithms: Annotated[str | None, _flag("jwt_algorithms")] = None,
    jwt_scopes_claim: Annotated[str | None, _flag("jwt_scopes_claim")] = None,
    jwt_scope_prefix: Annotated[str | None, _flag("jwt_scope_prefix")] = None,
    jwt_tenant_claim: Annotated[str | None, _flag("jwt_tenant_claim")] = None,
    cors_origins: Annotated[list[str] | None, _flag("cors_origins", "--cors-origin")] = None,
    cors_origin_pattern: Annotated[str | None, _flag("cors_origin_pattern")] = None,
    max_body_size: Annotated[int | None, _flag("max_body_size")] = None,
    max_event_size: Annotated[int | None, _flag("max_event_size")] = None,
    max_header_size: Annotated[int | None, _flag("max_header_size")] = None,
    max_connections: Annotated[int | None, _flag("max_connections")] = None,
    client_timeout: Annotated[float | None, _flag("client_timeout")] = None,
    max_runs: Annotated[int | None, _flag("max_runs")] = None,
    max_runs_per_workflow: Annotated[int | None, _flag("max_runs_per_workflow")] = None,
    max_pending_runs: Annotated[int | None, _flag("max_pending_runs")] = None,
    max_streams: Annotated[int | None, _flag("max_streams")] = None,
    max_streams_per_client: Annotated[int | None, _flag("max_streams_per_client")] = None,
    rate_limit: Annotated[float | None, _flag("rate_limit")] = None,
    rate_burst: Annotated[int | None, _flag("rate_burst")] = None,
    max_refusals: Annotated[int | None, _flag("max_refusals")] = None,
    shutdown_timeout: Annotated[float | None, _flag("shutdown_timeout")] = None,
    root_path: Annotated[str | None, _flag("root_path")] = None,
    log_level: Annotated[str | None, _flag("log_level")] = None,
    log_format: Annotated[str | None, _flag("log_format")] = None,
    debug: Debug = None,
) -> None:
    """Serve the workflows in the sources until the process is told to end."""
    given = {name: value for name, value in context.params.items() if value not in (None, [], ())}
    flags = {name: value for name, value in given.items() if name in Settings.model_fields}
    _carry_out(lambda settings: _serve(sources or [], settings, flags), flags)


def openapi(
    sources: Sources = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write, instead of printing.")
    ] = None,
    debug: Debug = None,
) -> None:
    """Print the OpenAPI document of a server with the workflows in the sources, if any."""
    flags = {"debug": debug} if debug is not None else {}
    _carry_out(lambda settings: _write_openapi(sources or [], settings, output), flags)


def migrate(
    store: Annotated[str | None, _flag("store")] = None,
    debug: Debug = None,
) -> None:
    """Bring a store's schema up to date; `serve` does it by itself when it starts."""
    flags = {k: v for k, v in {"store": store, "debug": debug}.items() if v is not None}
    _carry_out(lambda settings: asyncio.run(_migrate(settings)), flags)


def prune(
    older_than: Annotated[
        str, typer.Option(help="Remove handlers that ended longer ago, such as 12h or 30d.")
    ],
    store: Annotated[str | None, _flag("store")] = None,
    debug: Debug = None,
) -> None:
    """Remove old ended handlers from a store that no server uses."""
    flags = {k: v for k, v in {"store": store, "debug": debug}.items() if v is not None}
    _carry_out(lambda settings: asyncio.run(_prune(settings, older_than)), flags)


def _introduce_keys() -> None:
    """API keys: who may call the server."""


def create_key(
    name: Annotated[str, typer.Option(help="Name of the key, by which it is known and revoked.")],
    scope: Annotated[
        list[Scope],
        typer.Option(help="What it is good for; repeatable. run implies read, admin implies both."),
    ],
    tenant: Annotated[
        str | None, typer.Option(help="Owner of all that is done with it.", show_default=False)
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option(help="How long it is good, such as 12h or 90d.", show_default=False),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(help=f"File to add its hash to. [{ENV_PREFIX}API_KEYS_FILE]"),
    ] = None,
    debug: Debug = None,
) -> None:
    """Print a new API key, once, and add its hash to a file of keys."""
    flags = {"debug": debug} if debug is not None else {}
    _carry_out(lambda settings: _create_key(settings, name, scope, tenant, expires, file), flags)


def _create_key(
    settings: Settings,
    name: str,
    scopes: list[Scope],
    tenant: str | None,
    expires: str | None,
    file: Path | None,
) -> None:
    lifetime = _read_duration("--expires", expires) if expires is not None else None
    secret, key = issue_key(name, scopes=scopes, tenant=tenant, lifetime=lifetime)
    if file is None and settings.api_keys_file is not None:
        file = Path(settings.api_keys_file)
    if file is not None:
        add_key(file, key)
    typer.echo(secret)
    if file is None:
        document = write_document([key], indent=None).strip()
        typer.echo(f"To let the key in, set {ENV_PREFIX}API_KEYS={document!r}", err=True)
    if sys.stdout.isatty():
        typer.echo("The key is shown this once, and kept nowhere.", err=True)


async def _migrate(settings: Settings) -> None:
    from stores.backends import open_store

    store = open_store(settings.store)
    await store.start()
    await store.stop()
    typer.echo(f"The schema is up to date: {PASSWORD.sub('***', settings.store)}")


async def _prune(settings: Settings, older_than: str) -> None:
    from app.handlers.retention import prune_store
    from stores.backends import open_store

    age = _read_duration("--older-than", older_than)
    removed = await prune_store(open_store(settings.store), older_than=age)
    typer.echo(f"Removed {removed} handler{'' if removed == 1 else 's'}.")


def _read_duration(flag: str, text: str) -> timedelta:
    try:
        return read_duration(text)
    except ValueError as error:
        raise UsageError(f"{flag} is {text!r}: {error}.") from error


def _carry_out(command: Callable[[Settings], None], flags: dict[str, Any]) -> None:
    """Call a command with the settings; a user's mistake is told in one sentence."""
    from app.loader import LoadError
    from stores.base import StoreError

    debug = bool(flags.get("debug"))
    try:
        settings = load_settings(**flags)
        debug = settings.debug
        command(settings)
    except (AccessError, AddressError, LoadError, SettingsError, StoreError, UsageError) as error:
        if debug:
            traceback.print_exception(error)
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(2) from error


def _serve(sources: list[str], settings: Settings, flags: dict[str, Any]) -> None:
    from app.loader import load_sources
    from app.telemetry.logs import configure_logs
    from app.telemetry.traces import configure_traces

    if not sources:
        raise UsageError(
            "There is nothing to serve: give a .py file, a folder of them, or "
            "package.module[:name], as in `workflow-server serve flows.py`."
        )
    configure_logs(settings.log_level, as_json=settings.log_format == "json")
    # Before the sources are imported: the first process of a container ignores SIGTERM otherwise.
    signal.signal(signal.SIGTERM, _leave_at_once)
    loaded = load_sources(sources)
    if loaded.server is not None:
        _refuse_unheeded(flags, str(loaded.server_origin))
    # After the sources are imported, which may have a tracer provider of their own.
    finish_traces = configure_traces()
    server = _make_server(loaded, settings)
    if server.access is None:
        _refuse_unprotected(loaded, settings)
    settings = settings.model_copy(update={"port": find_port(settings.host, settings.port)})
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, _leave)
    try:
        with asyncio.Runner(loop_factory=_choose_loop()) as runner:
            runner.run(_run_server(server, loaded, settings))
    finally:
        finish_traces()


def _refuse_unheeded(flags: dict[str, Any], origin: str) -> None:
    """Raise `UsageError` for a flag that a server of the user's own does not heed."""
    unheeded = [field for field in flags if field not in PROCESS_SETTINGS]
    if unheeded:
        raise UsageError(
            f"{origin} makes its own WorkflowServer, which no flag for {unheeded[0]} changes: "
            f"leave the flag out, and set {unheeded[0]} in {origin}."
        )


def _refuse_unprotected(loaded: "LoadedSources", settings: Settings) -> None:
    """Raise `UsageError` where a server of the user's own would leave open what is to be closed."""
    if make_access(settings) is not None:
        raise UsageError(
            f"{loaded.server_origin} makes its own WorkflowServer, which the API keys or tokens of"
            " the settings do not protect: give it access=make_access(load_settings()), or take"
            " those settings away."
        )


def _leave(number: int, frame: FrameType | None) -> None:
    # uvicorn raises the signals that ended it again, once it has ended.
    raise SystemExit(0)


def _leave_at_once(number: int, frame: FrameType | None) -> None:
    # Nothing is open yet, and SystemExit would count as a failure of the file being imported.
    os._exit(0)


def _choose_loop() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:  # there is none for Windows
        return asyncio.new_event_loop
    return uvloop.new_event_loop


async def _run_server(
    server: "WorkflowServer", loaded: "LoadedSources", settings: Settings
) -> None:
    """Run a server to its end, and say what it serves once it does."""
    # Started before it listens: a store that cannot be used is told instead of an address.
    await server.start()
    gc.set_threshold(*GC_THRESHOLDS)
    try:
        _announce(server, loaded, settings)
        if server.access is None and not is_loopback(settings.host):
            typer.secho(OPEN_WARNING.format(host=settings.host), err=True, fg="red", bold=True)
        await server.serve(
            settings.host,
            settings.port,
            {
                "log_config": None,
                "log_level": settings.log_level,
                "access_log": settings.log_level == "debug",
            },
        )
    finally:
        await server.stop()


def _announce(server: "WorkflowServer", loaded: "LoadedSources", settings: Settings) -> None:
    """Say what is served, and where: in lines for people, or as an event for programs."""
    from app.telemetry.logs import get_logger

    if settings.log_format == "text":
        typer.echo("\n".join(_describe(server, loaded, settings)))
        return
    get_logger(__name__).info(
        "serving",
        url=show_url(settings.host, settings.port),
        workflows=sorted(server.get_workflows()),
        store=describe_store(loaded.server_origin, settings.store),
    )


def _describe(
    server: "WorkflowServer", loaded: "LoadedSources", settings: Settings
) -> Iterator[str]:
    """Yield the lines that say what is served, and where."""
    url = show_url(settings.host, settings.port)
    origins = {item.name: item.origin for item in loaded.workflows}
    names = sorted(server.get_workflows())
    width = max((len(name) for name in names), default=0)
    yield f"Serving {len(names)} workflow{'' if len(names) == 1 else 's'} on {url}"
    for name in names:
        yield f"  {name:{width}}  {origins.get(name, loaded.server_origin)}"
    yield f"Web page:  {url}/"
    yield f"API pages: {url}/docs and {url}/redoc, made from {url}/openapi.json"
    yield describe_store(loaded.server_origin, settings.store)


def describe_store(server_origin: str | None, store: str) -> str:
    """Say where runs are kept, without the password in a URL."""
    if server_origin is not None:
        return f"Runs are kept as {server_origin} says."
    if store.startswith("memory:"):
        return "Runs are kept in memory, and gone when the server ends; --store keeps them."
    return f"Runs are kept in {PASSWORD.sub('***', store)}"


def _write_openapi(sources: list[str], settings: Settings, output: Path | None) -> None:
    from app.loader import load_sources

    server = _make_server(load_sources(sources), settings)
    document = json.dumps(server.openapi_schema(), indent=2, ensure_ascii=False)
    if output is None:
        typer.echo(document)
        return
    try:
        output.write_text(document + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"{output} cannot be written ({error.strerror}): give another file with --output."
        ) from error


def _make_server(loaded: "LoadedSources", settings: Settings) -> "WorkflowServer":
    """Return the user's own server, or one that is set as the settings say, with the workflows."""
    from app.server import WorkflowServer

    server = loaded.server
    if not isinstance(server, WorkflowServer):
        server = WorkflowServer(
            workflow_store=settings.store,
            persistence_backoff=settings.persistence_backoff,
            idle_timeout=settings.idle_timeout,
            max_resumes=settings.max_resumes,
            retention=settings.retention,
            sse_heartbeat_interval=settings.sse_heartbeat_interval,
            access=make_access(settings),
            cors_origins=settings.cors_origins,
            cors_origin_pattern=settings.cors_origin_pattern,
            limits=settings,
            root_path=settings.root_path,
            shutdown_timeout=settings.shutdown_timeout,
        )
    for item in loaded.workflows:
        with _blaming(item.origin):
            server.add_workflow(item.name, item.workflow)
    return server


@contextmanager
def _blaming(origin: str) -> Iterator[None]:
    """Turn a refusal of a workflow into one that names its file."""
    from workflows.errors import WorkflowValidationError

    try:
        yield
    except (ValueError, WorkflowValidationError) as error:
        raise UsageError(f"{origin} cannot be served: {error}") from error
