"""A wall clock for one process that can be set while it runs, by libfaketime."""

import os
from pathlib import Path

import pytest

FOLDERS = ("/usr/lib/x86_64-linux-gnu/faketime", "/usr/lib/aarch64-linux-gnu/faketime")


class FakeWallClock:
    """The wall clock of the processes that have `variables`; their monotonic clock goes on."""

    def __init__(self, folder: Path) -> None:
        library = next(
            (path for name in FOLDERS if (path := Path(name, "libfaketime.so.1")).exists()), None
        )
        if library is None:
            if os.environ.get("REQUIRE_ALL") == "1":
                pytest.fail("libfaketime is not installed")
            pytest.skip("libfaketime is not installed")
        self._file = folder / "offset"
        self.set_by(0)
        self.variables = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

    def set_by(self, seconds: int) -> None:
        """Set the clock to the true time and so many seconds, back where they are negative."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{seconds:+d}s\n", encoding="utf-8")
        fresh.replace(self._file)
