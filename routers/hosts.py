"""The guard of hosts: a page whose name was made to point here is refused before anything is done.

Browsers let a page call its own host freely, and whoever has a name can point it at 127.0.0.1 once
the page is loaded (DNS rebinding). The `Host` still says which name the page believes in.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import ip_address

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Scope, Send

from workflow_server.app.errors import HostNotAllowed
from workflow_server.routers.problems import answer_service_error
from workflow_server.schemas.hosts import ANY_HOST, spell_host

LOCALHOST = "localhost"
REMEMBERED = 256  # hosts; a client may send any number


class HostRule:
    """Rule of the hosts a request may name: those of a list, and always those of loopback.

    Without a list any may be named, unless the server listens on loopback alone.
    """

    def __init__(self, allowed: Iterable[str]) -> None:
        self._allowed = frozenset(allowed)
        self.loopback_only = False

    def takes(self, host: str) -> bool:
        """Return whether a request may name a host, as it stands in `Host`."""
        if ANY_HOST in self._allowed or not (self._allowed or self.loopback_only):
            return True
        name = _read_name(host)
        return name in self._allowed or _is_of_loopback(name)


class HostGuard:
    """Refuses requests that name another host, but for probes: those ask by any address."""

    def __init__(self, app: ASGIApp, *, rule: HostRule, probes: Sequence[BaseRoute]) -> None:
        self._app = app
        self._rule = rule
        self._probes = probes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 421, or pass the request on."""
        if scope["type"] == "http":
            host = Headers(scope=scope).get("host", "")
            if not self._rule.takes(host) and not self._is_probe(scope):
                answer = await answer_service_error(Request(scope), _refuse(host))
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _is_probe(self, scope: Scope) -> bool:
        return any(route.matches(scope)[0] is not Match.NONE for route in self._probes)


def _refuse(host: str) -> HostNotAllowed:
    named = f"'{host}' is no host" if host else "The request names no host"
    return HostNotAllowed(
        f"{named} of this server: call it by a loopback name, such as localhost, or let the"
        " operator allow the name with --allowed-host (WORKFLOW_SERVER_ALLOWED_HOSTS,"
        " allowed_hosts)."
    )


@lru_cache(REMEMBERED)
def _read_name(host: str) -> str:
    """Return the name or address in a `Host`, in one spelling; its port may be any."""
    if host.startswith("["):
        return spell_host(host.partition("]")[0] + "]")
    return spell_host(host.partition(":")[0])


@lru_cache(REMEMBERED)
def _is_of_loopback(name: str) -> bool:
    if name == LOCALHOST or name.endswith(f".{LOCALHOST}"):  # RFC 6761, section 6.3
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False
