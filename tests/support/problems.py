"""Problem responses, checked for their shape."""

import httpx

KEYS = {"type", "title", "status", "detail", "code", "errors"}


def problem_of(response: httpx.Response) -> tuple[int, str]:
    """Return status and code of a problem, which must be shaped as RFC 9457 has it."""
    body = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    assert set(body) == KEYS
    assert body["type"] == "about:blank"
    assert body["status"] == response.status_code
    assert body["title"]
    assert body["detail"].endswith(".")
    assert len(body["detail"].split()) > 3
    return response.status_code, body["code"]


def faults_of(response: httpx.Response) -> list[list[str | int]]:
    """Return the places of the faults of a malformed request."""
    return [fault["loc"] for fault in response.json()["errors"]]
