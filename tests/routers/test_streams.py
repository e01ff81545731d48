"""`GET /events/{id}` with a cursor: independent readers, each with every event in order."""

import asyncio

import httpx
import pytest

from tests.support.calls import answer, run, start, start_asker, wait_begun
from tests.support.problems import faults_of, problem_of
from tests.support.streams import iterate_frames, read_frames, read_until, take
from tests.support.waiting import DEADLINE
from tests.support.workflows import WORKFLOWS

FAR = 10**40


async def run_counter(client: httpx.AsyncClient, count: int) -> str:
    """Run `counter` to its end, and return its handler's id."""
    handler_id: str = (await run(client, "counter", count=count))["handler_id"]
    return handler_id


async def test_minus_one_is_from_the_first_event(client: httpx.AsyncClient) -> None:
    frames = await read_frames(client, await run_counter(client, 3), after_sequence=-1)
    assert [(frame.type, frame.value) for frame in frames] == [
        ("Number", {"number": 0, "text": ""}),
        ("Number", {"number": 1, "text": ""}),
        ("Number", {"number": 2, "text": ""}),
        ("StopEvent", {"result": 3}),
    ]


@pytest.mark.parametrize("after", [-1, 0, 2, 3, 5])
async def test_a_cursor_gives_what_comes_after_it(client: httpx.AsyncClient, after: int) -> None:
    handler_id = await run_counter(client, 5)
    everything = await read_frames(client, handler_id)
    frames = await read_frames(client, handler_id, after_sequence=after)
    assert frames == [frame for frame in everything if frame.sequence > after]


@pytest.mark.parametrize("after", [-2, -1000, -FAR])
async def test_a_cursor_before_the_beginning_is_the_beginning(
    client: httpx.AsyncClient, after: int
) -> None:
    handler_id = await run_counter(client, 2)
    assert await read_frames(client, handler_id, after_sequence=after) == await read_frames(
        client, handler_id
    )


@pytest.mark.parametrize("after", [100, 2**31, 2**63, 2**64, FAR])
async def test_a_cursor_beyond_the_end_of_an_ended_run_is_204(
    client: httpx.AsyncClient, after: int
) -> None:
    handler_id = await run_counter(client, 2)
    response = await client.get(f"/events/{handler_id}", params={"after_sequence": after})
    assert (response.status_code, response.content) == (204, b"")


@pytest.mark.parametrize("after", [100, 2**31, 2**63, 2**64, FAR])
async def test_a_cursor_beyond_the_end_of_a_running_run_waits_for_the_end(
    client: httpx.AsyncClient, after: int
) -> None:
    handler_id = await start_asker(client)
    params = {"after_sequence": after}
    async with client.stream("GET", f"/events/{handler_id}", params=params) as response:
        await answer(client, handler_id, "yes")
        frames = [frame async for frame in iterate_frames(response)]
    assert (response.status_code, frames) == (200, [])


@pytest.mark.parametrize("now", ["now", "NOW", "Now"])
async def test_now_gives_only_what_comes_after_the_request(
    client: httpx.AsyncClient, now: str
) -> None:
    handler_id = await start_asker(client, questions=2)
    async with client.stream(
        "GET", f"/events/{handler_id}", params={"after_sequence": now}
    ) as response:
        await answer(client, handler_id, "one")
        question = await anext(iterate_frames(response))
    assert question.value["prompt"] == "2"


async def test_now_on_an_ended_run_is_204(client: httpx.AsyncClient) -> None:
    handler_id = await run_counter(client, 2)
    response = await client.get(f"/events/{handler_id}", params={"after_sequence": "now"})
    assert (response.status_code, response.content) == (204, b"")


async def test_last_event_id_wins_over_after_sequence(client: httpx.AsyncClient) -> None:
    handler_id = await run_counter(client, 3)
    everything = await read_frames(client, handler_id)
    response = await client.get(
        f"/events/{handler_id}",
        params={"after_sequence": -1},
        headers={"Last-Event-ID": str(everything[1].sequence)},
    )
    ids = [int(line[4:]) for line in response.text.splitlines() if line.startswith("id: ")]
    assert ids == [frame.sequence for frame in everything[2:]]


async def test_last_event_id_alone_is_a_cursor(client: httpx.AsyncClient) -> None:
    handler_id = await run_counter(client, 1)
    last = (await read_frames(client, handler_id))[-1].sequence
    response = await client.get(f"/events/{handler_id}", headers={"Last-Event-ID": str(last)})
    assert response.status_code == 204


MALFORMED_IDS = ["abc", "", "1.5", "now", "0x1", "1_0", "--1", "\u0661"]


@pytest.mark.parametrize("header", MALFORMED_IDS)
async def test_a_last_event_id_that_is_no_integer_is_passed_over_for_a_cursor(
    client: httpx.AsyncClient, header: str
) -> None:
    handler_id = await run_counter(client, 2)
    response = await client.get(
        f"/events/{handler_id}",
        params={"after_sequence": -1},
        headers={b"Last-Event-ID": header.encode()},
    )
    assert response.text.count("data: ") == 3


@pytest.mark.parametrize("header", MALFORMED_IDS)
async def test_a_last_event_id_that_is_no_integer_is_refused_without_a_cursor(
    client: httpx.AsyncClient, header: str
) -> None:
    handler_id = await run_counter(client, 2)
    response = await client.get(
        f"/events/{handler_id}", headers={b"Last-Event-ID": header.encode()}
    )
    assert problem_of(response) == (400, "malformed_request")
    assert faults_of(response) == [["header", "last-event-id"]]


