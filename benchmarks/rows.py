"""The table of rows: what is measured, how long, and what is to hold."""

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks import replicas, turns
from benchmarks.subjects import STORES, Subject
from benchmarks.summary import Figure, Sample
from benchmarks.workloads import Workload

RATE, BURST, START = "runs/s", "burst: events delivered/s", "s to first answer"
SHARED = "servers with --replicas, and one without, on Postgres"
PEER, ENGINE, YARDSTICK = "peer, memory", "bare engine", "yardstick"


@dataclass(frozen=True, slots=True)
class Hold:
    """A bound on how many times the figure of one subject is that of another."""

    base: str
    bound: float
    figure: str = RATE
    subject: str = "ours, sqlite"
    at_most: bool = False

    def judge(self, ratio: Figure, *, quiet: bool) -> str:
        """Return whether a ratio holds, with a `?` where the rounds or the machine leave doubt."""
        holds = ratio.median <= self.bound if self.at_most else ratio.median >= self.bound
        half = ratio.median * (ratio.spread or 0) / 2
        doubt = not quiet or ratio.spread is None or abs(ratio.median - self.bound) < half
        return ("pass" if holds else "miss") + ("?" if doubt else "")


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the benchmark, in which all servers take part, or of ours the `durable` ones only.

    `work` is what a turn is given to do, and `rounds` how many there are, in full and with --quick.
    In a `shared` one the servers of one schema take part instead. Ratios of the figure `compared`
    are shown. `beside` is a subject without a server that takes part too. Rows that are `kept`
    share servers, which others start for each turn.
    """

    name: str
    title: str
    measure: Callable[[Subject, Any], Coroutine[Any, Any, Sample]]
    work: tuple[float, float]
    rounds: tuple[int, int] = (1, 1)
    compared: str = ""
    holds: Sequence[Hold] = ()
    beside: str = ""
    kept: bool = False
    durable: bool = False
    shared: bool = False

    def has(self, subject: Subject) -> bool:
        """Say whether a subject takes part."""
        if self.shared or subject in replicas.SUBJECTS:
            return self.shared and subject in replicas.SUBJECTS
        if self.durable:
            return subject.name in ("ours, sqlite", "ours, postgres")
        return subject.store != "" or subject.name == self.beside


def runs(name: str, title: str, workload: Workload, engine: float = 0) -> Row:
    """Return the row of a workload; ours takes at least a part of the rate of the bare `engine`."""
    title = f"{title}, clients: {workload.clients}"
    holds = [Hold(ENGINE, engine), *budget(RATE)] if engine else []
    return Row(name, title, workload.measure, (1.2, 0.8), (5, 3), RATE, holds, ENGINE, kept=True)


def readers(count: int, events: int, *holds: Hold) -> Row:
    """Return the row of a run with some readers."""
    title = f"a burst of {events:,} events to {count:,} readers, and the delay at 50 events/s"
    measure = partial(turns.follow_burst, readers=count)
    return Row(f"readers-{count}", title, measure, (events, events), (2, 1), BURST, holds)


def budget(figure: str) -> list[Hold]:
    """Return what is to hold beside another commit: all that was built costs at most 8 %."""
    return [Hold(f"base, {store}", 0.92, figure, f"ours, {store}") for store in STORES]


def shares() -> list[Hold]:
    """Return what is to hold for servers that share a schema: 5 % for one, 10 % for two."""
    rates = [
        Hold(replicas.ALONE, 0.95, f"{title} runs/s", replicas.SHARING)
        for title in replicas.WORKLOADS
    ]
    cost = Hold(replicas.SHARING, 1.1, "one-step CPU ms", replicas.TWO, at_most=True)
    return [*rates, cost]


FAST_START = [Hold(YARDSTICK, 1.2, figure, at_most=True) for figure in (START, "MiB then")]
emit, march = (partial(turns.grow, unit=unit) for unit in ("event", "step"))
wait_released = partial(turns.wait, released=True)
STREAM_1_KIB = Workload("stream_1_kib", 16, 100, events=100, size=1 << 10)
STREAM_64_KIB, PROSE, PICTURE = (
    Workload(name, 16, 16, events=16, size=64 << 10)
    for name in ("stream_64_kib", "stream_64_kib_prose", "stream_64_kib_picture")
)

ROWS = (
    runs("one-step", "one-step run", Workload("one_step", 16, "done"), engine=0.62),
    runs("one-step-alone", "one-step run", Workload("one_step", 1, "done")),
    runs("21-steps", "21-step run", Workload("many_steps", 16, 21), engine=0.78),
    runs("fan-out", "100-way fan-out and join", Workload("fan_out", 16, sum(range(100)))),
    runs("stream", "run with 100 events", Workload("stream", 16, 100, events=100), engine=0.72),
    runs("stream-1-kib", "run with 100 events of 1 KiB", STREAM_1_KIB),
    runs("stream-64-kib", "run with 16 events of 64 KiB", STREAM_64_KIB),
    runs("stream-64-kib-prose", "the same, of words", PROSE),
    runs("stream-64-kib-picture", "the same, of a picture as base64", PICTURE),
    readers(1, 5_000),
    readers(50, 1_000, Hold(PEER, 25, BURST), *budget(BURST)),
    readers(1_000, 200),
    Row("quiet-streams", "quiet streams, a hundred a run", turns.keep_quiet, (5_000, 1_000)),
    Row("waiting-resident", "runs that wait for human input", turns.wait, (10_000, 500)),
    Row("waiting-released", "the same, released from memory", wait_released, (10_000, 500)),
    Row("listing", "a hundred pages of handlers", turns.list_pages, (1_000, 100), durable=True),
    Row("reading", "reading an ended run", turns.read_ended, (10_000, 5_000), (2, 1), "events/s"),
    Row("resuming", "resuming runs of 1,000 ticks", turns.resume_runs, (1_000, 50), durable=True),
    Row("start-up", "start-up", turns.start, (1, 1), (5, 3), START, FAST_START, YARDSTICK),
    Row("growth-events", "a run of many events", emit, (100_000, 50_000)),
    Row("growth-steps", "a run of many steps", march, (100_000, 3_000)),
    Row("replicas", SHARED, replicas.share, (1.2, 0.8), (9, 3), holds=shares(), shared=True),
)
AGAINST = [row for row in ROWS if any(hold.base.startswith("base") for hold in row.holds)]
