"""Errors to `application/problem+json` (RFC 9457): the one place that does it."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.routing import iter_route_contexts
from pydantic_core import to_json
from starlette.exceptions import HTTPException

from workflow_server.app.errors import (
    BadRequest,
    BodyTooLarge,
    Draining,
    Forbidden,
    HostNotAllowed,
    IdentityUnavailable,
    NotStarted,
    OriginNotAllowed,
    ServiceError,
    StoreFailed,
    TooManyRequests,
    Unauthenticated,
)
from workflow_server.app.http_errors import HeadTooLarge, TooManyConnections, VersionNotSupported
from workflow_server.app.telemetry.logs import get_logger
from workflow_server.routers.header_fields import declare
from workflow_server.schemas.problems import Fault, Problem

logger = get_logger(__name__)

MEDIA_TYPE = "application/problem+json"
CODES = {
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    413: BodyTooLarge.code,
    415: "unsupported_media_type",
}


Answer = dict[str, Any]
Responses = dict[int | str, Answer]  # as the framework takes it, whose keys are invariant
# What every operation may answer, whoever asks,
ANYWHERE = (
    *(BadRequest, OriginNotAllowed, HeadTooLarge),
    *(ServiceError, TooManyConnections, VersionNotSupported),
)
# what each may that is no probe, and what it may where access is restricted.
SERVED = (*ANYWHERE, HostNotAllowed, TooManyRequests, NotStarted, Draining, StoreFailed)
GUARDED = (Unauthenticated, Forbidden, IdentityUnavailable)


def problems(
    *errors: type[ServiceError], every: tuple[type[ServiceError], ...] = SERVED
) -> Responses:
    """Return the `responses` of an operation that may answer with these errors, and `every` one."""
    responses: Responses = {}
    for error in dict.fromkeys((*errors, *every)):
        responses[error.status] = merge(responses.get(error.status, {}), describe(error))
    return responses


def describe(error: type[ServiceError]) -> Answer:
    """Return an error as an answer in the OpenAPI document."""
    sentence = (error.__doc__ or "").partition("\n")[0]
    return {
        "description": f"`{error.code}`: {sentence}",
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        "headers": declare(*error.header_names),
    }


def add_answers(responses: Responses, answers: Responses) -> Responses:
    """Return the `responses` of an operation with other answers beside its problems."""
    added = {status: merge(answer, responses.get(status, {})) for status, answer in answers.items()}
    return {**responses, **added}


def merge(one: Answer, other: Answer) -> Answer:
    """Return two answers of one status as one."""
    texts = [answer["description"] for answer in (one, other) if "description" in answer]
    parts = {part: {**one.get(part, {}), **other.get(part, {})} for part in ("content", "headers")}
    return {
        **one,
        **other,
        "description": "\n\n".join(texts),
        **{k: v for k, v in parts.items() if v},
    }


def problem_response(
    status: int,
    *,
    code: str,
    title: str,
    detail: str,
    faults: list[Fault] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return a problem as a response."""
    problem = Problem(
        type="about:blank", title=title, status=status, detail=detail, code=code, errors=faults
    )
    return Response(
        to_json(problem), status_code=status, media_type=MEDIA_TYPE, headers=dict(headers or {})
    )


async def answer_service_error(_request: Request, error: ServiceError) -> Response:
    """Answer with what the service says of the request."""
    return service_problem(error)


def service_problem(error: ServiceError) -> Response:
    """Return an error of the service as a response."""
    return problem_response(
        error.status,
        code=error.code,
        title=error.title,
        detail=error.detail,
        faults=error.faults,
        headers=error.headers,
    )


async def answer_validation_error(_request: Request, error: RequestValidationError) -> Response:
    """Answer a malformed request with the place of each fault."""
    faults = [
        Fault(loc=list(fault["loc"]), msg=fault["msg"], type=fault["type"])
        for fault in error.errors()
    ]
    places = "; ".join(f"{'.'.join(map(str, f.loc))}: {f.msg}" for f in faults[:5])
    return problem_response(
        400,
        code=BadRequest.code,
        title=BadRequest.title,
        detail=f"The request is malformed: {places}.",
        faults=faults,
    )


async def answer_http_exception(request: Request, error: HTTPException) -> Response:
    """Answer what the framework refused by itself: no such route or method, a body too large."""
    code = CODES.get(error.status_code, BadRequest.code)
    return problem_response(
        error.status_code,
        code=code,
        title=HTTPStatus(error.status_code).phrase,
        detail=_detail(error),
        headers=_list_methods(request) if error.status_code == 405 else error.headers,
    )


async def answer_unexpected_error(request: Request, error: BaseException) -> Response:
    """Answer an error of ours with nothing of the inside; the log has it."""
    logger.error("request failed", path=request.url.path, exc_info=error)
    return problem_response(
        500,
        code=ServiceError.code,
        title=ServiceError.title,
        detail="The service failed to answer; its log says why.",
    )


def _list_methods(request: Request) -> dict[str, str]:
    """Return what the path takes: the framework's own `Allow` knows only one of its routes."""
    path = getattr(request.scope.get("route"), "path", None)
    routes = [route for route in iter_route_contexts(request.app.routes) if route.path == path]
    methods = {method for route in routes for method in route.methods or ()}
    if "GET" in methods:
        methods.add("HEAD")
    return {"Allow": ", ".join(sorted(methods))}


def _detail(error: HTTPException) -> str:
    match error.status_code:
        case 404:
            return "There is nothing at this path; /docs shows what there is."
        case 405:
            return "The path does not take this method; /docs shows what it takes."
        case 413 if error.detail == HTTPStatus(413).phrase:
            return "The body is larger than the server takes."
        case _:
            return str(error.detail)


def add_problem_handlers(app: FastAPI) -> None:
    """Turn every error that leaves a route of the app into a problem; a fault is left to others."""
    app.add_exception_handler(ServiceError, answer_service_error)  # type: ignore[arg-type]  # narrower than Exception, as Starlette calls it
    app.add_exception_handler(RequestValidationError, answer_validation_error)  # type: ignore[arg-type]  # the same
    app.add_exception_handler(HTTPException, answer_http_exception)  # type: ignore[arg-type]  # the same
