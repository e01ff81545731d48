"""What a clone becomes: an sdist, and a wheel, with the web UI built."""

import tarfile
import zipfile
from pathlib import Path

ASSETS = "workflow_server/routers/ui_dist/assets/index-"


def test_the_wheel_of_a_clone_holds_the_built_web_ui(distributions: Path) -> None:
    [wheel] = distributions.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert "workflow_server/routers/ui_dist/index.html" in names
    assert [name for name in names if name.startswith(ASSETS)]


def test_the_sdist_of_a_clone_holds_the_built_web_ui_and_its_source(distributions: Path) -> None:
    [sdist] = distributions.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"routers/ui_dist/index.html", "ui/package.json", "ui/src/main.tsx"} <= names
    assert not [name for name in names if "node_modules" in name]
