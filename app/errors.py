"""The errors that the service answers with: each a class with its status, code and title.

`routers.problems` turns them into `application/problem+json`; nothing else does.
"""

from collections.abc import Sequence
from typing import ClassVar

from workflow_server.schemas.problems import Fault
from workflow_server.stores.replicas import NOBODY, Owner

REALM = "workflow-server"


def locate_handler(handler_id: str) -> str:
    """Return the address of a handler, relative to that of a request to run a workflow."""
    return f"../../handlers/{handler_id}"


class ServiceError(Exception):
    """An answer other than the one asked for; `detail` is a sentence for the client."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "Internal Server Error"
    retry_after: ClassVar[int | None] = None
    # Those that `headers` has, or may have, for the OpenAPI document.
    header_names: ClassVar[tuple[str, ...]] = ()

    def __init__(self, detail: str, *, faults: Sequence[Fault] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.faults = list(faults) if faults is not None else None

    @property
    def headers(self) -> dict[str, str]:
        """The header fields that belong to the answer."""
        return {"Retry-After": str(self.retry_after)} if self.retry_after is not None else {}


class BadRequest(ServiceError):
    """The request is malformed."""

    status, code, title = 400, "malformed_request", "Bad Request"


class InvalidStartEvent(BadRequest):
    """The start event is not one that the workflow starts from."""

    code = "invalid_start_event"


class RunStartsNothing(ServiceError):
    """The workflow's own `run()` starts no run of the workflow."""

    code = "run_starts_nothing"


class InvalidContext(BadRequest):
    """The context is not one that the workflow can start from."""

    code = "invalid_context"


class InvalidHandlerId(BadRequest):
    """The handler id has characters or a length that ids may not have."""

    code = "invalid_handler_id"


class InvalidCursor(BadRequest):
    """The cursor is not one that a listing gave."""

    code = "invalid_cursor"


class UnknownField(BadRequest):
    """A field is asked for that no handler has."""

    code = "unknown_field"


class InvalidEvent(BadRequest):
    """The event is not one that can be sent to this workflow."""

    code = "invalid_event"


class UnknownStep(BadRequest):
    """The step is not one of the workflow's, or does not take the event."""

    code = "unknown_step"


class Unauthenticated(ServiceError):
    """The request carries no credential, or none that is valid."""

    status, code, title = 401, "unauthenticated", "Unauthorized"
    header_names: ClassVar[tuple[str, ...]] = ("WWW-Authenticate",)

    def __init__(
        self, detail: str, *, offered: bool = True, reason: str = "not valid any more, or never"
    ) -> None:
        """`offered` says whether there was a credential at all (RFC 6750, section 3).

        `reason` is for the log.
        """
        super().__init__(detail)
        self.offered, self.reason = offered, reason
        self._error = ', error="invalid_token"' if offered else ""

    @property
    def headers(self) -> dict[str, str]:
        """The challenge."""
        return {"WWW-Authenticate": f'Bearer realm="{REALM}"{self._error}'}


class Forbidden(ServiceError):
    """The credential is valid, but not good for this."""

    status, code, title = 403, "forbidden", "Forbidden"
    header_names: ClassVar[tuple[str, ...]] = ("WWW-Authenticate",)

    def __init__(self, detail: str, *, scope: str | None = None) -> None:
        """`scope` is the one that is missing, where it is one that is."""
        super().__init__(detail)
        self._missing = f', error="insufficient_scope", scope="{scope}"' if scope else ""

    @property
    def headers(self) -> dict[str, str]:
        """The challenge."""
        return {"WWW-Authenticate": f'Bearer realm="{REALM}"{self._missing}'}


class OriginNotAllowed(ServiceError):
    """The page that sent the request may not call this service."""

    status, code, title = 403, "origin_not_allowed", "Forbidden"


class HostNotAllowed(ServiceError):
    """The request names a host that is not one of this server's."""

    status, code, title = 421, "host_not_allowed", "Misdirected Request"


class NotFound(ServiceError):
    """There is no such thing."""

    status, code, title = 404, "not_found", "Not Found"


class WorkflowNotFound(NotFound):
    """No workflow is registered under this name."""

    code = "workflow_not_found"


class HandlerNotFound(NotFound):
    """No handler has this id."""

    code = "handler_not_found"


class RunNotFound(NotFound):
    """The handler has no run with this id."""

    code = "run_not_found"


class StepNotFound(NotFound):
    """The run has no attempt of a step with this sequence, or does not keep it any more."""

    code = "step_not_found"


class ServerNotFound(NotFound):
    """No server of this number is alive."""

    code = "server_not_found"


