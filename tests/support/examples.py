"""The examples on one server, under the names of their files."""

from workflows import Workflow

from examples.agent import agent
from examples.approval import approval
from examples.conversation import conversation
from examples.flaky import flaky
from examples.greeting import greeting
from examples.pipeline import pipeline
from examples.tokens import tokens
from workflow_server.app.server import WorkflowServer

EXAMPLES: dict[str, Workflow] = {
    "agent": agent,
    "approval": approval,
    "conversation": conversation,
    "flaky": flaky,
    "greeting": greeting,
    "pipeline": pipeline,
    "tokens": tokens,
}


def make_example_server() -> WorkflowServer:
    """Return a server of all examples, not started."""
    server = WorkflowServer()
    for name, workflow in EXAMPLES.items():
        server.add_workflow(name, workflow)
    return server
