"""The rows of the benchmark: what is asked of a server, and what the right answer is."""

import json
from dataclasses import dataclass
from typing import Any

from benchmarks.client import Connection, Response, get, post


class WrongAnswer(Exception):
    """A server answered something else than the workflow's result; its speed means nothing."""


@dataclass(frozen=True, slots=True)
class Workload:
    """Runs of one workflow of `benchmarks.workflows`, by so many clients at the same time.

    `events` is how many events a run writes to its stream, and `size` the bytes of the text in
    each, where that matters. Where there are some, the run is started and its stream read to the
    end; where there are none, `POST …/run` waits for the end.
    """

    name: str
    title: str
    workflow: str
    clients: int
    result: object
    events: int = 0
    size: int = 0

    async def run(self, connection: Connection) -> Response:
        """Carry out one run and return what the server said last."""
        if not self.events:
            return await connection.request(post(f"/workflows/{self.workflow}/run"))
        started = await connection.request(post(f"/workflows/{self.workflow}/run-nowait"))
        if started.status != 200:
            return started
        handler_id = json.loads(started.body)["handler_id"]
        return await connection.request(get(f"/events/{handler_id}?sse=true&after_sequence=-1"))

    def check(self, response: Response) -> None:
        """Raise `WrongAnswer` unless it is the workflow's result, after all events in order."""
        if response.status != 200:
            raise WrongAnswer(f"{self.name}: status {response.status}: {response.body[:500]!r}")
        if self.events:
            self._check_stream(response.body)
        else:
            handler = json.loads(response.body)
            self._expect("status", handler["status"], "completed")
            self._expect("result", handler["result"]["value"]["result"], self.result)

    def _check_stream(self, body: bytes) -> None:
        frames = read_frames(body)
        sequences = [sequence for sequence, _ in frames]
        self._expect("ids", sequences, sorted(set(sequences)))
        *tokens, stop = [envelope["value"] for _, envelope in frames]
        self._expect("events", [token["index"] for token in tokens], list(range(self.events)))
        sizes = {len(str(token["text"])) for token in tokens} if self.size else {self.size}
        self._expect("sizes", sizes, {self.size})
        self._expect("result", stop["result"], self.result)

    def _expect(self, what: str, found: object, expected: object) -> None:
        if found != expected:
            raise WrongAnswer(f"{self.name}: {what} {found!r:.500} instead of {expected!r:.500}")


WORKLOADS = (
    Workload("one-step", "one-step run", "one_step", 16, "done"),
    Workload("one-step-alone", "one-step run", "one_step", 1, "done"),
    Workload("21-steps", "21-step run", "many_steps", 16, 21),
    Workload("fan-out", "100-way fan-out and join", "fan_out", 16, sum(range(100))),
    Workload("stream", "run with 100 stream events, read over SSE", "stream", 16, 100, events=100),
    Workload(
        *("stream-1-kib", "run with 100 stream events of 1 KiB, read over SSE", "stream_1_kib"),
        *(16, 100),
        events=100,
        size=1 << 10,
    ),
    Workload(
        *("stream-64-kib", "run with 16 stream events of 64 KiB, read over SSE", "stream_64_kib"),
        *(16, 16),
        events=16,
        size=64 << 10,
    ),
)


def read_frames(body: bytes) -> list[tuple[int, dict[str, Any]]]:
    """Return the ids and envelopes of a stream of Server-Sent Events, without its comments."""
    frames = []
    for frame in body.decode().split("\n\n"):
        fields = dict(
            line.split(": ", 1) for line in frame.split("\n") if line[:1] not in ("", ":")
        )
        if fields:
            frames.append((int(fields["id"]), json.loads(fields["data"])))
    return frames
