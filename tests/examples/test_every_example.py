"""What holds for all examples: they are what the pages, the forms and the server expect."""

import runpy
from pathlib import Path

import pytest
from workflows import Workflow
from workflows.events import Event, HumanResponseEvent

EXAMPLES = Path(__file__).parents[2] / "examples"
FILES = sorted(EXAMPLES.glob("*.py"))


def workflows_in(file: Path) -> dict[str, Workflow]:
    names = runpy.run_path(str(file))
    return {name: value for name, value in names.items() if isinstance(value, Workflow)}


def public_events_of(workflow: Workflow) -> list[type[Event]]:
    """The events that a client sends or gets as a result, and so meets on the pages."""
    answers = [event for event in workflow.events if issubclass(event, HumanResponseEvent)]
    return [workflow.start_event_class, workflow.stop_event_class, *answers]


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def example(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


def test_the_examples_are_seven() -> None:
    assert [file.stem for file in FILES] == [
        "agent",
        "approval",
        "conversation",
        "flaky",
        "greeting",
        "pipeline",
        "tokens",
    ]


def test_an_example_serves_one_workflow_under_its_own_name(example: Path) -> None:
    assert list(workflows_in(example)) == [example.stem]


def test_an_example_says_what_it_shows(example: Path) -> None:
    assert runpy.run_path(str(example))["__doc__"]


def test_a_workflow_of_an_example_is_valid(example: Path) -> None:
    for workflow in workflows_in(example).values():
        workflow.validate()


def test_each_public_field_has_a_description_and_an_example(example: Path) -> None:
    bare = [
        (event.__name__, name)
        for workflow in workflows_in(example).values()
        for event in public_events_of(workflow)
        for name, field in event.model_fields.items()
        if not (field.description and field.examples)
    ]

    assert bare == []