@pytest.mark.parametrize(
    ("header", "sequence"),
    [("9" * 5000, FAR), ("-" + "9" * 5000, -1), ("-0", 0), ("+1", 1), ("0" * 5000 + "2", 2)],
)
async def test_a_last_event_id_may_be_any_integer(
    client: httpx.AsyncClient, header: str, sequence: int
) -> None:
    handler_id = await run_counter(client, 2)
    url = f"/events/{handler_id}?include_internal=true"
    by_header = await client.get(url, headers={"Last-Event-ID": header})
    by_query = await client.get(f"{url}&after_sequence={sequence}")
    assert (by_header.status_code, by_header.text) == (by_query.status_code, by_query.text)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("after_sequence", "x"),
        ("after_sequence", "1.5"),
        ("after_sequence", ""),
        ("acquire_timeout", "-1"),
        ("acquire_timeout", "nan"),
        ("acquire_timeout", "inf"),
        ("acquire_timeout", "x"),
        ("sse", "perhaps"),
        ("include_internal", "2"),
        ("include_qualified_name", "x"),
    ],
)
async def test_a_query_that_cannot_be_is_refused_and_placed(
    client: httpx.AsyncClient, key: str, value: str
) -> None:
    handler_id = await run_counter(client, 1)
    response = await client.get(f"/events/{handler_id}", params={key: value})
    assert problem_of(response) == (400, "malformed_request")
    assert faults_of(response)[0][:2] == ["query", key]


async def test_the_connection_of_a_204_stays_usable(client: httpx.AsyncClient) -> None:
    handler_id = await run_counter(client, 1)
    limits = httpx.Limits(max_connections=1)
    async with httpx.AsyncClient(
        base_url=client.base_url, limits=limits, timeout=DEADLINE
    ) as single:
        empty = await single.get(f"/events/{handler_id}", params={"after_sequence": 100})
        after = await single.get("/health")
        stream = empty.extensions["network_stream"].get_extra_info("client_addr")
        same = after.extensions["network_stream"].get_extra_info("client_addr")
    assert (empty.status_code, after.status_code, stream == same) == (204, 200, True)


async def test_a_reader_that_comes_after_the_end_gets_everything(
    client: httpx.AsyncClient,
) -> None:
    frames = await read_frames(client, await run_counter(client, 600))
    numbers = [frame.value["number"] for frame in frames[:-1]]
    assert numbers == list(range(600))


async def test_a_reader_that_reconnects_with_its_last_id_misses_nothing(
    client: httpx.AsyncClient,
) -> None:
    handler_id = await start_asker(client, questions=3)
    seen = await take(client, handler_id, 1)
    for number in range(3):
        await answer(client, handler_id, str(number))
        seen += await take(client, handler_id, 1, after_sequence=seen[-1].sequence)
    assert [frame.value for frame in seen] == [
        {"prompt": "1"},
        {"prompt": "2"},
        {"prompt": "3"},
        {"result": ["0", "1", "2"]},
    ]


async def test_sequences_have_no_gap_when_internal_events_are_shown(
    client: httpx.AsyncClient,
) -> None:
    handler_id = await run_counter(client, 20)
    frames = await read_frames(client, handler_id, include_internal=True)
    assert [frame.sequence for frame in frames] == list(range(len(frames)))


async def test_hidden_internal_events_keep_their_sequences(client: httpx.AsyncClient) -> None:
    handler_id = await run_counter(client, 20)
    shown = await read_frames(client, handler_id)
    everything = await read_frames(client, handler_id, include_internal=True)
    assert len(shown) < len(everything)
    assert [frame for frame in everything if frame in shown] == shown


@pytest.mark.parametrize("workflow", sorted({*WORKFLOWS} - {"greeter", "typed", "one-at-a-time"}))
async def test_the_stream_of_a_cancelled_or_ended_run_ends(
    client: httpx.AsyncClient, workflow: str
) -> None:
    handler_id = await start(client, workflow)
    await client.post(f"/handlers/{handler_id}/cancel")
    frames = await read_frames(client, handler_id)
    assert "StopEvent" in [frames[-1].type, *(frames[-1].envelope["types"] or [])]


async def test_a_stop_event_of_a_nested_workflow_does_not_end_the_stream(
    client: httpx.AsyncClient,
) -> None:
    handler_id = (await run(client, "nested"))["handler_id"]
    frames = await read_frames(client, handler_id)
    assert [(frame.type, frame.value) for frame in frames] == [
        ("StopEvent", {"result": "inner"}),
        ("Number", {"number": 7, "text": ""}),
        ("StopEvent", {"result": "outer of inner"}),
    ]


async def test_a_live_reader_reads_past_the_stop_event_of_a_nested_workflow(
    client: httpx.AsyncClient,
) -> None:
    handler_id = await start(client, "nested")
    frames = await read_frames(client, handler_id)
    assert [frame.type for frame in frames] == ["StopEvent", "Number", "StopEvent"]


async def test_readers_with_cursors_are_independent(client: httpx.AsyncClient) -> None:
    handler_id = await start_asker(client)
    readers = [asyncio.create_task(read_frames(client, handler_id)) for _ in range(5)]
    await read_until(client, handler_id, lambda frame: frame.type == "Question")
    await answer(client, handler_id, "yes")
    streams = await asyncio.gather(*readers)
    assert [[frame.type for frame in frames] for frames in streams] == [
        ["Question", "StopEvent"]
    ] * 5


async def test_the_events_of_a_running_run_are_there_before_its_end(
    client: httpx.AsyncClient,
) -> None:
    handler_id = await start(client, "sleeper")
    await wait_begun(client, handler_id)
    [frame] = await take(client, handler_id, 1)
    assert frame.value == {"number": 0, "text": ""}
