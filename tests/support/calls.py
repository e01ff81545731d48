"""What nearly every test asks of the service."""

from typing import Any

import httpx

from tests.support.streams import read_until
from tests.support.waiting import until

Json = dict[str, Any]


async def start(
    client: httpx.AsyncClient, workflow: str, handler_id: str | None = None, **fields: Any
) -> str:
    """Start a run from a start event of these fields, and return its handler's id."""
    response = await client.post(
        f"/workflows/{workflow}/run-nowait",
        json={"start_event": fields, "handler_id": handler_id},
    )
    assert response.status_code == 200, response.text
    started: str = response.json()["handler_id"]
    return started


async def run(client: httpx.AsyncClient, workflow: str, **fields: Any) -> Json:
    """Run a workflow from a start event of these fields, and return its handler."""
    response = await client.post(f"/workflows/{workflow}/run", json={"start_event": fields})
    handler: Json = response.json()
    return handler


async def send(
    client: httpx.AsyncClient, handler_id: str, event: str, value: Json, **body: Any
) -> httpx.Response:
    """Send an event into a run."""
    return await client.post(
        f"/events/{handler_id}", json={"event": {"type": event, "value": value}, **body}
    )


async def answer(
    client: httpx.AsyncClient, handler_id: str, text: str, **body: Any
) -> httpx.Response:
    """Send an `Answer` into a run."""
    return await send(client, handler_id, "Answer", {"text": text}, **body)


async def phase_of(client: httpx.AsyncClient, handler_id: str) -> str:
    """Return where a handler's run stands."""
    phase: str = (await client.get(f"/handlers/{handler_id}")).json()["phase"]
    return phase


async def wait_phase(client: httpx.AsyncClient, handler_id: str, phase: str) -> None:
    """Return once a handler's run stands there."""

    async def stands_there() -> bool:
        return await phase_of(client, handler_id) == phase

    await until(stands_there)


async def get_status(client: httpx.AsyncClient, handler_id: str) -> str:
    """Return a handler's status."""
    status: str = (await client.get(f"/handlers/{handler_id}")).json()["status"]
    return status


async def wait_ended(client: httpx.AsyncClient, handler_id: str) -> Json:
    """Return the handler once its run has ended."""

    async def ended() -> bool:
        return await get_status(client, handler_id) != "running"

    await until(ended)
    handler: Json = (await client.get(f"/handlers/{handler_id}")).json()
    return handler


async def wait_question(client: httpx.AsyncClient, handler_id: str, prompt: str) -> int:
    """Return the sequence of the question with this prompt, once it is asked."""
    frames = await read_until(client, handler_id, lambda frame: frame.value.get("prompt") == prompt)
    return frames[-1].sequence


async def wait_begun(client: httpx.AsyncClient, handler_id: str) -> None:
    """Return once the run has written its first event."""
    await read_until(client, handler_id, lambda _frame: True)


async def start_asker(client: httpx.AsyncClient, workflow: str = "asker", **fields: Any) -> str:
    """Start a run that asks, and return its handler's id when it waits for the first answer."""
    handler_id = await start(client, workflow, **fields)
    await read_until(client, handler_id, lambda frame: frame.type == "Question")
    return handler_id


async def result_of(client: httpx.AsyncClient, handler_id: str) -> Any:
    """Return the result of a run, once it has ended."""
    handler = await wait_ended(client, handler_id)
    assert handler["error"] is None
    return handler["result"]["value"]["result"]
