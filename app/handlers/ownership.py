"""Ownership: what one principal sees and may do of the handlers that the registry holds."""

from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, Literal

from app.access import Principal, Scope
from app.engine.served import ServedWorkflow
from app.errors import Forbidden
from app.handlers.reads import HandlerPage, RunPage
from app.handlers.registry import HandlerRegistry
from app.runs.run import LiveRun
from app.streams.subscription import Subscription
from schemas.handlers import RunRequest
from schemas.records import HandlerQuery, RunPosition, RunRecord, handler_key


class Handlers:
    """The handlers of a principal's tenant; those of others do not exist here.

    Each method is the registry's of the same name, by the ids that the tenant knows.
    """

    def __init__(self, registry: HandlerRegistry, principal: Principal) -> None:
        self._registry = registry
        self._principal = principal

    def start_run(
        self, workflow: ServedWorkflow, request: RunRequest
    ) -> Coroutine[Any, Any, LiveRun]:
        """Start a run, of a new handler or of an ended one."""
        return self._registry.start_run(workflow, request, tenant=self._principal.tenant)

    def get(self, handler_id: str, *, run_id: str | None = None) -> Coroutine[Any, Any, RunRecord]:
        """Return a run of a handler."""
        return self._registry.get(self._key(handler_id), run_id=run_id)

    def list_handlers(self, query: HandlerQuery) -> Coroutine[Any, Any, HandlerPage]:
        """Return a page of handlers."""
        return self._registry.list_handlers(replace(query, tenant=self._principal.tenant))

    def list_runs(
        self, handler_id: str, *, after: RunPosition | None, limit: int
    ) -> Coroutine[Any, Any, RunPage]:
        """Return a page of a handler's runs."""
        return self._registry.list_runs(self._key(handler_id), after=after, limit=limit)

    def send_event(
        self,
        handler_id: str,
        data: dict[str, Any] | str,
        *,
        step: str | None,
        reply_to: int | None,
    ) -> Coroutine[Any, Any, None]:
        """Send an event into a handler's run."""
        return self._registry.send_event(self._key(handler_id), data, step=step, reply_to=reply_to)

    def cancel(
        self, handler_id: str, *, purge: bool
    ) -> Coroutine[Any, Any, Literal["cancelled", "deleted"]]:
        """Stop a handler; to purge it takes the scope `admin`."""
        if purge:
            self._principal.require(Scope.ADMIN)
        return self._registry.cancel(self._key(handler_id), purge=purge)

    def subscribe(
        self, handler_id: str, *, after: int | Literal["now"], run_id: str | None = None
    ) -> Coroutine[Any, Any, Subscription]:
        """Return a reader of a run's events after a cursor."""
        return self._registry.subscribe(self._key(handler_id), after=after, run_id=run_id)

    def subscribe_shared(
        self, handler_id: str, *, acquire_timeout: float, run_id: str | None = None
    ) -> Coroutine[Any, Any, Subscription]:
        """Return the reader that holds a run's shared reading position."""
        return self._registry.subscribe_shared(
            self._key(handler_id), acquire_timeout=acquire_timeout, run_id=run_id
        )

    def render_metrics(self) -> tuple[bytes, str]:
        """Return the metrics, which count the runs of all tenants and so are for none of them."""
        if self._principal.tenant:
            raise Forbidden(
                "The metrics count the runs of all tenants; they take a credential without one."
            )
        return self._registry.render_metrics()

    def _key(self, handler_id: str) -> str:
        return handler_key(self._principal.tenant, handler_id)
