"""Forwarding: what a client asks of a run, carried out by the server that has the run.

A request goes one hop. It is sent again only where the server before has certainly not taken it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, assert_never

from pydantic import BaseModel, ValidationError

from workflow_server.app.errors import (
    Draining,
    NotStarted,
    OutcomeUnknown,
    RunElsewhere,
    ServiceError,
)
from workflow_server.app.http_errors import TooManyConnections
from workflow_server.app.replicas.peers import Answered, Connections, NotReached, Outcome, Unknown
from workflow_server.app.telemetry.replicas import Forwarded, ReplicaMetrics
from workflow_server.schemas.internal import Misdirected
from workflow_server.schemas.problems import Problem
from workflow_server.stores.replicas import Owner

ANSWER_TIMEOUT = 60.0  # seconds until a server that was asked counts as one that does not answer
FIRST_PAUSE = 0.05  # seconds until it is asked again who has a run
LONGEST_PAUSE = 0.5
MISDIRECTED = 421
NOT_UNDERSTOOD = "not_understood"  # by a server of another release, and never seen by a client
# Their senders have done nothing of what they were asked for.
NOTHING_DONE = frozenset({NotStarted.code, Draining.code, TooManyConnections.code, NOT_UNDERSTOOD})
UNKNOWN = (
    "The server that has the run did not answer: what was asked for may or may not have taken"
    " place. Ask for the handler later, and do not send it again before."
)

T = TypeVar("T")
Answer = TypeVar("Answer", bound=BaseModel)


class NotTaken(Exception):
    """The server has not taken the request: another one may."""


async def refuse(_: Owner) -> Any:
    """Do nothing at another server."""
    raise NotTaken


class Forwarding:
    """Carries requests to the servers that have the runs.

    `bound` is the time in seconds in which the runs of a server that has failed go on elsewhere.
    A server that `is_draining` waits for nothing.
    """

    def __init__(
        self,
        peers: Connections,
        *,
        bound: float,
        is_draining: Callable[[], bool],
        metrics: ReplicaMetrics,
    ) -> None:
        self._peers = peers
        self._metrics = metrics
        self._bound = bound
        self._is_draining = is_draining

    async def carry_out(
        self, here: Callable[[], Awaitable[T]], there: Callable[[Owner], Awaitable[T]] = refuse
    ) -> T:
        """Return what `here` does where the run is or can be had here, and else what `there` does.

        Where neither has done anything it is tried again, until the bound; so it is where this
        server is not started, as it may begin anew. Raises `RunElsewhere` where the run's server is
        not reached by then.
        """
        loop = asyncio.get_running_loop()
        deadline, pause = loop.time() + self._bound, FIRST_PAUSE
        while True:
            try:
                try:
                    return await here()
                except RunElsewhere as elsewhere:
                    return await there(elsewhere.owner)
            except (NotTaken, NotStarted) as error:
                if self._is_draining() or loop.time() + pause > deadline:
                    if isinstance(error.__context__, RunElsewhere):
                        raise error.__context__ from error
                    raise
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def ask(
        self,
        owner: Owner,
        path: str,
        message: BaseModel,
        answer: type[Answer],
        *,
        hops: int = 2,
    ) -> Answer:
        """Return the answer of the server that has a run, or with 2 `hops` of one that it names.

        Raises the error that it answers with, `NotTaken`, or `OutcomeUnknown`.
        """
        content = message.model_dump_json().encode()
        for _ in range(hops):
            if owner.address is None:
                raise NotTaken
            match await self._ask_once(owner.address, path, content):
                case NotReached():
                    raise NotTaken
                case Unknown():
                    raise OutcomeUnknown(UNKNOWN)
                case Answered(status=200, body=body):
                    return _read(answer, body)
                case Answered(status=status, body=body) if status == MISDIRECTED:
                    other = _read(Misdirected, body)
                    owner = Owner(other.incarnation, other.address)
                case Answered(body=body):
                    raise read_problem(body)
                case unreachable:
                    assert_never(unreachable)
        raise NotTaken

    async def _ask_once(self, address: str, path: str, content: bytes) -> Outcome:
        began = time.perf_counter()
        outcome = await self._peers.ask(address, path, content, timeout=ANSWER_TIMEOUT)
        self._metrics.count_forwarded(_name(outcome), time.perf_counter() - began)
        return outcome


def _name(outcome: Outcome) -> Forwarded:
    match outcome:
        case NotReached():
            return Forwarded.NOT_REACHED
        case Unknown():
            return Forwarded.UNKNOWN
        case Answered(status=200):
            return Forwarded.DONE
        case Answered(status=status) if status == MISDIRECTED:
            return Forwarded.MISDIRECTED
        case Answered():
            return Forwarded.REFUSED
        case unreachable:
            assert_never(unreachable)


def _read(answer: type[Answer], body: bytes) -> Answer:
    """Return what another server has answered; `OutcomeUnknown` where it says something else."""
    try:
        return answer.model_validate_json(body)
    except ValidationError as error:
        raise OutcomeUnknown(UNKNOWN) from error


def read_problem(body: bytes) -> ServiceError | NotTaken:
    """Return the error that another server has answered with."""
    try:
        problem = Problem.model_validate_json(body)
    except ValidationError:
        return OutcomeUnknown(UNKNOWN)  # whoever answered is no server of ours
    if problem.code in NOTHING_DONE:
        return NotTaken()
    return _find_error(ServiceError, problem) or OutcomeUnknown(UNKNOWN)


def _find_error(base: type[ServiceError], problem: Problem) -> ServiceError | None:
    """Return the error of a problem's code and status, among those that take a sentence alone."""
    is_same = (base.code, base.status) == (problem.code, problem.status)
    if is_same and base.__init__ is ServiceError.__init__:
        return base(problem.detail, faults=problem.errors)
    found = (_find_error(error, problem) for error in base.__subclasses__())
    return next((error for error in found if error is not None), None)
