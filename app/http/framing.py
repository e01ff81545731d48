"""Framing: where a request ends, where the parser beneath is more lenient than is safe.

Others on the way must not read a request in another way than this server does, or somebody smuggles
one request inside of another past them. The parser refuses most of what can be read in two ways;
what it takes all the same is refused here.
"""

import re
from collections.abc import Sequence

import httptools

from workflow_server.app.errors import BadRequest, ServiceError
from workflow_server.app.http_errors import VersionNotSupported

Headers = Sequence[tuple[bytes, bytes]]

OLDER = "1.0"
VERSIONS = frozenset({OLDER, "1.1"})
# RFC 9112, section 7: codings in a list, the last of them chunks. `identity` is none any more.
CODINGS = re.compile(
    rb"(?:(?!identity\b)[!#$%&'*+.^_`|~0-9a-z-]+[ \t]*,[ \t]*)*chunked[ \t]*", re.IGNORECASE
)
WATCHED = frozenset({b"transfer-encoding"})
# What the parser says where it knows no such version, or the first bytes of HTTP/2.
UNKNOWN_VERSION = frozenset({"Invalid HTTP version", "Pause on PRI/Upgrade"})


def find_fault(version: str, method: bytes, target: bytes, headers: Headers) -> ServiceError | None:
    """Return why a head is refused, or None where it can be read in one way only."""
    if version not in VERSIONS:
        return refuse_version()
    if method == b"CONNECT":
        return BadRequest("The server is no proxy, and makes no tunnels.")
    if b"#" in target:
        return BadRequest("The request names a fragment, which stays with the client.")
    if not target.startswith(b"/") and not _names_one_host(target, headers):
        return BadRequest("The address in the request line is not that of the header `Host`.")
    codings = [value for name, value in headers if name in WATCHED]
    if codings and not _ends_in_chunks(version, codings):
        return BadRequest(
            "The header `Transfer-Encoding` may be there once, with `chunked` at its end, in a"
            " request of HTTP/1.1."
        )
    return None


def refuse_version() -> ServiceError:
    """Return what a request of another version of HTTP is told."""
    return VersionNotSupported("The server speaks HTTP/1.1, and HTTP/1.0.")


def repeat_without_upgrade(version: str, method: bytes, target: bytes, headers: Headers) -> bytes:
    """Return a head again, but for its `Upgrade`, which a server may ignore (RFC 9110, 7.8).

    The parser would end such a request with its head, and read its body as the next request.
    """
    lines = [b"%b %b HTTP/%b" % (method, target, version.encode())]
    lines += [name + b": " + value for name, value in headers if name != b"upgrade"]
    return b"\r\n".join([*lines, b"", b""])


def _names_one_host(target: bytes, headers: Headers) -> bool:
    """Return whether a target in absolute form is at the host of the header (RFC 9112, 3.2.2)."""
    try:
        url = httptools.parse_url(target)
    except httptools.HttpParserInvalidURLError:
        return False
    authority = target.partition(b"://")[2].partition(b"/")[0].partition(b"?")[0].lower()
    hosts = [value.strip().lower() for name, value in headers if name == b"host"]
    return not url.userinfo and bool(authority) and hosts == [authority]


def _ends_in_chunks(version: str, codings: Sequence[bytes]) -> bool:
    return version != OLDER and len(codings) == 1 and CODINGS.fullmatch(codings[0]) is not None
