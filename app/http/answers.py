"""Answers to clients that are not to be answered as HTTP/1.1 has it in general."""

from typing import Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


def answer_without_chunks(cycle: RequestResponseCycle) -> None:
    """Let an answer without a length end with its connection: HTTP/1.0 knows no chunks.

    RFC 9112, sections 6.1 and 6.3. Such a client is not asked to go on with its body either
    (RFC 9110, section 10.1.1).
    """
    send = cycle.send
    unbounded = False

    async def send_plainly(message: Any) -> None:
        nonlocal unbounded
        if message["type"] == "http.response.start":
            unbounded = all(name.lower() != b"content-length" for name, _ in message["headers"])
            if unbounded:
                cycle.chunked_encoding = False
        elif unbounded:
            cycle.expected_content_length = len(message.get("body", b""))
        await send(message)

    cycle.waiting_for_100_continue = False
    cycle.send = send_plainly  # type: ignore[method-assign]  # of this answer alone


def answer_before_the_body(cycle: RequestResponseCycle) -> None:
    """Let the connection end with an answer that comes before the body was asked for.

    A client that has sent `Expect: 100-continue` may send its body all the same, or not: what comes
    next could be either (RFC 9110, section 10.1.1).
    """
    send = cycle.send

    async def send_last(message: Any) -> None:
        if cycle.waiting_for_100_continue and cycle.more_body:
            cycle.keep_alive = False
        await send(message)

    cycle.send = send_last  # type: ignore[method-assign]  # of this answer alone
