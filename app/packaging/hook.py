"""The build hook of hatchling, which loads it as a file by itself.

`WORKFLOW_SERVER_BUILD_UI=no` leaves the web UI as it is.
"""

import os
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.config import BuilderConfig
from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class BuildHook(BuildHookInterface[BuilderConfig]):
    """Builds the web UI before a distribution is put together."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the web UI, where there is a Node.js to do it."""
        sys.path.insert(0, self.root)
        from app.packaging import web_ui

        if os.environ.get("WORKFLOW_SERVER_BUILD_UI") == "no":
            return
        reason = web_ui.build(Path(self.root))
        if reason is not None:
            self.app.display_warning(f"The web UI is not built: {reason}")
