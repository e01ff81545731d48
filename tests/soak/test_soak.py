"""What `make soak` watches for minutes, in seconds: an errand leaves nothing open."""

import asyncio
from pathlib import Path

import httpx
import pytest

from tests.soak.gauges import GAUGES, MIB, Sample, judge
from tests.soak.load import ERRANDS, Errand
from tests.support.live import serving
from tests.support.waiting import DEADLINE, until
from tests.support.workflows import add_all
from workflow_server.app.server import WorkflowServer

SAMPLES = 100


async def do(errand: Errand, url: str) -> None:
    """Do an errand with connections of its own."""
    async with httpx.AsyncClient(base_url=url, timeout=DEADLINE) as client:
        await errand(client)


def count_open() -> tuple[int, int]:
    """Return how many tasks and how many files there are in this process."""
    return len(asyncio.all_tasks()), len(list(Path("/dev/fd").iterdir()))


@pytest.mark.parametrize("errand", ERRANDS, ids=lambda errand: errand.__name__)
async def test_an_errand_leaves_no_task_and_no_file_open(errand: Errand, tmp_path: Path) -> None:
    server = WorkflowServer(workflow_store=f"sqlite:///{tmp_path / 'runs.db'}", idle_timeout=0.3)
    add_all(server)
    async with serving(server) as url:
        await do(errand, url)
        tasks, files = count_open()
        for _ in range(3):
            await do(errand, url)
        await until(lambda: count_open()[0] <= tasks and count_open()[1] <= files)


def level(memory: float = 80.0, files: float = 30.0, store: float = 50.0) -> Sample:
    """Return a sample."""
    return memory * MIB, files, 10, 20, store * MIB


def growing(samples: list[Sample]) -> list[str]:
    """Return the names of what goes on growing."""
    return [judgement.gauge.name for judgement in judge(samples) if not judgement.holds]


def test_what_grows_while_it_warms_up_and_then_no_more_is_a_plateau() -> None:
    assert growing([level(memory=min(40 + at, 80)) for at in range(SAMPLES)]) == []


def test_a_moment_is_no_growth() -> None:
    assert growing([level(files=900 if at in (70, 95) else 30) for at in range(SAMPLES)]) == []


@pytest.mark.parametrize(
    ("gauge", "samples"),
    [
        (GAUGES[0], [level(memory=60 + at / 4) for at in range(SAMPLES)]),
        (GAUGES[1], [level(files=20 + at / 2) for at in range(SAMPLES)]),
        (GAUGES[4], [level(store=20 + at) for at in range(SAMPLES)]),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_what_goes_on_growing_is_told(gauge: object, samples: list[Sample]) -> None:
    assert growing(samples) == [getattr(gauge, "name", None)]
