"""What app/http takes of uvicorn's inside is as app/http needs it.

Little of it is documented, and any release may change it. `TAKEN` is all of it; what it does when
it is there is tested in `test_connections` and `test_shutdown`.
"""

import ast
import asyncio
import inspect
import socket
import sys
from collections import defaultdict, deque
from pathlib import Path
from types import MethodType, ModuleType, UnionType
from typing import Any, NamedTuple

import pytest
import uvicorn
from httptools import HTTPProtocol, HttpRequestParser
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from workflow_server.app.http.connections import Connection, HttpServer

ROOT = Path(__file__).parents[2]
HTTP = ROOT / "app" / "http"
MODULES = (
    "httptools.parser.protocol",
    "uvicorn.config",
    "uvicorn.protocols.http.flow_control",
    "uvicorn.protocols.http.httptools_impl",
    "uvicorn.server",
)
KEPT = asyncio.TimerHandle | None


class Taken(NamedTuple):
    """A thing of uvicorn's, what is expected of it, and what it is taken for."""

    owner: type
    name: str
    expected: str | type | UnionType  # the head of a method, or what an attribute holds
    taken_for: str


TAKEN = [
    # The methods that app/http has its own of.
    Taken(uvicorn.Server, "on_tick", "async def (counter)", "to look after slow clients"),
    Taken(uvicorn.Server, "shutdown", "async def (sockets)", "to accept whoever has connected"),
    Taken(uvicorn.Server, "handle_exit", "def (sig, frame)", "to drain before the end"),
    Taken(HttpToolsProtocol, "connection_made", "def (transport)", "to bound the connections"),
    Taken(HttpToolsProtocol, "connection_lost", "def (exc)", "to tell each request"),
    Taken(HttpToolsProtocol, "data_received", "def (data)", "to measure heads"),
    Taken(HttpToolsProtocol, "pause_writing", "def ()", "to know who takes no answer"),
    Taken(HttpToolsProtocol, "resume_writing", "def ()", "to know who takes it again"),
    Taken(HttpToolsProtocol, "on_headers_complete", "def ()", "to refuse large heads"),
    Taken(HttpToolsProtocol, "on_body", "def (body)", "to tell bodies from heads"),
    Taken(HttpToolsProtocol, "on_message_complete", "def ()", "to read bodies of upgrades"),
    Taken(HttpToolsProtocol, "on_response_complete", "def ()", "to read no more than is answered"),
    Taken(HttpToolsProtocol, "shutdown", "def ()", "to let a request come that is on its way"),
    Taken(HttpToolsProtocol, "_start_asgi_task", "def (cycle, app)", "to know what is served"),
    Taken(HTTPProtocol, "on_headers_complete", "def ()", "as uvicorn's"),
    Taken(HTTPProtocol, "on_body", "def (body)", "as uvicorn's"),
    Taken(HTTPProtocol, "on_message_complete", "def ()", "as uvicorn's"),
    Taken(HTTPProtocol, "on_chunk_complete", "def ()", "to tell chunks from heads"),
    # The attributes.
    Taken(uvicorn.Server, "config", uvicorn.Config, "the class of connections"),
    Taken(uvicorn.Server, "server_state", ServerState, "the connections"),
    Taken(uvicorn.Server, "servers", list, "the listeners"),
    Taken(uvicorn.Config, "http_protocol_class", type, "the class of connections"),
    Taken(uvicorn.Config, "workers", int, "to refuse several"),
    Taken(uvicorn.Config, "should_reload", bool, "to know that there is one worker only"),
    Taken(ServerState, "connections", set, "the connections"),
    Taken(ServerState, "default_headers", list, "headers that refusals have too"),
    Taken(HttpToolsProtocol, "server_state", ServerState, "headers that refusals have too"),
    Taken(HttpToolsProtocol, "connections", set, "how many there are"),
    Taken(HttpToolsProtocol, "loop", asyncio.AbstractEventLoop, "the clock, and later calls"),
    Taken(HttpToolsProtocol, "transport", asyncio.Transport, "to refuse and to close"),
    Taken(HttpToolsProtocol, "flow", FlowControl, "whether the server reads"),
    Taken(HttpToolsProtocol, "cycle", RequestResponseCycle, "the request and its answer"),
    Taken(HttpToolsProtocol, "url", bytes, "a part of the head"),
    Taken(HttpToolsProtocol, "headers", list, "a part of the head"),
    Taken(HttpToolsProtocol, "timeout_keep_alive_task", KEPT, "whether no request is expected"),
    Taken(
        HttpToolsProtocol, "_unset_keepalive_if_required", MethodType, "to parse as uvicorn does"
    ),
    Taken(HttpToolsProtocol, "parser", HttpRequestParser, "to read the bodies of upgrades"),
    Taken(HttpToolsProtocol, "pipeline", deque, "the requests that wait for others"),
    Taken(HttpToolsProtocol, "scope", dict, "the version of a request"),
    Taken(HttpToolsProtocol, "expect_100_continue", bool, "whether a client waits with its body"),
    Taken(FlowControl, "pause_reading", MethodType, "to read no more than is answered"),
    Taken(FlowControl, "read_paused", bool, "whether the client is waited for"),
    Taken(RequestResponseCycle, "disconnected", bool, "to tell a request of a hang-up"),
    Taken(RequestResponseCycle, "message_event", asyncio.Event, "to tell a request of a hang-up"),
    Taken(RequestResponseCycle, "more_body", bool, "whether the client owes a body"),
    Taken(RequestResponseCycle, "response_started", bool, "whether a refusal comes too late"),
    Taken(RequestResponseCycle, "response_complete", bool, "whether a request is answered"),
    Taken(RequestResponseCycle, "send", MethodType, "to answer without chunks"),
    Taken(RequestResponseCycle, "chunked_encoding", bool | None, "to answer without chunks"),
    Taken(RequestResponseCycle, "expected_content_length", int, "to answer without chunks"),
    Taken(RequestResponseCycle, "waiting_for_100_continue", bool, "whether a body may not come"),
    Taken(RequestResponseCycle, "keep_alive", bool, "to end the connection with the answer"),
]
METHODS = [taken for taken in TAKEN if isinstance(taken.expected, str)]
ATTRIBUTES = [taken for taken in TAKEN if not isinstance(taken.expected, str)]
# What has a name of uvicorn's and is of somebody else.
OTHERS = {"response.body", "drain", "self._stopping.drain"}


