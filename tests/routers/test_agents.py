"""The agents of llama-index-core, each with a scripted model, as they come out of the package."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx
import pytest
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent, ReActAgent
from llama_index.core.agent.workflow.workflow_events import AgentWorkflowStartEvent
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.llms.mock import MockFunctionCallingLLM

from tests.support.live import open_client
from tests.support.problems import faults_of, problem_of
from workflow_server.app.server import WorkflowServer

Json = dict[str, Any]

# Of llama-index-core, whose agents are pydantic models and ask a context whether it runs.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

NAMES = ("team", "function", "react")


def say_the_date() -> str:
    """Say the date."""
    return "2026-01-02"


class Connection:
    """An object of the program, which no JSON can carry."""


def connect() -> dict[str, list[Connection]]:
    """Open a connection."""
    return {"open": [Connection()]}


def answer_at_once(messages: Sequence[ChatMessage], **kwargs: Any) -> ChatMessage:
    """Answer as a ReAct agent's model does that needs no tool; say what it was asked."""
    asked = str(messages[-1].content)
    return ChatMessage(role="assistant", content=f"Thought: I know.\nAnswer: You said {asked}.")


@pytest.fixture
async def agents() -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of a server with an agent of each kind."""
    server = WorkflowServer()
    model = MockFunctionCallingLLM()
    function = FunctionAgent(name="f", description="Dates.", tools=[say_the_date], llm=model)
    react = ReActAgent(
        name="r",
        description="Talks.",
        tools=[say_the_date],
        llm=MockFunctionCallingLLM(response_generator=answer_at_once),
    )
    connecting = FunctionAgent(name="c", description="Connects.", tools=[connect], llm=model)
    server.add_workflow("connecting", connecting)
    server.add_workflow("team", AgentWorkflow(agents=[function]))
    server.add_workflow("function", function)
    server.add_workflow("react", react)
    async with open_client(server) as client:
        yield client


def said(response: httpx.Response) -> str:
    """Return what an agent answered."""
    assert response.status_code == 200, response.text
    blocks = response.json()["result"]["value"]["result"]["response"]["blocks"]
    return "".join(block["text"] for block in blocks)


@pytest.mark.parametrize("key", ["start_event", "kwargs"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "message", ["hi", {"role": "user", "content": "hi"}], ids=["text", "message"]
)
async def test_an_agent_starts_from_a_message(
    agents: httpx.AsyncClient, name: str, key: str, message: Any
) -> None:
    response = await agents.post(f"/workflows/{name}/run", json={key: {"user_msg": message}})
    assert said(response) == ("You said hi." if name == "react" else "Tool calls complete.")


@pytest.mark.parametrize("name", NAMES)
async def test_an_agent_starts_from_the_envelope_of_an_older_client(
    agents: httpx.AsyncClient, name: str
) -> None:
    qualified = f"{AgentWorkflowStartEvent.__module__}.AgentWorkflowStartEvent"
    marked = {"__is_pydantic": True, "value": {"user_msg": "hi"}, "qualified_name": qualified}
    response = await agents.post(f"/workflows/{name}/run", json={"start_event": marked})
    assert said(response) == ("You said hi." if name == "react" else "Tool calls complete.")


@pytest.mark.parametrize("name", NAMES)
async def test_an_agent_starts_from_a_history(agents: httpx.AsyncClient, name: str) -> None:
    history = [{"role": "user", "content": "hi"}]
    body = {"start_event": {"chat_history": history, "max_iterations": 3}}
    response = await agents.post(f"/workflows/{name}/run", json=body)
    assert said(response) == ("You said hi." if name == "react" else "Tool calls complete.")


@pytest.mark.parametrize("name", NAMES)
async def test_its_start_event_is_kept_with_all_that_run_filled_in(
    agents: httpx.AsyncClient, name: str
) -> None:
    body = {"handler_id": "h", "start_event": {"user_msg": "hi", "max_iterations": 3}}
    await agents.post(f"/workflows/{name}/run", json=body)
    kept = (await agents.get("/handlers/h")).json()["start_event"]
    assert kept["type"] == "AgentWorkflowStartEvent"
    assert kept["value"] == {
        "user_msg": "hi",
        "chat_history": None,
        "max_iterations": 3,
        "early_stopping_method": None,
    }


@pytest.mark.parametrize("name", NAMES)
async def test_its_schema_names_what_a_client_can_give(
    agents: httpx.AsyncClient, name: str
) -> None:
    schema = (await agents.get(f"/workflows/{name}/schema")).json()["start"]
    names = ["user_msg", "chat_history", "max_iterations", "early_stopping_method"]
    assert schema["title"] == "AgentWorkflowStartEvent"
    assert list(schema["properties"]) == names
    assert schema["properties"]["user_msg"]["anyOf"][0] == {"type": "string"}
    assert schema["examples"] == [{"user_msg": "Hello"}]


@pytest.mark.parametrize("name", NAMES)
async def test_its_operations_are_documented_by_the_same_names(
    agents: httpx.AsyncClient, name: str
) -> None:
    document = (await agents.get("/openapi.json")).json()
    schemas = document["components"]["schemas"]
    [described, _] = schemas[f"{name.title()}RunRequest"]["properties"]["start_event"]["anyOf"]
    names = ["user_msg", "chat_history", "max_iterations", "early_stopping_method"]
    assert list(schemas[described["$ref"].rpartition("/")[2]]["properties"]) == names
    content = document["paths"][f"/workflows/{name}/run"]["post"]["requestBody"]["content"]
    assert content["application/json"]["example"] == {"start_event": {"user_msg": "Hello"}}


@pytest.mark.parametrize("name", NAMES)
async def test_a_memory_is_an_object_that_a_client_cannot_give(
    agents: httpx.AsyncClient, name: str
) -> None:
    body = {"start_event": {"user_msg": "hi", "memory": {"messages": []}}}
    response = await agents.post(f"/workflows/{name}/run", json=body)
    assert problem_of(response) == (400, "invalid_start_event")
    assert faults_of(response) == [["body", "start_event", "memory"]]


@pytest.mark.parametrize("name", NAMES)
async def test_an_agent_that_is_told_nothing_fails_with_what_is_missing(
    agents: httpx.AsyncClient, name: str
) -> None:
    handler: Json = (await agents.post(f"/workflows/{name}/run", json={})).json()
    assert "Must provide either user_msg or chat_history" in handler["error"]


async def test_an_output_of_a_tool_that_cannot_be_written_is_named(
    agents: httpx.AsyncClient,
) -> None:
    body = {"start_event": {"user_msg": "hi"}}
    handler: Json = (await agents.post("/workflows/connecting/run", json=body)).json()
    place = "ToolCallResult.tool_output.raw_output['open'][0] (of class Connection)"
    assert f"{place} cannot be serialized." in handler["error"]
