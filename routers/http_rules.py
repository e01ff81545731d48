"""Rules of HTTP/1.1 for every request that the server beneath does not check."""

import re

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from workflow_server.app.errors import BadRequest
from workflow_server.routers.problems import answer_service_error

# A host as RFC 3986, section 3.2.2, has it, and a port. An empty one is allowed.
HOST = re.compile(rb"(\[[0-9A-Za-z:.~_-]+\]|([\w.~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)(:\d*)?")

LOST = (
    "The server beneath has lost the body, because of the header `Upgrade`: leave it out, or let"
    " the operator serve with `workflow-server serve` or `WorkflowServer.serve`."
)


class HttpRules:
    """Refuses requests that do not name one host (RFC 9112, section 3.2), and knows no ranges.

    A range may be passed over (RFC 9110, section 14.2), and nothing here is large. Starlette's
    files would refuse one that is malformed, in plain text.

    Where another server is beneath than this project's, such as uvicorn's command, it may end a
    request with `Upgrade` at its head, and take its body for the next request: that is refused.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 400, or pass the request on."""
        if scope["type"] == "http":
            hosts = [value for name, value in scope["headers"] if name == b"host"]
            if not _names_a_host(hosts, scope["http_version"]):
                error = BadRequest("The request must name its host, once, in the header `Host`.")
                answer = await answer_service_error(Request(scope), error)
                await answer(scope, receive, send)
                return
            if _has_upgraded_body(scope["headers"]):
                first = await receive()
                if not first.get("body") and not first.get("more_body"):
                    answer = await answer_service_error(Request(scope), BadRequest(LOST))
                    answer.headers["Connection"] = "close"  # The body may follow.
                    await answer(scope, receive, send)
                    return
                receive = _repeat(first, receive)
            if any(name == b"range" for name, _ in scope["headers"]):
                headers = [header for header in scope["headers"] if header[0] != b"range"]
                scope = {**scope, "headers": headers}
        await self._app(scope, receive, send)


def _names_a_host(hosts: list[bytes], http_version: str) -> bool:
    if not hosts:
        return http_version == "1.0"
    return len(hosts) == 1 and HOST.fullmatch(hosts[0]) is not None


def _has_upgraded_body(headers: list[tuple[bytes, bytes]]) -> bool:
    """Return whether a request asks for an upgrade, and says that it has a body."""
    if all(name != b"upgrade" for name, _ in headers):
        return False
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value.strip(b" 0"))
        for name, value in headers
    )


def _repeat(first: Message, receive: Receive) -> Receive:
    """Return what receives a message once more, and then the others."""
    kept = [first]

    async def receive_again() -> Message:
        return kept.pop() if kept else await receive()

    return receive_again
