"""Runs as their clients conduct them: begun, read, answered, and held to their results."""

import asyncio
import json
import random
from contextlib import suppress
from itertools import pairwise
from typing import Any, ClassVar

from tests.durability.crash.client import RETRY_PAUSE, Client, Json, Unreachable
from tests.durability.crash.witness import Effects, Spans, Witness
from tests.durability.crash.workloads import COUNTS, RETRY_DELAY, WORK

POLL = 0.25  # seconds between two looks at a handler
LATE = 20.0  # seconds that a retry may be late: a suspect of a crash waits for its turn


class Conduct:
    """One run of one kind, from its start to its checked end."""

    workflow: ClassVar[str]
    sizes: ClassVar[range]

    def __init__(self, client: Client, name: str, chance: random.Random) -> None:
        self.longest_pause = 1.0
        self.name = name
        self.size = chance.choice(self.sizes)
        self.witness = Witness(name)
        self.acknowledged = False
        self.is_gone = False  # purged, as the server has said
        self.over = asyncio.Event()
        self._client = client
        self._chance = chance
        self._run_id: str | None = None  # of the current run, as it was seen last

    def talk_to(self, client: Client) -> None:
        """Go on with another server over the same store."""
        self._client = client

    async def carry_out(self) -> None:
        """Conduct the run until it has ended."""
        await self.begin()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read())
            tasks.create_task(self._poll())
            tasks.create_task(self.drive())

    async def begin(self) -> None:
        """Start the run, whatever happens to the answer."""
        unknown = False
        while True:
            try:
                response = await self._client.post(
                    f"/workflows/{self.workflow}/run-nowait",
                    {
                        "handler_id": self.name,
                        "start_event": {"name": self.name, "size": self.size},
                    },
                )
            except Unreachable:
                unknown = True
            else:
                if response.status_code == 200:
                    break
                if not unknown:
                    self.witness.blame(f"its start was refused: {response.text}")
                    break
            # A conflict may be with the start before, of which nobody knows yet.
            if (await self._client.get(f"/handlers/{self.name}")).status_code != 404:
                break
        self.acknowledged = True

    async def drive(self) -> None:
        """Do what the run needs from outside."""

    def check(self) -> None:
        """Check the end of the run."""
        assert self.witness.ended is not None
        self.witness.check_end()
        if self.witness.ended["status"] == "completed":
            self.check_result(self.witness.ended["result"]["value"]["result"])

    def check_effects(self, effects: Effects, downs: Spans) -> None:
        """Check what its steps did, given also when the server was down."""
        self.witness.check_effects(effects)

    def check_result(self, result: Any) -> None:
        """Check what the run returned."""
        self.expect(result, self.size)

    def expect(self, result: Any, expected: Any) -> None:
        """Check that a result is the expected one."""
        if result != expected:
            self.witness.blame(f"the result is {result}, not {expected}")

    async def audit(self) -> None:
        """Read the handler and its stream again: they are as they were."""
        response = await self._client.get(f"/handlers/{self.name}")
        if response.status_code == 404:
            self.witness.blame("it is acknowledged and missing")
            return
        self.witness.see_handler(response.json())
        for run_id in {response.json()["run_id"], *self.witness.steps}:
            await self._look_at_steps(run_id, are_all=True)
        for run_id, sequence in list(self.witness.states):
            await self._look_at_state(run_id, sequence)
        while True:
            events: list[tuple[int, str]] = []
            try:
                async for sequence, envelope in self._client.read_events(self.name, -1):
                    events.append((sequence, envelope))
            except Unreachable:
                await asyncio.sleep(RETRY_PAUSE)
                continue
            if not events or await self._ended():
                self.witness.see_whole_stream(events)
                return

    async def _read(self) -> None:
        """Follow the stream to the end of the run, over as many connections as it takes."""
        while not self.over.is_set():
            had_ended = self.witness.ended is not None
            try:
                after = len(self.witness.events) - 1
                async for sequence, envelope in self._client.read_events(self.name, after):
                    self.witness.see_event(sequence, envelope)
            except (Unreachable, TimeoutError, AssertionError) as error:
                if not isinstance(error, Unreachable):
                    self.witness.blame(str(error))
                await asyncio.sleep(RETRY_PAUSE)
                continue
            # A server that is told to end sends its readers away: that is no end of the run.
            if await self._ended() and had_ended:
                self.over.set()

    async def _poll(self) -> None:
        while not self.over.is_set():
            await self._ended()
            if self._run_id is not None:
                await self._look_at_steps(self._run_id)
            await asyncio.sleep(POLL)

    async def _look_at_steps(self, run_id: str, *, are_all: bool = False) -> None:
        """Read the steps since the last look, or all of them, and the state after the last one."""
        seen = self.witness.steps.get(run_id, {})
        query: dict[str, Any] = {"run_id": run_id}
        if seen and not are_all:
            query["cursor"] = max(seen)
        attempts: list[Json] = []
        while True:
            response = await self._client.get(f"/handlers/{self.name}/steps", **query)
            if response.status_code != 200:
                self.witness.blame(f"its steps were answered by {response.text}")
                return
            page: Json = response.json()
            attempts += page["steps"]
            if page["next_cursor"] is None:
                break
            query["cursor"] = page["next_cursor"]
        self.witness.see_steps(run_id, attempts, are_all=are_all)
        changed = [attempt["sequence"] for attempt in attempts if attempt["changed_state"]]
        if changed:
            await self._look_at_state(run_id, changed[-1])

    async def _look_at_state(self, run_id: str, sequence: int) -> None:
        path = f"/handlers/{self.name}/steps/{sequence}/state"
        response = await self._client.get(path, run_id=run_id)
        if response.status_code != 200 or response.json()["left_out"] is not None:
            self.witness.blame(f"the state after step {sequence} is {response.text}")
        else:
            self.witness.see_state(run_id, sequence, response.json())

    async def _ended(self) -> bool:
        had_ended = self.witness.ended is not None
        response = await self._client.get(f"/handlers/{self.name}")
        if response.status_code == 404:
            self.witness.blame("it is acknowledged and missing")
            self.over.set()
            return False
        handler: Json = response.json()
        # What was asked before the end was seen may be answered after that, by another server.
        if had_ended or handler["status"] != "running":
            self.witness.see_handler(handler)
        self._run_id = handler["run_id"]
        return bool(handler["status"] != "running")

    async def _blame_refusal(self, sentence: str) -> None:
        """Note that the run refused an event; one that has failed may, and its end is checked."""
        if not await self._ended():
            self.witness.blame(sentence)

    async def send(self, event: str, value: Json, **body: Any) -> Json | None:
        """Send an event once; return None when it was taken, else the problem."""
        event_body = {"event": {"type": event, "value": value}, **body}
        response = await self._client.post(f"/events/{self.name}", event_body)
        if response.status_code == 200:
            return None
        if response.headers.get("content-type") != "application/problem+json":
            self.witness.blame(f"{event} was answered {response.status_code}: {response.text}")
            return {"status": response.status_code}
        problem: Json = response.json()
        return problem

    async def pause(self) -> None:
        """Let some time go by, so that runs are released meanwhile, or not."""
        await asyncio.sleep(self._chance.random() * self.longest_pause)


