"""The build hook of hatchling, which loads it as a file by itself.

`WORKFLOW_SERVER_BUILD_UI=no` leaves the web UI as it is.
"""

import os
import runpy
from pathlib import Path
from typing import Any

from hatchling.builders.config import BuilderConfig
from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class BuildHook(BuildHookInterface[BuilderConfig]):
    """Builds the web UI, and gives the packages their installed name."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Prepare what a distribution holds.

        An editable one holds nothing, but leads to the links to this source tree; a wheel has the
        facade at the top of the package, above what `pyproject.toml` selects.
        """
        links = self._run("links.py")
        root = Path(self.root)
        if version == "editable":
            links["link"](root)
        elif self.target_name == "wheel":
            facade = root / links["FACADE"]
            # Below the name, as everything is that `sources` of pyproject.toml puts there.
            top = {str(path): path.name for path in facade.iterdir() if path.is_file()}
            build_data["force_include"].update(top)
        if os.environ.get("WORKFLOW_SERVER_BUILD_UI") == "no":
            return
        reason = self._run("web_ui.py")["build"](root)
        if reason is not None:
            self.app.display_warning(f"The web UI is not built: {reason}")

    def _run(self, name: str) -> dict[str, Any]:
        """Return what a file beside this one defines; nothing is installed yet to import it by."""
        return runpy.run_path(str(Path(self.root, "app", "packaging", name)))
