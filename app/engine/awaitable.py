"""Events that the runs of a workflow can wait for, and which of them come from outside."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from workflows import Workflow
from workflows.decorators import StepConfig
from workflows.events import Event, HumanResponseEvent, StartEvent, StopEvent

from workflow_server.app.engine.codec import qualified_name
from workflow_server.app.engine.event_schemas import JsonSchema, describe
from workflow_server.app.engine.waiters import Waiter


class AwaitableEvents:
    """The events of one workflow, by who sends and who takes them."""

    def __init__(self, workflow: Workflow, declared: Iterable[type[Event]]) -> None:
        self._workflow = workflow
        self._classes = {qualified_name(event_class): event_class for event_class in declared}
        self._schemas: dict[type[Event], JsonSchema] = {}

    @cached_property
    def outside(self) -> Mapping[type[Event], Sequence[str]]:
        """The events that steps take and no step makes, each with its steps.

        A `HumanResponseEvent` is one of them in any case.
        """
        configs = self._configs
        made = {kind for config in configs.values() for kind in config.return_types}
        found: dict[type[Event], list[str]] = {}
        for step, config in configs.items():
            for kind in config.accepted_events:
                if _comes_from_outside(kind, config, made):
                    found.setdefault(kind, []).append(step)
        # People's answers first: another event may be one that a step sends without saying so.
        return dict(sorted(found.items(), key=lambda item: not _is_answer(item[0])))

    def is_awaited(self, event: Event, waiters: Sequence[Waiter]) -> bool:
        """Return whether a run with these open waiters waits for an event.

        While it waits for events of particular classes, one that goes from step to step is not
        among those that it waits for.
        """
        if any(waiter.takes(event) for waiter in waiters):
            return True
        kind = type(event)
        return any(
            (kind is taken or (config.accept_event_subclasses and issubclass(kind, taken)))
            and (not waiters or taken in self.outside)
            for config in self._configs.values()
            for taken in config.accepted_events
            if isinstance(taken, type)
        )

    def find(self, name: str) -> type[Event] | None:
        """Return the class of a qualified name, if it is loaded; nothing is imported."""
        found = self._classes.get(name) or _find_loaded(name)
        if found is not None:
            self._classes[name] = found
        return found

    def describe(self, event_class: type[Event]) -> JsonSchema:
        """Return the JSON Schema of an event, made once."""
        schema = self._schemas.get(event_class)
        if schema is None:
            schema = self._schemas[event_class] = describe(event_class)
        return schema

    @property
    def _configs(self) -> Mapping[str, StepConfig]:
        return {
            name: function._step_config for name, function in self._workflow._get_steps().items()
        }


def _is_answer(kind: type[Event]) -> bool:
    return issubclass(kind, HumanResponseEvent)


def _comes_from_outside(kind: Any, config: StepConfig, made: set[Any]) -> bool:
    """Return whether an event that a step takes is sent to the run, and made by no other step."""
    if config.role != "step" or not isinstance(kind, type):
        return False
    if not issubclass(kind, Event) or issubclass(kind, (StartEvent, StopEvent)):
        return False
    if _is_answer(kind):
        return True
    related = (one for one in made if isinstance(one, type))
    if config.accept_event_subclasses:
        return not any(issubclass(one, kind) for one in related)
    return kind not in made


def _find_loaded(name: str) -> type[Event] | None:
    """Return the class of a qualified name among all that there are in the process."""
    pending: list[type[Event]] = [Event]
    while pending:
        for event_class in pending.pop().__subclasses__():
            if qualified_name(event_class) == name:
                return event_class
            pending.append(event_class)
    return None