class Walk(Conduct):
    """Steps one after the other."""

    workflow, sizes = "walker", range(2, 60)


class Stream(Conduct):
    """Tokens: what a step wrote before it was cut off stays, and it begins again."""

    workflow, sizes = "streamer", range(1, 1500)

    def check_result(self, result: Any) -> None:
        """Check that every attempt counted from 0, and the last one to the end."""
        self.expect(result, self.size)
        expected = 0
        for sequence, token in self.witness.parsed("Token"):
            if token["index"] not in (expected, 0):
                self.witness.blame(f"token {sequence} is {token['index']}, not {expected}")
            expected = token["index"] + 1
        if expected != self.size:
            self.witness.blame(f"the last token is {expected - 1} of {self.size}")


class FanOut(Conduct):
    """Parts in parallel, joined."""

    workflow, sizes = "fan", range(1, 40)

    def check_result(self, result: Any) -> None:
        """Check the counter of finished parts, and the join."""
        self.expect(result, [self.size, [index**2 for index in range(self.size)]])


class Rest(Conduct):
    """Long and short parts in parallel, which write to the same fields in turn."""

    workflow, sizes = "rester", range(1, 30)

    def check_result(self, result: Any) -> None:
        """Check that every part counted each time, once, and is named as often."""
        names = [str(index) for index in range(self.size) for _ in range(COUNTS)]
        self.expect(result, [len(names), sorted(names)])


class Ask(Conduct):
    """Questions, each answered by `reply_to`."""

    workflow, sizes = "asker", range(1, 6)

    def __init__(self, client: Client, name: str, chance: random.Random) -> None:
        super().__init__(client, name, chance)
        self._answers: list[str] = []

    async def drive(self) -> None:
        """Answer every question as it comes."""
        while not self.over.is_set():
            questions = self.witness.parsed("Question")
            for sequence, question in questions[len(self._answers) :]:
                await self.pause()
                self._answers.append(f"answer to {sequence}")
                await self._answer(sequence, question["prompt"])
            await asyncio.sleep(RETRY_PAUSE)

    async def _answer(self, sequence: int, prompt: str) -> None:
        unknown = False
        value = {"text": self._answers[-1], "to": prompt}
        while True:
            try:
                problem = await self.send("Answer", value, reply_to=sequence)
            except Unreachable:
                unknown = True
                continue
            if problem is not None and not (unknown and problem["status"] == 409):
                await self._blame_refusal(f"its question {sequence} took no answer: {problem}")
            return

    def check_result(self, result: Any) -> None:
        """Check that every answer came in, once."""
        self.expect(result, self._answers)
        if len(self._answers) != self.size:
            self.witness.blame(f"{len(self._answers)} questions were asked, not {self.size}")


