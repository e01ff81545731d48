"""What the clients of a soaked server do: each errand is one of them, from its start to its end.

All that an errand leaves behind is an ended handler, which retention removes.
"""

import asyncio
import json
import random
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable

import httpx

from tests.support.bombs import TOO_MANY, repeat
from tests.support.calls import Json, answer, run, send, start, start_asker, wait_ended
from tests.support.streams import iterate_frames, read_frames, read_until, take
from tests.support.waiting import until

RELEASED = 1.0  # seconds after which an idle run has left memory
READERS = 5
PACE = 0.5  # seconds from an errand of a client to its next: what is kept then stays the same
LARGE_TEXT = 1_000_000  # characters of a result
LARGE_PAGES = 3  # of a listing, which others make longer meanwhile
LARGE_BODIES = {
    "arrays": json.loads(repeat("[]", 20_000)),
    "objects": json.loads(repeat('{"a":1}', 10_000)),
    "texts": json.loads(repeat('"a text of a client"', 20_000)),
}

Errand = Callable[[httpx.AsyncClient], Awaitable[None]]


async def run_to_the_end(client: httpx.AsyncClient) -> None:
    assert (await run(client, "greeter", name="Ada"))["status"] == "completed"


async def fan_out(client: httpx.AsyncClient) -> None:
    assert (await run(client, "fan-out", count=5))["status"] == "completed"


async def fail(client: httpx.AsyncClient) -> None:
    workflow = random.choice(["failer", "bad-result", "bad-event", "impatient"])
    assert (await run(client, workflow))["status"] == "failed"


async def read_a_stream(client: httpx.AsyncClient) -> None:
    handler_id = await start(client, "counter", count=200, padding=500)
    frames = await read_frames(client, handler_id)
    assert frames[-1].type == "StopEvent"


async def hang_up_and_read_on(client: httpx.AsyncClient) -> None:
    handler_id = await start(client, "counter", count=300, padding=1000)
    frames = await take(client, handler_id, 20)
    rest = await read_frames(client, handler_id, after_sequence=frames[-1].sequence)
    assert rest[-1].type == "StopEvent"


async def read_as_many(client: httpx.AsyncClient) -> None:
    handler_id = await start(client, "counter", count=100)
    streams = await asyncio.gather(*(read_frames(client, handler_id) for _ in range(READERS)))
    assert all(stream[-1].type == "StopEvent" for stream in streams)


async def read_without_a_cursor(client: httpx.AsyncClient) -> None:
    handler_id = await start(client, "counter", count=50)
    async with client.stream("GET", f"/events/{handler_id}") as response:
        frames = [frame async for frame in iterate_frames(response)]
    assert frames[-1].type == "StopEvent"


async def answer_questions(client: httpx.AsyncClient) -> None:
    handler_id = await start_asker(client, questions=2)
    (first,) = (await client.get(f"/handlers/{handler_id}")).json()["questions"]
    reply = {"reply_to": first["sequence"]}
    assert (await answer(client, handler_id, "yes", **reply)).status_code == 200
    assert (await answer(client, handler_id, "yes", **reply)).status_code == 409
    await read_until(client, handler_id, lambda frame: frame.value.get("prompt") == "2")
    assert (await answer(client, handler_id, "no")).status_code == 200
    assert (await wait_ended(client, handler_id))["result"]["value"]["result"] == ["yes", "no"]


async def answer_when_released(client: httpx.AsyncClient) -> None:
    handler_id = await start_asker(client, random.choice(["asker", "waiter"]))
    await asyncio.sleep(RELEASED)
    await answer(client, handler_id, "late")
    if (await client.get(f"/handlers/{handler_id}")).json()["status"] == "running":
        await client.post(f"/handlers/{handler_id}/cancel")


async def cancel(client: httpx.AsyncClient) -> None:
    workflow = random.choice(["sleeper", "retrier", "asker"])
    handler_id = await start(client, workflow)
    response = await client.post(f"/handlers/{handler_id}/cancel")
    assert response.json() == {"status": "cancelled"}


async def purge(client: httpx.AsyncClient) -> None:
    handler_id = await start(client, random.choice(["sleeper", "asker", "echo"]))
    response = await client.post(f"/handlers/{handler_id}/cancel?purge=true")
    assert response.json() == {"status": "deleted"}


