"""A wrong answer is no answer, however fast."""

import json

import pytest

from benchmarks.client import Response, WrongAnswer
from benchmarks.workloads import Workload

CALL = Workload("call", 1, "done")
STREAM = Workload("stream", 1, 2, events=2)


def handler(status: str, result: str) -> bytes:
    return json.dumps({"status": status, "result": {"value": {"result": result}}}).encode()


def stream(*values: tuple[int, dict[str, int]]) -> bytes:
    frames = [f"id: {sequence}\ndata: {json.dumps({'value': v})}\n\n" for sequence, v in values]
    return ": heartbeat\n\n".join(frames).encode()


def test_the_right_result_is_accepted() -> None:
    CALL.check(Response(200, handler("completed", "done")))


def test_all_events_in_order_are_accepted() -> None:
    STREAM.check(Response(200, stream((1, {"index": 0}), (2, {"index": 1}), (4, {"result": 2}))))


@pytest.mark.parametrize(
    "response",
    [
        Response(500, handler("completed", "done")),
        Response(200, handler("running", "done")),
        Response(200, handler("completed", "other")),
    ],
    ids=["status code", "status", "result"],
)
def test_another_answer_to_a_call_is_refused(response: Response) -> None:
    with pytest.raises(WrongAnswer):
        CALL.check(response)


@pytest.mark.parametrize(
    "body",
    [
        stream((1, {"index": 0}), (4, {"result": 2})),
        stream((1, {"index": 1}), (2, {"index": 0}), (4, {"result": 2})),
        stream((1, {"index": 0}), (1, {"index": 1}), (4, {"result": 2})),
        stream((1, {"index": 0}), (2, {"index": 1}), (4, {"result": 3})),
    ],
    ids=["missing", "out of order", "one id twice", "result"],
)
def test_another_stream_is_refused(body: bytes) -> None:
    with pytest.raises(WrongAnswer):
        STREAM.check(Response(200, body))
