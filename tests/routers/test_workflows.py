"""`/workflows` over real HTTP."""

import httpx


async def test_a_run_that_completes_answers_with_the_handler_and_its_result(
    client: httpx.AsyncClient,
) -> None:
    response = await client.post(
        "/workflows/greeter/run", json={"start_event": {"name": "Ada"}, "handler_id": "h"}
    )
    handler = response.json()
    assert response.status_code == 200
    assert handler["handler_id"] == "h"
    assert handler["result"] == {
        "value": {"text": "Hello, Ada!"},
        "type": "Greeting",
        "types": ["StopEvent"],
        "qualified_name": "tests.support.workflows.Greeting",
    }
