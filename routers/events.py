"""Events: read as a stream, sent into a run."""

import re
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BeforeValidator

from workflow_server.app.errors import (
    BodyTooLarge,
    EventTooLarge,
    HandlerEnded,
    HandlerHeld,
    HandlerNotFound,
    InvalidEvent,
    OutcomeUnknown,
    QuestionNotOpen,
    RunElsewhere,
    RunNotCurrent,
    RunNotFound,
    StreamTaken,
    TooManyEvents,
    TooManyStreams,
    UnknownStep,
)
from workflow_server.app.http_errors import ClientTooSlow, UnsupportedCoding
from workflow_server.app.streams.subscription import Subscription
from workflow_server.routers.dependencies import (
    ConfirmDep,
    HandlerKeyDep,
    JsonRequest,
    JsonRoute,
    MayMovePositionDep,
    RegistryDep,
    RunId,
    SenderDep,
    ServicesDep,
)
from workflow_server.routers.heads import is_head
from workflow_server.routers.large_pages import LargePages
from workflow_server.routers.negotiation import choose_media_type
from workflow_server.routers.problems import problems
from workflow_server.routers.rooms import RoomDep
from workflow_server.routers.streaming import (
    NDJSON,
    SSE,
    StreamFormat,
    describe_stream,
    stream_head,
    stream_response,
)
from workflow_server.schemas.events import SendEventRequest, SendEventResponse

router = APIRouter(prefix="/events", tags=["events"], route_class=JsonRoute)

MAX_ACQUIRE_TIMEOUT = 3_600.0
INTEGER = re.compile(r"[+-]?[0-9]+")
MAX_DIGITS = 30  # more than any sequence has
NO_EVENT_ID = {
    "type": "event_id",
    "loc": ("header", "last-event-id"),
    "msg": "It is no integer; give the `id` of the last event that was seen, or `after_sequence`",
}


def _read_now(value: object) -> object:
    """Return `now` for it in any case; anything else as it is."""
    return "now" if isinstance(value, str) and value.lower() == "now" else value


@router.get(
    "/{handler_id}",
    response_class=Response,
    summary="Read a handler's events",
    responses={
        **problems(HandlerNotFound, RunNotFound, StreamTaken, TooManyStreams, RunElsewhere),
        **describe_stream(),
    },
)
async def stream_events(
    request: Request,
    key: HandlerKeyDep,
    registry: RegistryDep,
    services: ServicesDep,
    confirm: ConfirmDep,
    may_move_position: MayMovePositionDep,
    room: RoomDep,
    sse: Annotated[
        bool | None,
        Query(
            description="Server-Sent Events; false: NDJSON, without heartbeats. Left out, the"
            " header `Accept` chooses, and without a preference there it is true."
        ),
    ] = None,
    include_internal: Annotated[
        bool, Query(description="Show the engine's internal events too.")
    ] = False,
    include_qualified_name: Annotated[
        bool, Query(description="Give the module and name of each event's class.")
    ] = True,
    include_emitted_at: Annotated[
        bool, Query(description="Say of each event when the run emitted it: `emitted_at`.")
    ] = False,
    after_sequence: Annotated[
        int | Literal["now"] | None,
        BeforeValidator(_read_now),
        Query(
            description="Where to begin: after this sequence, -1 for the first event, `now` for"
            " only what comes. Without it the reader takes the run's one shared reading position; a"
            " credential that may only read follows from there, and leaves the position as it is."
        ),
    ] = None,
    acquire_timeout: Annotated[
        float,
        Query(
            ge=0,
            le=MAX_ACQUIRE_TIMEOUT,
            allow_inf_nan=False,
            description="How many seconds to wait for the shared reading position.",
        ),
    ] = 1.0,
    run_id: RunId = None,
    last_event_id: Annotated[
        str | None,
        Header(
            description="As `after_sequence`, and it wins; browsers send it to reconnect. One that"
            " is no integer is passed over where `after_sequence` is given, and else refused."
        ),
    ] = None,
) -> Response:
    """Read the events of a run, by default the handler's current one, until the run has ended.

    Readers with a cursor (`after_sequence` or `Last-Event-ID`) are independent: any number may
    read at once, and each gets every event in order. Sequences count all events of the run, the
    hidden internal ones too, and go on in the handler's next run. So a reader that reconnects with
    the last `id` it saw misses nothing, and gets all of the current run where that `id` is of an
    earlier one.
    """
    after = choose_cursor(last_event_id, after_sequence)
    stream_format = StreamFormat(
        choose_sse(request) if sse is None else sse,
        include_internal,
        include_qualified_name,
        include_emitted_at,
    )
    large_pages = LargePages(services.large_pages, key.tenant)

    def answer(subscription: Subscription) -> Response:
        if subscription.complete:
            subscription.close()
            return Response(status_code=204)
        if is_head(request):
            return stream_head(stream_format)
        return stream_response(
            subscription, stream_format, large_pages, heartbeat=services.heartbeat, confirm=confirm
        )

    async def wait() -> Response:
        return answer(
            await registry.subscribe_shared(key, acquire_timeout=acquire_timeout, run_id=run_id)
        )

    if after is not None:
        return answer(await registry.subscribe(key, after=after, run_id=run_id))
    if not may_move_position:
        return answer(await registry.follow_shared(key, run_id=run_id))
    if is_head(request):
        return answer(await registry.look_shared(key, run_id=run_id))
    return await room.answer(wait)


