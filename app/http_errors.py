"""The errors of connections and of the form of requests, before any route has a say."""

from typing import ClassVar

from workflow_server.app.errors import ServiceError, ServiceUnavailable


class UnsupportedCoding(ServiceError):
    """The body is compressed, or otherwise coded; it must be sent as it is."""

    status, code, title = 415, "unsupported_coding", "Unsupported Media Type"
    header_names: ClassVar[tuple[str, ...]] = ("Accept-Encoding",)

    @property
    def headers(self) -> dict[str, str]:
        """Return the header that says which codings are taken (RFC 9110, section 12.5.3)."""
        return {"Accept-Encoding": "identity"}


class ClientTooSlow(ServiceError):
    """The request did not arrive in time."""

    status, code, title = 408, "client_too_slow", "Request Timeout"


class HeadTooLarge(ServiceError):
    """The request line and the headers are larger than the server takes."""

    status, code, title = 431, "head_too_large", "Request Header Fields Too Large"


class VersionNotSupported(ServiceError):
    """The request is not of HTTP/1.1, nor of HTTP/1.0."""

    status, code, title = 505, "http_version_not_supported", "HTTP Version Not Supported"


class TooManyConnections(ServiceUnavailable):
    """The server has as many connections as it may."""

    code = "too_many_connections"