class NothingToCancel(NotFound):
    """The handler has ended already (404, as existing clients expect)."""

    code = "handler_ended"


class Conflict(ServiceError):
    """The state of the handler does not allow it."""

    status, code, title = 409, "conflict", "Conflict"


class HistoryNotKept(Conflict):
    """The steps of the run are not kept."""

    code = "history_not_kept"


class HandlerRunning(Conflict):
    """The handler id is in use by a running handler."""

    code = "handler_running"


class HandlerEnded(Conflict):
    """The handler has ended and takes no more events."""

    code = "handler_ended"


class HandlerHeld(Conflict):
    """The run is held, because it does not fit what is served now, and takes no events."""

    code = "handler_held"


class RunNotCurrent(Conflict):
    """The handler's current run is another one."""

    code = "run_not_current"


class QuestionNotOpen(Conflict):
    """The question was answered already, or was never asked."""

    code = "question_not_open"


class OtherWorkflow(Conflict):
    """The handler id belongs to a handler of another workflow."""

    code = "other_workflow"


class StateNotRestorable(Conflict):
    """The state that the handler's last run left cannot be started from."""

    code = "state_not_restorable"


class StreamTaken(Conflict):
    """Another reader holds the run's shared reading position."""

    code = "stream_taken"


class BodyTooLarge(ServiceError):
    """The body is larger than the server takes."""

    status, code, title = 413, "body_too_large", "Content Too Large"


class EventTooLarge(BodyTooLarge):
    """The event is larger than the server takes."""

    code = "event_too_large"


class TooMany(ServiceError):
    """There are too many already; the same request may succeed later."""

    status, code, title = 429, "too_many", "Too Many Requests"
    retry_after = 1
    header_names: ClassVar[tuple[str, ...]] = ("Retry-After",)


class TooManyRuns(TooMany):
    """Too many runs are queued already."""

    code = "too_many_runs"
    retry_after = 5


class TooManyEvents(TooMany):
    """The run has too many events to take already."""

    code = "too_many_events"


class TooManyStreams(TooMany):
    """The server, or the client, has as many event streams open as it may."""

    code = "too_many_streams"
    retry_after = 5


class TooManyRequests(TooMany):
    """The client makes requests faster than it may."""

    code = "too_many_requests"

    def __init__(self, detail: str, *, retry_after: int) -> None:
        super().__init__(detail)
        self._seconds = retry_after

    @property
    def headers(self) -> dict[str, str]:
        """The seconds until the next request may be made."""
        return {"Retry-After": str(self._seconds)}


class ServiceUnavailable(ServiceError):
    """The service cannot answer now; the same request may succeed later."""

    status, code, title = 503, "service_unavailable", "Service Unavailable"
    retry_after: ClassVar[int | None] = 1
    header_names: ClassVar[tuple[str, ...]] = ("Retry-After",)


class NotStarted(ServiceUnavailable):
    """The server is not started, or is stopping."""

    code = "not_started"


class Draining(ServiceUnavailable):
    """The server is about to stop and takes no new runs."""

    code = "draining"
    retry_after = 5


class RunUnfinished(ServiceUnavailable):
    """The run was accepted, and goes on when the server is back; its handler tells how it ends."""

    code = "run_unfinished"
    retry_after = 5
    header_names: ClassVar[tuple[str, ...]] = ("Retry-After", "Location")

    def __init__(self, detail: str, *, handler_id: str) -> None:
        super().__init__(detail)
        self._handler_id = handler_id

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers that say where to ask, from `/workflows/{name}/run`, and when."""
        return {**super().headers, "Location": locate_handler(self._handler_id)}


class RunElsewhere(ServiceUnavailable):
    """The run is at another server, which cannot be reached now; nothing was done."""

    code = "run_elsewhere"
    retry_after = 5

    def __init__(self, detail: str, *, owner: Owner = NOBODY) -> None:
        """`owner` is the server that has the run."""
        super().__init__(detail)
        self.owner = owner


class ServerUnreachable(ServiceUnavailable):
    """The server is there, as far as is known, and cannot be reached now."""

    code = "server_unreachable"


class StoreFailed(ServiceUnavailable):
    """The store cannot be reached, so nothing can be promised."""

    code = "store_unavailable"


class OutcomeUnknown(StoreFailed):
    """The store failed while it wrote: what was asked for may or may not have taken place.

    Without `Retry-After`, since asking again may do it twice.
    """

    code = "outcome_unknown"
    retry_after = None
    header_names: ClassVar[tuple[str, ...]] = ()


class IdentityUnavailable(ServiceUnavailable):
    """The identity provider cannot be asked, so nobody can say whether a token is valid."""

    code = "identity_unavailable"