@router.post(
    "/{handler_id}",
    response_model=SendEventResponse,
    summary="Send an event into a run",
    responses=problems(
        HandlerNotFound,
        InvalidEvent,
        UnknownStep,
        HandlerEnded,
        HandlerHeld,
        RunNotCurrent,
        RunElsewhere,
        QuestionNotOpen,
        BodyTooLarge,
        ClientTooSlow,
        EventTooLarge,
        UnsupportedCoding,
        TooManyEvents,
        OutcomeUnknown,
    ),
)
async def send_event(
    key: HandlerKeyDep,
    body: SendEventRequest,
    registry: RegistryDep,
    sender: SenderDep,
    request: Request,
) -> SendEventResponse:
    """Send an event that the workflow declares; `sent` means that it is written down.

    With `reply_to` it answers a question, and a question takes one answer only. With `run_id` it is
    refused where the handler runs again meanwhile.
    """
    if isinstance(body.event, str):
        await JsonRequest(request.scope).check_values(body.event)
    await registry.send_event(
        key,
        body.event,
        step=body.step,
        reply_to=body.reply_to,
        run_id=body.run_id,
        sent_by=sender,
    )
    return SendEventResponse(status="sent")


def choose_sse(request: Request) -> bool:
    """Return whether an `Accept` prefers Server-Sent Events to NDJSON, as none at all does."""
    accept = ", ".join(request.headers.getlist("accept"))
    return choose_media_type(accept, (SSE, NDJSON)) == SSE


def choose_cursor(
    last_event_id: str | None, after_sequence: int | Literal["now"] | None
) -> int | Literal["now"] | None:
    """Return where a reader begins; None at the shared reading position."""
    if last_event_id is None:
        return after_sequence
    cursor = read_event_id(last_event_id)
    if cursor is None and after_sequence is None:
        raise RequestValidationError([NO_EVENT_ID])
    return after_sequence if cursor is None else cursor


def read_event_id(text: str) -> int | None:
    """Return the sequence that a `Last-Event-ID` names, or None; a larger one than any is cut."""
    if not INTEGER.fullmatch(text):
        return None
    sign, digits = text.startswith("-"), text.lstrip("+-0")
    number = int(digits or "0") if len(digits) <= MAX_DIGITS else 10**MAX_DIGITS
    return -number if sign else number
