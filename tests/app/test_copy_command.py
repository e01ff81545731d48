"""`workflow-server copy`: what it says, what it refuses, and that its copy is served."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.command import run_command, serving, write_echo
from tests.support.copied import fill, make_content, read_tables

FROM, TO = "sqlite:///from.db", "sqlite:///to.db"


def copy(folder: Path, *options: str, source: str = FROM, target: str = TO) -> tuple[int, str, str]:
    """Return the status of the command, and what it prints."""
    result = run_command(folder, "copy", "--from", source, "--to", target, *options)
    return result.returncode, result.stdout, result.stderr


async def test_what_was_copied_and_compared_is_told_in_one_line(tmp_path: Path) -> None:
    await fill(f"sqlite:///{tmp_path}/from.db", make_content(10))
    what = f"12 runs with 36 events (0.0 MB); all are the same in {FROM} and {TO}.\n"
    assert copy(tmp_path) == (0, f"Copied {what}", "")
    assert copy(tmp_path, "--verify-only") == (0, f"Compared {what}", "")
    tables = [await read_tables(f"sqlite:///{tmp_path}/{name}.db") for name in ("from", "to")]
    assert tables[0] == tables[1]


async def test_a_second_copy_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    await fill(f"sqlite:///{tmp_path}/from.db", make_content(10))
    copy(tmp_path)
    refusal = f"Error: {TO} has runs already: copy into an empty store.\n"
    assert copy(tmp_path) == (2, "", refusal)
    assert copy(tmp_path, "--verify-only")[0] == 0


def test_a_store_that_is_served_is_not_copied(tmp_path: Path) -> None:
    write_echo(tmp_path / "flows.py", "echo = Echo()")
    with serving(tmp_path, "flows.py", "--store", FROM):
        status, output, errors = copy(tmp_path)
    assert (status, output) == (2, "")
    assert errors.startswith("Error: from.db is in use by another process; stop that one")
    assert not (tmp_path / "to.db").exists()


def test_a_copy_that_was_cut_off_is_not_served(tmp_path: Path) -> None:
    """Until the command has come to its end."""
    write_echo(tmp_path / "flows.py", "echo = Echo()")
    run_command(tmp_path, "migrate", "--store", FROM)
    run_command(tmp_path, "migrate", "--store", TO)
    note(tmp_path / "to.db")
    refused = run_command(tmp_path, "serve", "--port", "0", "flows.py", "--store", TO)
    assert (refused.returncode, refused.stderr) == (
        2,
        "Error: The store is an unfinished copy of from: finish it with `workflow-server copy`, or"
        " choose another store.\n",
    )
    assert copy(tmp_path)[0] == 0
    with serving(tmp_path, "flows.py", "--store", TO):
        pass


def note(file: Path) -> None:
    """Note that a copy into a store is under way, as one that was killed has."""
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("INSERT INTO copies (id, source) VALUES (1, 'from')")


@pytest.mark.parametrize(
    ("source", "target", "options", "sentence"),
    [
        (FROM, TO, [], "--from is sqlite:///from.db, where there is no store."),
        ("memory:", TO, [], "--from is memory:, which is gone when its server ends."),
        (FROM, "MEMORY:", [], "--to is MEMORY:, which is gone when its server ends."),
        (FROM, FROM, [], "--from and --to are the same store, sqlite:///from.db."),
        ("here", TO, [], "The store's URL must begin with its scheme; known are memory:, sqlite:, "
         "postgresql:, postgres:"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_in_one_sentence_and_makes_no_file(
    source: str, target: str, options: list[str], sentence: str, tmp_path: Path
) -> None:
    result = copy(tmp_path, *options, source=source, target=target)
    assert result == (2, "", f"Error: {sentence}\n")
    assert list(tmp_path.iterdir()) == []


def test_only_a_store_that_is_there_is_compared(tmp_path: Path) -> None:
    run_command(tmp_path, "migrate", "--store", FROM)
    refusal = "Error: --to is sqlite:///to.db, where there is no store.\n"
    assert copy(tmp_path, "--verify-only") == (2, "", refusal)
    assert not (tmp_path / "to.db").exists()