class Wait(Ask):
    """Questions inside one step, and events that are for somebody else."""

    workflow = "waiter"

    async def _answer(self, sequence: int, prompt: str) -> None:
        if self._chance.random() < 0.5:
            with suppress(Unreachable):  # it may have come in, and must do no harm
                await self.send("Answer", {"text": "for another", "to": "another"})
        await super()._answer(sequence, prompt)


class Retry(Conduct):
    """Attempts with a delay between them.

    The clocks by which they are timed may be `apart` by so many seconds.
    """

    workflow, sizes = "retrier", range(6)
    apart = 0.01

    def check_result(self, result: Any) -> None:
        """Check that attempts were counted on, and timed from the first."""
        self.expect(result, [self.size + 1, self.size])
        numbers = [attempt["number"] for _, attempt in self.witness.parsed("Attempt")]
        if numbers != sorted(numbers) or set(numbers) != set(range(self.size + 1)):
            self.witness.blame(f"its attempts were {numbers}")
        attempts = [attempt for _, attempt in self.witness.parsed("Attempt")]
        times = [attempt["first_at"] for attempt in attempts if attempt["number"]]
        if times and max(times) - min(times) > 0.05 + self.apart:
            self.witness.blame(f"its first attempt was at {times}")

    def check_effects(self, effects: Effects, downs: Spans) -> None:
        """Check that each attempt began a delay after the one before, and not much later."""
        super().check_effects(effects, downs)
        for (last, before), (first, attempt) in pairwise(sorted(effects)):
            if int(attempt) != int(before) + 1:
                continue  # It was cut off, and began again, perhaps before its end was written.
            down = sum(max(0.0, min(first, end) - max(last, start)) for start, end in downs)
            early, late = RETRY_DELAY - self.apart, RETRY_DELAY + WORK + down + LATE
            if not early <= first - last <= late:
                self.witness.blame(
                    f"attempt {attempt} began {first - last:.3f} s after the one before, in which"
                    f" the server was down for {down:.3f} s"
                )


class Time(Conduct):
    """A wait that times out."""

    workflow, sizes = "timer", range(0, 40, 3)

    def check_result(self, result: Any) -> None:
        """Check that it timed out."""
        self.expect(result, "timed out")


class Gather(Conduct):
    """Events sent without a question: an acknowledged one counts once, another at most once."""

    workflow, sizes = "gatherer", range(1, 12)

    def __init__(self, client: Client, name: str, chance: random.Random) -> None:
        super().__init__(client, name, chance)
        self._sent: list[str] = []
        self._unknown: set[str] = set()

    async def drive(self) -> None:
        """Send words, and then the empty one that ends the run."""
        for index in range(self.size):
            await self.pause()
            word = f"{self.name} {index}"
            self._sent.append(word)
            try:
                problem = await self.send("Word", {"text": word})
            except Unreachable:
                self._unknown.add(word)
                continue
            if problem is not None:
                await self._blame_refusal(f"it took no word: {problem}")
        while not self.over.is_set():
            try:
                await self.send("Word", {"text": ""})
            except Unreachable:
                continue
            await asyncio.sleep(POLL)

    def check_result(self, result: Any) -> None:
        """Check each word, in order."""
        expected = [word for word in self._sent if word in result or word not in self._unknown]
        self.expect(result, expected)


class Talk(Conduct):
    """A handler that is run again and again; the events of its runs are numbered through."""

    workflow, sizes = "talker", range(1, 6)

    async def begin(self) -> None:
        """Take all turns, until one fails, and read all but the last one."""
        handler: Json = {"run_id": None}
        for turn in range(1, self.size + 1):
            if turn > 1:
                await self._read_turn(handler["result"])
            self.witness.first = len(self.witness.events)
            handler = await self._take_turn(turn, handler["run_id"])
            if self.witness.ended is not None:
                break
        self.acknowledged = True

    async def _read_turn(self, result: Json) -> None:
        """Read the events of a turn that has ended, up to its result."""
        events = self.witness.events
        while not events or json.loads(events[len(events) - 1]) != result:
            with suppress(Unreachable):
                async for sequence, envelope in self._client.read_events(
                    self.name, len(events) - 1
                ):
                    self.witness.see_event(sequence, envelope)

    async def _take_turn(self, turn: int, previous: str | None) -> Json:
        body = {"handler_id": self.name, "start_event": {"name": self.name, "size": 0}}
        while True:
            with suppress(Unreachable):
                await self._client.post("/workflows/talker/run-nowait", body)
            handler: Json = (await self._client.get(f"/handlers/{self.name}")).json()
            if handler.get("run_id", previous) != previous:
                break
        while handler["status"] == "running":
            await asyncio.sleep(RETRY_PAUSE)
            handler = (await self._client.get(f"/handlers/{self.name}")).json()
        if handler["status"] != "completed":
            self.witness.see_handler(handler)
        elif handler["result"]["value"] != {"result": turn}:
            self.witness.blame(f"turn {turn} gave {handler['result']['value']}")
        return handler


KINDS: tuple[type[Conduct], ...] = (
    Walk,
    Stream,
    FanOut,
    Rest,
    Ask,
    Wait,
    Retry,
    Time,
    Gather,
    Talk,
)
