"""Events: read as a stream, sent into a run."""

from typing import Annotated, Literal

from fastapi import APIRouter, Header, Query, Response

from workflow_server.app.errors import (
    BodyTooLarge,
    ClientTooSlow,
    EventTooLarge,
    HandlerEnded,
    HandlerHeld,
    HandlerNotFound,
    InvalidEvent,
    QuestionNotOpen,
    RunNotCurrent,
    RunNotFound,
    StreamTaken,
    TooManyStreams,
    UnknownStep,
    UnsupportedCoding,
)
from workflow_server.routers.dependencies import (
    ConfirmDep,
    HandlerKeyDep,
    JsonRoute,
    RegistryDep,
    RunId,
    ServicesDep,
)
from workflow_server.routers.problems import problems
from workflow_server.routers.streaming import StreamFormat, describe_stream, stream_response
from workflow_server.schemas.events import SendEventRequest, SendEventResponse

router = APIRouter(prefix="/events", tags=["events"], route_class=JsonRoute)

MAX_ACQUIRE_TIMEOUT = 3_600.0


@router.get(
    "/{handler_id}",
    response_class=Response,
    summary="Read a handler's events",
    responses={
        **problems(HandlerNotFound, RunNotFound, StreamTaken, TooManyStreams),
        **describe_stream(),
    },
)
async def stream_events(
    key: HandlerKeyDep,
    registry: RegistryDep,
    services: ServicesDep,
    confirm: ConfirmDep,
    sse: Annotated[
        bool, Query(description="Server-Sent Events; false: NDJSON, without heartbeats.")
    ] = True,
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
        Query(
            description="Where to begin: after this sequence, -1 for the first event, `now` for"
            " only what comes. Without it the reader takes the run's one shared reading position."
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
        Header(description="As `after_sequence`, and it wins; browsers send it to reconnect."),
    ] = None,
) -> Response:
    """Read the events of a run, by default the handler's current one, until the run has ended.

    Readers with a cursor (`after_sequence` or `Last-Event-ID`) are independent: any number may
    read at once, and each gets every event in order. Sequences count all events of the run, the
    hidden internal ones too, and go on in the handler's next run. So a reader that reconnects with
    the last `id` it saw misses nothing, and gets all of the current run where that `id` is of an
    earlier one.
    """
    cursor = read_event_id(last_event_id)
    after = cursor if cursor is not None else after_sequence
    if after is None:
        subscription = await registry.subscribe_shared(
            key, acquire_timeout=acquire_timeout, run_id=run_id
        )
    else:
        subscription = await registry.subscribe(key, after=after, run_id=run_id)
    if subscription.complete:
        subscription.close()
        return Response(status_code=204)
    stream_format = StreamFormat(sse, include_internal, include_qualified_name, include_emitted_at)
    return stream_response(
        subscription, stream_format, heartbeat=services.heartbeat, confirm=confirm
    )


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
        QuestionNotOpen,
        BodyTooLarge,
        ClientTooSlow,
        EventTooLarge,
        UnsupportedCoding,
    ),
)
async def send_event(
    key: HandlerKeyDep, body: SendEventRequest, registry: RegistryDep
) -> SendEventResponse:
    """Send an event that the workflow declares; `sent` means that it is written down.

    With `reply_to` it answers a question, and a question takes one answer only. With `run_id` it is
    refused where the handler runs again meanwhile.
    """
    await registry.send_event(
        key, body.event, step=body.step, reply_to=body.reply_to, run_id=body.run_id
    )
    return SendEventResponse(status="sent")


def read_event_id(text: str | None) -> int | None:
    """Return the sequence that a `Last-Event-ID` names; None where it names none."""
    try:
        return int(text) if text is not None and len(text) < 100 else None
    except ValueError:
        return None