@pytest.fixture(scope="module")
def held() -> dict[str, object]:
    """Return what each attribute holds while half of a request has arrived."""
    return asyncio.run(hold_half_a_request())


async def hold_half_a_request() -> dict[str, object]:
    made: list[HttpToolsProtocol] = []
    arrived = asyncio.Event()

    class Seen(HttpToolsProtocol):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            made.append(self)

    async def wait_for_the_rest(scope: Scope, receive: Receive, send: Send) -> None:
        arrived.set()
        while (await receive())["type"] != "http.disconnect":
            pass

    config = uvicorn.Config(
        wait_for_the_rest, http=Seen, ws="none", lifespan="off", log_config=None
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        _, writer = await asyncio.open_connection(*address)
        writer.write(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\n1")
        async with asyncio.timeout(10):
            await arrived.wait()
        connection = made[0]
        instances = {
            uvicorn.Server: server,
            uvicorn.Config: config,
            ServerState: server.server_state,
            HttpToolsProtocol: connection,
            FlowControl: getattr(connection, "flow", None),
            RequestResponseCycle: getattr(connection, "cycle", None),
        }
        found = {
            name_of(taken): getattr(instances[taken.owner], taken.name)
            for taken in ATTRIBUTES
            if hasattr(instances[taken.owner], taken.name)
        }
        writer.close()
        server.should_exit = True
        await serving
    return found


def name_of(taken: Taken) -> str:
    return f"{taken.owner.__name__}.{taken.name}"


def tell(taken: Taken, found: object) -> str:
    """Return what to look at when a thing is not as expected."""
    users = ", ".join(sorted(list_uses()[taken.name]))
    expected = f"expected {taken.expected}, found {found}"
    return f"{name_of(taken)}: {expected}; why: {taken.taken_for}; by: {users}"


def list_uses() -> dict[str, set[str]]:
    """Return each name that app/http takes of an object or gives to a method, and where."""
    uses = defaultdict(set)
    for file in sorted(HTTP.glob("*.py")):
        module = ast.parse(file.read_bytes())
        places = {
            inner: node.name
            for node in ast.walk(module)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            for inner in ast.walk(node)
        }
        for node in ast.walk(module):
            match node:
                case ast.Attribute(attr=name):
                    text = ast.unparse(node)
                case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                    text = name
                case _:
                    continue
            if text not in OTHERS:
                uses[name].add(f"{file.stem}.{places.get(node, '')}")
    return uses


def find_head(owner: type, name: str) -> str | None:
    """Return the head of a method as it is written: sse-starlette replaces one of them."""
    for node in ast.walk(ast.parse(inspect.getsource(owner))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
            kind = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
            return f"{kind} ({', '.join(argument.arg for argument in node.args.args[1:])})"
    return None


def list_members(module: ModuleType) -> set[str]:
    """Return the names of all methods and attributes of a module's classes."""
    names = set()
    for owner in ast.parse(inspect.getsource(module)).body:
        for node in ast.walk(owner) if isinstance(owner, ast.ClassDef) else ():
            match node:
                case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                    names.add(name)
                case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                    names.add(name)
    return {name for name in names if not name.startswith("__")}


@pytest.mark.parametrize("taken", METHODS, ids=name_of)
def test_a_method_that_is_overridden_takes_what_it_took(taken: Taken) -> None:
    head = find_head(taken.owner, taken.name)
    assert head == taken.expected, tell(taken, head)


@pytest.mark.parametrize("taken", ATTRIBUTES, ids=name_of)
def test_an_attribute_that_is_read_holds_what_it_held(
    taken: Taken, held: dict[str, object]
) -> None:
    found = held.get(name_of(taken), "nothing")
    fits = isinstance(found, taken.expected)  # type: ignore[arg-type]  # those that are no string
    assert fits, tell(taken, found)


def test_the_table_names_all_that_is_taken() -> None:
    """By name alone: to know of which class an object is would take a type checker.

    So nothing is missed but a second thing of a name that is in the table, and what has such a
    name and is of somebody else has to be named in `OTHERS`.
    """
    members = set().union(*(list_members(sys.modules[name]) for name in MODULES))
    taken = {name: places for name, places in list_uses().items() if name in members}
    named = {row.name for row in TAKEN}
    assert {name: places for name, places in taken.items() if name not in named} == {}
    assert named - taken.keys() == set()


def test_the_table_names_every_method_that_is_overridden() -> None:
    overridden = {
        f"{base.__name__}.{name}"
        for own in (Connection, HttpServer)
        for base in own.__mro__[1:]
        for name in vars(own).keys() & vars(base).keys()
        if base.__module__.startswith("uvicorn.") and not name.startswith("__")
    }
    assert overridden == {name_of(row) for row in METHODS if row.owner is not HTTPProtocol}


def test_nobody_else_touches_the_inside_of_uvicorn() -> None:
    imported = {
        (file.relative_to(ROOT).parts[0:2], name)
        for package in ("app", "routers", "schemas", "stores")
        for file in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_bytes()))
        for name in list_imported(node)
    }
    assert {where for where, name in imported if name.startswith("uvicorn.")} == {("app", "http")}
    # Servers that share a store read one another's answers by it; nothing of uvicorn's is in that.
    parsers = {where for where, name in imported if name == "httptools"}
    assert parsers == {("app", "http"), ("app", "replicas")}


def list_imported(node: ast.AST) -> list[str]:
    match node:
        case ast.Import(names=names):
            return [alias.name for alias in names]
        case ast.ImportFrom(module=str(module)):
            return [module]
        case _:
            return []
