"""What an operator sees: metrics, request ids, readiness."""

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.support.calls import run


async def read_metrics(client: httpx.AsyncClient) -> dict[tuple[str, ...], float]:
    """Return all samples by name and label values."""
    text = (await client.get("/metrics")).text
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_runs_steps_events_and_commits_are_counted(client: httpx.AsyncClient) -> None:
    await run(client, "greeter", name="Ada")
    await run(client, "failer")
    metrics = await read_metrics(client)
    assert {
        "started": metrics["workflow_server_runs_started_total", "greeter"],
        "completed": metrics["workflow_server_runs_ended_total", "completed", "greeter"],
        "failed": metrics["workflow_server_runs_ended_total", "failed", "failer"],
        "steps": metrics["workflow_server_steps_total", "greet", "greeter"],
        "durations": metrics["workflow_server_run_seconds_count", "greeter"],
    } == dict.fromkeys(("started", "completed", "failed", "steps", "durations"), 1.0)
    assert metrics["workflow_server_events_total",] == 6.0
    assert metrics["workflow_server_commit_seconds_count",] >= 2.0
    assert metrics["workflow_server_uncommitted_bytes",] == 0.0


async def test_a_request_has_the_id_that_it_came_with(client: httpx.AsyncClient) -> None:
    response = await client.get("/health", headers={"X-Request-Id": "abc-1"})
    assert response.headers["x-request-id"] == "abc-1"


async def test_a_request_without_a_plain_id_gets_one(client: httpx.AsyncClient) -> None:
    response = await client.get("/health", headers={"X-Request-Id": "a b;<c>"})
    assert len(response.headers["x-request-id"]) == 16


async def test_a_server_that_runs_is_live_and_ready(client: httpx.AsyncClient) -> None:
    answers = [(await client.get(path)) for path in ("/livez", "/readyz")]
    assert [(answer.status_code, answer.json()) for answer in answers] == [
        (200, {"status": "healthy"}),
        (200, {"status": "healthy"}),
    ]