async def be_cancelled_while_reading(client: httpx.AsyncClient) -> None:
    handler_id = await start(client, "sleeper")
    reading = asyncio.create_task(read_frames(client, handler_id))
    await read_until(client, handler_id, lambda _frame: True)
    await client.post(f"/handlers/{handler_id}/cancel")
    assert (await reading)[-1].type == "WorkflowCancelledEvent"


async def converse(client: httpx.AsyncClient) -> None:
    handler_id: str | None = None
    for turn in (1, 2, 3):
        body: Json = {"start_event": {}, "handler_id": handler_id}
        handler = (await client.post("/workflows/conversation/run", json=body)).json()
        handler_id = handler["handler_id"]
        assert handler["result"]["value"] == {"result": turn}


async def look_around(client: httpx.AsyncClient) -> None:
    for path in ("/handlers?limit=50", "/metrics", "/openapi.json", "/workflows", "/", "/livez"):
        answer = await client.get(path)
        assert answer.status_code == 200, (path, answer.status_code, answer.text[:200])
    await until(lambda: is_healthy(client))  # on a busy machine a store may answer late


async def is_healthy(client: httpx.AsyncClient) -> bool:
    return (await client.get("/health")).status_code == 200


async def list_what_is_large(client: httpx.AsyncClient) -> None:
    """Lists results of which a few fill a page, to its end, and then without them."""
    text = "a" * LARGE_TEXT
    prefix = f"large-{secrets.token_hex(4)}-"
    names = {f"{prefix}{number}" for number in range(2)}
    for name in names:
        body: Json = {"start_event": {"name": text}, "handler_id": name}
        assert (await client.post("/workflows/greeter/run", json=body)).status_code == 200
    cursor: str | None = None
    for _ in range(LARGE_PAGES):
        params = {"workflow_name": "greeter", **({"cursor": cursor} if cursor else {})}
        page = (await client.get("/handlers", params=params)).json()
        cursor = page["next_cursor"]
        if cursor is None:
            break
    query = {"fields": "status", "handler_id_prefix": prefix}
    listed = (await client.get("/handlers", params=query)).json()["handlers"]
    left_out = names - {handler["handler_id"] for handler in listed}
    for name in left_out:  # removed by retention meanwhile, where the machine is busy
        assert (await client.get(f"/handlers/{name}")).status_code == 404


async def send_what_is_large(client: httpx.AsyncClient) -> None:
    """Sends bodies of as many values as are taken, and of more."""
    values = random.choice(list(LARGE_BODIES))
    handler = await run(client, "echo", thing=LARGE_BODIES[values])
    assert handler["status"] == "completed"
    body = b'{"start_event":{"thing":%b}}' % TOO_MANY["empty arrays"].encode()
    assert (await client.post("/workflows/echo/run", content=body)).status_code == 413


async def read_steps(client: httpx.AsyncClient) -> None:
    handler_id = (await run(client, "fan-out", count=20))["handler_id"]
    steps = (await client.get(f"/handlers/{handler_id}/steps?limit=50")).json()["steps"]
    assert {step["status"] for step in steps} == {"completed"}


async def be_refused(client: httpx.AsyncClient) -> None:
    assert (await client.get("/handlers/nobody")).status_code == 404
    assert (await client.post("/workflows/greeter/run", content=b"{")).status_code == 400
    assert (await send(client, "nobody", "Answer", {})).status_code == 404


ERRANDS: tuple[Errand, ...] = (
    run_to_the_end,
    fan_out,
    fail,
    read_a_stream,
    hang_up_and_read_on,
    read_as_many,
    read_without_a_cursor,
    answer_questions,
    answer_when_released,
    cancel,
    purge,
    be_cancelled_while_reading,
    converse,
    look_around,
    list_what_is_large,
    send_what_is_large,
    read_steps,
    be_refused,
)


class Load:
    """Clients that do one errand after the other."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self._open = True
        self.done: Counter[str] = Counter()

    async def go_on(self) -> None:
        """Do errands until `stop`, at a steady pace; one that fails raises."""
        loop = asyncio.get_running_loop()
        while self._open:
            due = loop.time() + PACE
            errand = random.choice(ERRANDS)
            await errand(self._client)
            self.done[errand.__name__] += 1
            await asyncio.sleep(due - loop.time())

    def stop(self) -> None:
        """Let each client end its errand."""
        self._open = False
