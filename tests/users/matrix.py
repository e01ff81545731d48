"""The matrix of types in `docs/values.md`: `python -m tests.users.matrix` writes it there."""

import json
import warnings
from pathlib import Path
from typing import Any

from tests.users.cases import CASES, FAILED
from tests.users.files.equality import describe
from tests.users.files.kinds import KINDS
from tests.values.unfaithful import UNFAITHFUL
from workflow_server.app.engine.values.codec import Codec
from workflow_server.app.engine.values.faults import NotFaithful

PAGE = Path(__file__).parents[2] / "docs" / "values.md"
BEGIN, END = "<!-- made by tests/users/matrix.py: -->\n", "<!-- until here -->\n"
LONGEST = 60  # characters of a result


def make_page(page: str) -> str:
    """Return the page with the tables as they are now."""
    head, _, rest = page.partition(BEGIN)
    return f"{head}{BEGIN}{_make_tables()}{END}{rest.partition(END)[2]}"


def _make_tables() -> str:
    kinds = [f"| {name} | {_come_back(value)} | {_result(name)} |" for name, value in KINDS.items()]
    others = [f"| {name} | {_come_back(value)} |" for name, (value, _) in UNFAITHFUL.items()]
    return "\n".join(
        [
            "",
            "| a value that is, or holds | in state, event and waiter | as a result, in JSON |",
            "|---|---|---|",
            *kinds,
            "",
            "| a value that is, or holds | what `not_resumable_because` says of it |",
            "|---|---|",
            *others,
            "",
            "",
        ]
    )


def _come_back(value: Any) -> str:
    codec = Codec()
    try:
        again = codec.deserialize(codec.serialize(value))
    except NotFaithful as fault:
        return str(fault)
    return "the same" if describe(again) == describe(value) else "another"


def _result(kind: str) -> str:
    result = CASES[f"{kind} in result"].expected
    if result == FAILED:
        return "the run fails, and names it"
    with warnings.catch_warnings(action="ignore"):
        text = json.dumps(result).replace("|", "\\|")
    return f"`{text}`" if len(text) <= LONGEST else f"`{text[:LONGEST]}` …"


if __name__ == "__main__":
    PAGE.write_text(make_page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
