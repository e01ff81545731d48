"""A module that leaves a mark when it is imported."""

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

MODULE = "canary_of_the_tests"
CLASS = f"{MODULE}.Canary"

SOURCE = """
from pathlib import Path
from workflows.events import StartEvent

Path(__file__).with_name("imported").touch()


class Canary(StartEvent):
    pass
"""


@dataclass(frozen=True)
class Canary:
    """An importable module; `sings` once somebody has imported it."""

    folder: Path

    @property
    def sings(self) -> bool:
        """Whether the module was imported."""
        return MODULE in sys.modules or (self.folder / "imported").exists()


def plant_canary(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Canary:
    """Return a canary that any `import` in this process would find."""
    (folder / f"{MODULE}.py").write_text(SOURCE, encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    return Canary(folder)
