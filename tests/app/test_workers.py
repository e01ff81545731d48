"""Several workers: none of them serves, for each would have runs of its own."""

from pathlib import Path

import pytest

from tests.app.hosting import GUNICORN, GUNICORN_WORKER, UVICORN, Host, hosting, launching
from tests.support.waiting import until
from workflow_server.app.server import SEVERAL_WORKERS

TWO = {"uvicorn": (*UVICORN, "--workers", "2"), "gunicorn": (*GUNICORN, *GUNICORN_WORKER, "-w2")}
ONE = {"uvicorn": (*UVICORN, "--reload"), "gunicorn": (*GUNICORN, *GUNICORN_WORKER)}
REFUSAL = SEVERAL_WORKERS.format(2)


@pytest.mark.parametrize("store", ["memory:", "sqlite:///{folder}/runs.db"])
@pytest.mark.parametrize("manager", TWO)
async def test_several_workers_are_refused_in_one_sentence_and_their_manager_ends(
    manager: str, store: str, tmp_path: Path
) -> None:
    host = Host((*TWO[manager], "tests.app.hosted:app"))
    async with launching(host, store.format(folder=tmp_path)) as hosted:
        printed = await hosted.wait()
    assert REFUSAL in printed
    assert "StoreError" not in printed  # in a traceback; gunicorn has one of its own at times


@pytest.mark.parametrize("manager", TWO)
async def test_several_workers_whose_lifespan_does_not_run_answer_no_request(manager: str) -> None:
    host = Host((*TWO[manager], "tests.app.hosted:mounted"), "/flows")
    async with launching(host, "memory:") as hosted:
        await until(hosted.listens)
        answers = [await hosted.client.get("/handlers") for _ in range(8)]
    assert {answer.status_code for answer in answers} == {503}


@pytest.mark.parametrize("manager", ONE)
async def test_one_worker_of_a_manager_serves(manager: str) -> None:
    # With `--reload` uvicorn starts one worker whatever this says.
    variables = {"WEB_CONCURRENCY": "2"} if manager == "uvicorn" else {}
    async with hosting(Host((*ONE[manager], "tests.app.hosted:app")), "memory:", **variables) as it:
        answer = await it.client.get("/handlers")
    assert answer.status_code == 200


async def test_a_second_server_of_a_file_is_refused_in_one_sentence(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'runs.db'}"
    host = Host((*UVICORN, "tests.app.hosted:app"))
    async with hosting(host, store), launching(host, store) as second:
        printed = await second.wait()
    assert second.process.returncode != 0
    assert "runs.db is in use by another process; stop that one" in printed
    assert "Traceback" not in printed
