"""Rows of what servers that share a schema of Postgres know of one another, as records."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from workflow_server.schemas.records import ServerRecord
from workflow_server.stores.replicas import Owner, Whereabouts
from workflow_server.stores.rows import row_to_server


def row_to_whereabouts(row: Sequence[Any]) -> Whereabouts:
    """Return where a run is, of a row of the query that finds runs."""
    run_id, has_ended, epoch, incarnation, address = row
    owner = Owner(incarnation, address) if incarnation is not None else None
    return Whereabouts(run_id, has_ended, epoch, owner)


def row_to_member(row: Sequence[Any]) -> ServerRecord:
    """Return a server with its number, of a row of the query that lists the members."""
    *server, incarnation, age = row
    described = row_to_server(server)
    return replace(described, incarnation=incarnation, heartbeat_age=age)
