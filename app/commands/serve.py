"""`workflow-server serve`: a server from its start to its end."""

import os
import signal
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from workflow_server.app.access import make_access
from workflow_server.app.address import (
    bind_listeners,
    close_listeners,
    is_loopback,
    listen,
    show_url,
)
from workflow_server.app.commands.collecting import collect_seldom
from workflow_server.app.commands.errors import UsageError
from workflow_server.app.commands.loops import choose_loop
from workflow_server.app.commands.process import ServerProcess
from workflow_server.app.commands.servers import make_server
from workflow_server.app.commands.stores import describe_store
from workflow_server.app.loader import LoadedSources, load_sources
from workflow_server.app.settings import ServiceSettings, Settings
from workflow_server.app.telemetry.logs import configure_logs, get_logger
from workflow_server.app.telemetry.traces import configure_traces

if TYPE_CHECKING:
    from workflow_server.app.server import WorkflowServer

logger = get_logger(__name__)

# What a server that a user's file makes takes from the command line all the same.
PROCESS_SETTINGS = frozenset(
    {"host", "port", "loop", "log_level", "log_format", "log_tracebacks", "debug"}
)

OPEN_WARNING = """
*** WARNING: ANYBODY WHO REACHES {host} MAY START, READ AND CANCEL RUNS. ***
No credentials are configured, and {host} is not an address of this machine alone. Make a key with
`workflow-server key create --name NAME --scope run --file keys.json`, and serve with
`--api-keys keys.json`; or listen on 127.0.0.1 only.
"""

UNREACHED = (
    "other servers do not reach this one: give --host, or --advertise-address where another address"
    " leads to it"
)


def serve_sources(sources: Sequence[str], settings: Settings, flags: Mapping[str, Any]) -> None:
    """Serve what the sources hold; `flags` are the settings that were given as such."""
    if not sources:
        raise UsageError(
            "There is nothing to serve: give a .py file, a folder of them, or "
            "package.module[:name], as in `workflow-server serve flows.py`."
        )
    configure_logs(
        settings.log_level,
        as_json=settings.log_format == "json",
        tracebacks=settings.log_tracebacks,
    )
    # Before the sources are imported: the first process of a container ignores SIGTERM otherwise,
    # and a file that raises KeyboardInterrupt has failed.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave_at_once)
    collect_seldom()  # from here on users' modules are imported, which may set it otherwise
    loaded = load_sources(sources)
    if loaded.server is not None:
        _refuse_unheeded(flags, str(loaded.server_origin))
    # After the sources are imported, which may have a tracer provider of their own.
    finish_traces = configure_traces()
    server = make_server(loaded, settings)
    if server.access is None:
        _refuse_unprotected(loaded, settings)
    listeners = bind_listeners(settings.host, settings.port)
    server.lifecycle.address = show_url(settings.host, listeners[0].getsockname()[1])
    grace = server.settings.shutdown_timeout
    process = ServerProcess(choose_loop(settings.loop), grace=grace)
    try:
        process.run(_run_server(server, loaded, settings, listeners, process.ask_to_stop))
    finally:
        close_listeners(listeners)
        finish_traces()
        process.leave()


def _refuse_unheeded(flags: Mapping[str, Any], origin: str) -> None:
    """Raise `UsageError` for a flag that a server of the user's own does not heed."""
    unheeded = [field for field in flags if field not in PROCESS_SETTINGS]
    if unheeded:
        raise UsageError(
            f"{origin} makes its own WorkflowServer, which no flag for {unheeded[0]} changes: "
            f"leave the flag out, and set {unheeded[0]} in {origin}."
        )


def _refuse_unprotected(loaded: LoadedSources, settings: Settings) -> None:
    """Raise `UsageError` where a server of the user's own would leave open what is to be closed."""
    if make_access(settings) is not None:
        raise UsageError(
            f"{loaded.server_origin} makes its own WorkflowServer, which the API keys or tokens of"
            " the settings do not protect: give it access=make_access(load_settings()), or take"
            " those settings away."
        )


def _leave_at_once(number: int, frame: FrameType | None) -> None:
    # Nothing is open yet, and an exception would count as a failure of the file being imported.
    os._exit(0)


async def _run_server(
    server: "WorkflowServer",
    loaded: LoadedSources,
    settings: Settings,
    listeners: Sequence[socket.socket],
    on_signal: Callable[[], None],
) -> None:
    """Run a server to its end, and say what it serves once it does."""
    # Started before it listens: a store that cannot be used is told instead of an address.
    await server.start()
    try:
        listen(listeners, settings.host)
        if server.access is None and not is_loopback(settings.host):
            click.secho(OPEN_WARNING.format(host=settings.host), err=True, fg="red", bold=True)
        if is_out_of_reach(server.settings, settings.host, server.lifecycle.address):
            logger.warning(UNREACHED, address=server.lifecycle.address, host=settings.host)
        _announce(server, loaded, settings, listeners[0].getsockname()[1])
        http = server.make_http_server(
            settings.host,
            settings.port,
            {
                "log_config": None,
                "log_level": settings.log_level,
                "access_log": settings.log_level == "debug",
            },
        )
        http.on_signal = on_signal
        await http.serve(list(listeners))
    finally:
        await server.stop()


def is_out_of_reach(settings: ServiceSettings, host: str, address: str | None) -> bool:
    """Return whether the others are told an address at which nobody listens."""
    if not settings.replicas or settings.advertise_address is not None or address is None:
        return False
    return is_loopback(host) and not is_loopback(urlsplit(address).hostname or "")


def _announce(
    server: "WorkflowServer", loaded: LoadedSources, settings: Settings, port: int
) -> None:
    """Say what is served, and where: in lines for people, or as an event for programs."""
    from workflow_server.routers.ui import find_remedy  # here, as in `make_server`

    remedy, url = find_remedy(), show_url(settings.host, port)
    store = describe_store(loaded.server_origin, settings.store)
    if settings.log_format == "text":
        click.echo("\n".join((*_describe(server, loaded, url, remedy), store)))
        return
    if remedy is not None:
        logger.warning("web UI is not built", remedy=remedy)
    logger.info("serving", url=url, workflows=sorted(server.get_workflows()), store=store)


def _describe(
    server: "WorkflowServer", loaded: LoadedSources, url: str, remedy: str | None
) -> Iterator[str]:
    """Yield the lines that say what is served, and where.

    `remedy` is what to do to get the web UI, where it is not built.
    """
    origins = {item.name: item.origin for item in loaded.workflows}
    names = sorted(server.get_workflows())
    width = max((len(name) for name in names), default=0)
    yield f"Serving {len(names)} workflow{'' if len(names) == 1 else 's'} on {url}"
    for name in names:
        yield f"  {name:{width}}  {origins.get(name, loaded.server_origin)}"
    yield f"Web page:  {url}/" if remedy is None else f"Web page:  not built; {remedy}"
    yield f"API pages: {url}/docs and {url}/redoc, made from {url}/openapi.json"
