"""What an operator sees: metrics, request ids, readiness."""

import asyncio
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from workflows import Context, Workflow, step
from workflows.events import StartEvent, StopEvent
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed

from tests.durability.faulty import Fault
from tests.durability.restarts import restarting
from tests.support.backends import opened_store
from tests.support.calls import answer, run, start, start_asker, wait_ended
from tests.support.live import serve_workflow
from tests.support.waiting import until
from tests.support.workflows import Answer
from workflow_server.app.handlers.registry import HandlerRegistry

Samples = dict[tuple[str, ...], float]


async def read_metrics(client: httpx.AsyncClient) -> Samples:
    """Return all samples, by name without the server's prefix and by label values."""
    text = (await client.get("/metrics")).text
    return {
        (
            sample.name.removeprefix("workflow_server_"),
            *(value for _, value in sorted(sample.labels.items())),
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def select(samples: Samples, *names: str) -> Samples:
    """Return the samples of these names that count anything."""
    return {key: value for key, value in samples.items() if key[0] in names and value}


class Stubborn(Workflow):
    """Fails at its first attempt, then waits for an answer."""

    def __init__(self) -> None:
        super().__init__()
        self.attempts = 0

    @step(retry_policy=retry_policy(wait=wait_fixed(0), stop=stop_after_attempt(2)))
    async def insist(self, ctx: Context, ev: StartEvent) -> StopEvent:
        self.attempts += 1
        if self.attempts == 1:
            raise ValueError("not yet")
        answered = await ctx.wait_for_event(Answer)
        return StopEvent(result=answered.text)


class Held(Workflow):
    """Waits at a gate."""

    def __init__(self) -> None:
        super().__init__(timeout=None)
        self.opened = asyncio.Event()

    @step
    async def hold(self, ev: StartEvent) -> StopEvent:
        await self.opened.wait()
        return StopEvent()


async def test_runs_steps_events_and_commits_are_counted(client: httpx.AsyncClient) -> None:
    await run(client, "greeter", name="Ada")
    await run(client, "failer")
    metrics = await read_metrics(client)
    counters = ("runs_started_total", "runs_ended_total", "run_seconds_count", "steps_total")
    assert select(metrics, *counters, "step_seconds_count", "events_total") == {
        ("runs_started_total", "greeter"): 1.0,
        ("runs_started_total", "failer"): 1.0,
        ("runs_ended_total", "completed", "greeter"): 1.0,
        ("runs_ended_total", "failed", "failer"): 1.0,
        ("run_seconds_count", "greeter"): 1.0,
        ("run_seconds_count", "failer"): 1.0,
        ("steps_total", "completed", "greet", "greeter"): 1.0,
        ("steps_total", "failed", "fail", "failer"): 1.0,
        ("step_seconds_count", "greet", "greeter"): 1.0,
        ("step_seconds_count", "fail", "failer"): 1.0,
        ("events_total",): 6.0,
    }
    assert metrics["runs_ended_total", "failed", "greeter"] == 0.0
    assert metrics["commit_seconds_count",] >= 2.0
    assert metrics["commit_rows_sum",] >= 6.0
    assert metrics["uncommitted_bytes",] == 0.0


async def test_each_attempt_of_a_step_is_counted() -> None:
    async with serve_workflow(Stubborn()) as client:
        handler_id = await start(client, "it")

        async def waits() -> bool:
            samples = select(await read_metrics(client), "steps_total")
            return ("steps_total", "waiting", "insist", "it") in samples

        await until(waits)
        await answer(client, handler_id, "yes")
        await wait_ended(client, handler_id)
        metrics = await read_metrics(client)
    assert select(metrics, "steps_total", "step_seconds_count") == {
        ("steps_total", "failed", "insist", "it"): 1.0,
        ("steps_total", "waiting", "insist", "it"): 1.0,
        ("steps_total", "completed", "insist", "it"): 1.0,
        ("step_seconds_count", "insist", "it"): 3.0,
    }


async def test_runs_that_wait_and_runs_at_work_are_told_apart(client: httpx.AsyncClient) -> None:
    await start_asker(client)
    await start(client, "sleeper")
    gauges = ("runs_idle", "runs_at_work", "runs_pending")
    expected = {("runs_idle",): 1.0, ("runs_at_work",): 1.0}

    async def told() -> bool:
        return select(await read_metrics(client), *gauges) == expected

    await until(told)


async def test_a_cancelled_run_is_counted_as_such(client: httpx.AsyncClient) -> None:
    handler_id = await start_asker(client)
    await client.post(f"/handlers/{handler_id}/cancel")
    metrics = await read_metrics(client)
    assert select(metrics, "runs_ended_total") == {("runs_ended_total", "cancelled", "asker"): 1.0}


async def test_readers_are_counted_while_they_read(client: httpx.AsyncClient) -> None:
    handler_id = await start_asker(client)
    url = f"/events/{handler_id}"
    async with (
        client.stream("GET", url, params={"after_sequence": -1}) as one,
        client.stream("GET", url, params={"after_sequence": -1, "sse": False}) as two,
    ):
        await anext(one.aiter_raw())
        await anext(two.aiter_raw())
        assert (await read_metrics(client))["readers",] == 2.0
    await until(lambda: has(client, ("readers",), 0.0))


async def has(client: httpx.AsyncClient, name: tuple[str, ...], value: float) -> bool:
    return (await read_metrics(client))[name] == value


async def test_what_the_store_refuses_and_what_is_uncommitted_is_counted(tmp_path: Path) -> None:
    held = Held()
    async with (
        opened_store(f"sqlite:///{tmp_path / 'runs.db'}") as real,
        restarting(real, held=held) as restarts,
    ):
        client = restarts.client
        await start(client, "held", "one")
        restarts.store.break_down("commit", Fault.FAIL_BEFORE)
        held.opened.set()
        await until(lambda: counts_errors(client, "commit"))
        assert (await read_metrics(client))["uncommitted_bytes",] > 0.0
        restarts.store.break_down("everything", Fault.FAIL_BEFORE)
        assert (await client.get("/handlers")).status_code == 503
        assert (await read_metrics(client))["store_errors_total", "read"] >= 1.0


async def counts_errors(client: httpx.AsyncClient, operation: str) -> bool:
    return (await read_metrics(client))["store_errors_total", operation] > 0.0


async def test_resumed_runs_are_counted_and_so_is_the_end_of_those_that_are_not(
    tmp_path: Path,
) -> None:
    async with (
        opened_store(f"sqlite:///{tmp_path / 'runs.db'}") as real,
        restarting(real, options={"on_misfit": "fail"}, held=Held(), gone=Held()) as restarts,
    ):
        await start(restarts.client, "held", "one")
        await start(restarts.client, "gone", "two")
        await restarts.restart(held=Held())
        await wait_ended(restarts.client, "two")
        await until(lambda: has(restarts.client, ("resumes_total",), 1.0))
        metrics = await read_metrics(restarts.client)
    assert select(metrics, "runs_ended_total") == {("runs_ended_total", "failed", "gone"): 1.0}


async def test_a_run_that_cannot_go_on_now_is_counted_as_held(tmp_path: Path) -> None:
    async with (
        opened_store(f"sqlite:///{tmp_path / 'runs.db'}") as real,
        restarting(real, held=Held(), gone=Held()) as restarts,
    ):
        await start(restarts.client, "held", "one")
        await start(restarts.client, "gone", "two")
        await restarts.restart(held=Held())
        await until(lambda: has(restarts.client, ("runs", "held"), 1.0))
        await until(lambda: has(restarts.client, ("runs", "working"), 1.0))
        metrics = await read_metrics(restarts.client)
    assert select(metrics, "runs") == {("runs", "working"): 1.0, ("runs", "held"): 1.0}


async def test_the_lag_of_the_event_loop_is_measured(client: httpx.AsyncClient) -> None:
    async def measured() -> bool:
        return (await read_metrics(client))["loop_lag_seconds_count",] >= 2.0

    await until(measured)


async def test_requests_are_counted_by_the_templates_of_their_routes(
    client: httpx.AsyncClient,
) -> None:
    await run(client, "greeter", name="Ada")
    await run(client, "greeter", name=1)
    await client.get("/handlers/nobody")
    metrics = select(await read_metrics(client), "http_request_seconds_count")
    assert metrics == {
        ("http_request_seconds_count", "POST", "/workflows/{name}/run", "2xx"): 1.0,
        ("http_request_seconds_count", "POST", "/workflows/{name}/run", "4xx"): 1.0,
        ("http_request_seconds_count", "GET", "/handlers/{handler_id}", "4xx"): 1.0,
    }


async def test_what_clients_make_up_never_becomes_a_label(client: httpx.AsyncClient) -> None:
    async def ask(part: str, method: str) -> Samples:
        await client.post(f"/workflows/{part}/run")
        await client.post("/workflows/greeter/run", json={"handler_id": f"a {part}"})
        await client.get(f"/handlers/{part}", headers={"X-Request-Id": part})
        await client.get(f"/events/{part}")
        await client.get(f"/{part}")
        assert (await client.request(method, "/handlers")).status_code == 405
        return await read_metrics(client)

    await client.get("/metrics")
    first, second = await ask("first", "PROPFIND"), await ask("second", "MKCOL")
    assert ("http_request_seconds_count", "other", "/handlers", "4xx") in first
    assert first.keys() == second.keys()


@pytest.mark.parametrize("path", ["/handlers", "/handlers/one"])
async def test_an_answer_that_fails_has_an_id_and_is_counted(
    client: httpx.AsyncClient, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(HandlerRegistry, "list_handlers", fail)
    monkeypatch.setattr(HandlerRegistry, "get", fail)
    response = await client.get(path, headers={"X-Request-Id": "abc-1"})
    assert (response.status_code, response.headers["x-request-id"]) == (500, "abc-1")
    counted = select(await read_metrics(client), "http_request_seconds_count")
    assert [(key[1], key[3], value) for key, value in counted.items()] == [("GET", "5xx", 1.0)]


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
