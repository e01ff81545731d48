"""Where an iterator lies in a large event, and that to look for one costs little."""

from typing import Any

from workflows.events import Event

from tests.support.counting import count_calls
from workflow_server.app.engine.places import find_iterator

ROWS = 2_000


class Table(Event):
    rows: Any


def make_table(last: Any) -> Table:
    """Return a table of which a value of the last row is given."""
    return Table(rows=[{"id": n, "tags": ["a", "b", last]} for n in range(ROWS)])


def test_an_iterator_is_found_among_many_plain_values() -> None:
    table = make_table("c")
    table.rows[-1]["tags"][-1] = iter([1])
    assert find_iterator(table) == f".rows[{ROWS - 1}]['tags'][2] (of class list_iterator)"


def test_plain_values_are_looked_at_without_a_call_for_each() -> None:
    table = make_table("c")
    assert count_calls(lambda: find_iterator(table)) < 3 * ROWS
