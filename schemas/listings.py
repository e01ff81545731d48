"""Listings: what is asked for, where a page begins, and what it has."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from workflow_server.schemas.records import Phase, RunRecord, Status

Document = Literal["start_event", "result"]
Documents = frozenset[Document]
ALL_DOCUMENTS: Documents = frozenset({"start_event", "result"})


@dataclass(frozen=True, slots=True)
class HandlerPosition:
    """The place of a handler in listings, of either order: a keyset cursor."""

    created_at: datetime
    handler_id: str


@dataclass(frozen=True, slots=True)
class RunPosition:
    """The place of a run among the runs of its handler, newest first: a keyset cursor."""

    started_at: datetime
    run_id: str


@dataclass(frozen=True, slots=True)
class ListedRuns:
    """Some runs of a listing in order; `is_last` where there are none after them."""

    records: Sequence[RunRecord]
    is_last: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlerQuery:
    """Query of a listing of a tenant's handlers; empty filters let everything pass.

    An empty `tenant` asks for the handlers that have none. `waiting` lets only running ones with
    an open question pass. `started_after` and `started_before` are compared with the `started_at`
    of the current run, and let no run pass that began at that very time. `documents` are those that
    the records have; the others are None.
    """

    statuses: frozenset[Status] = frozenset()
    phases: frozenset[Phase] = frozenset()
    workflow_names: frozenset[str] = frozenset()
    waiting: bool = False
    started_after: datetime | None = None
    started_before: datetime | None = None
    handler_id_prefix: str = ""
    oldest_first: bool = False
    documents: Documents = ALL_DOCUMENTS
    after: HandlerPosition | None = None
    limit: int
    tenant: str = ""
