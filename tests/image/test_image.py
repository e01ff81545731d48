"""The image builds, runs hardened, keeps its runs, stops in time, upgrades and can be extended.

Where no registry of images is reached, bases are given with IMAGE_BUILD_OPTIONS, as are a network
or a pip.conf that only a build may see. IMAGE_OLDER names the commit to upgrade from; without it
the same image is used twice, which proves that data outlive a container, and no more. The image of
Postgres that compose.yaml wants can be another one, which POSTGRES_IMAGE names.
"""

import asyncio
import json
import os
import socket
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml  # type: ignore[import-untyped]  # its stubs are a package of their own

from tests.image.engine import (
    Container,
    build,
    build_revision,
    composed,
    inspect,
    run_once,
    running,
    running_alone,
    until,
    volume,
)
from tests.support.documents import ROOT, read_blocks
from tests.support.postgres import temporary_schema

IMAGE = "localhost/workflow-server-test"
FLOWS = Path(__file__).parent / "flows"
# What the server adds to its base, with pip for images that are built from it.
LARGEST_MIB = 75


@pytest.fixture(scope="module")
def image() -> str:
    """Return the image of this working tree."""
    return build(IMAGE)


@pytest.fixture
def port() -> int:
    """Return a free port of loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number: int = listener.getsockname()[1]
    return number


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """Return the folder that the workflow watches; a file `open` in it ends the run."""
    folder = tmp_path / "gate"
    folder.mkdir()
    folder.chmod(0o755)
    return folder


@pytest.fixture(params=["sqlite", "postgres"])
def data(request: pytest.FixtureRequest) -> Iterator[tuple[str, ...]]:
    """Yield the options that give a container a fresh store."""
    with {"sqlite": sqlite_data, "postgres": postgres_data}[request.param]() as options:
        yield options


@contextmanager
def sqlite_data() -> Iterator[tuple[str, ...]]:
    """Yield a fresh volume at /data."""
    with volume() as option:
        yield (option,)


@contextmanager
def postgres_data() -> Iterator[tuple[str, ...]]:
    """Yield the store variable of a fresh schema in this machine's Postgres."""
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        url = runner.run(stack.enter_async_context(temporary_schema()))
        try:
            yield (f"--env=WORKFLOW_SERVER_STORE={url}",)
        finally:
            runner.run(stack.aclose())


def serving_flows(gate: Path) -> tuple[str, ...]:
    """Return the options that mount the workflows, and the gate that one of them watches."""
    return (f"--volume={FLOWS}:/workflows:ro", f"--volume={gate}:/gate:ro")


def start_errand(container: Container) -> None:
    """Start the run `e` and return once it is in its long step."""
    body = {"handler_id": "e", "start_event": {"errand": "bread"}}
    url = f"{container.url}/workflows/errand/run-nowait"
    assert httpx.post(url, json=body).status_code == 200
    with httpx.stream("GET", f"{container.url}/events/e?after_sequence=-1") as stream:
        next(line for line in stream.iter_lines() if '"Walking"' in line)


def read_types(container: Container) -> list[str]:
    """Return the types of the run's events, read to the end of the stream."""
    text = httpx.get(f"{container.url}/events/e?after_sequence=-1", timeout=60).text
    lines = [line for line in text.splitlines() if line.startswith("data: ")]
    return [json.loads(line.removeprefix("data: "))["type"] for line in lines]


def get_errand(container: Container) -> dict[str, Any]:
    """Return the run's handler."""
    handler: dict[str, Any] = httpx.get(f"{container.url}/handlers/e").json()
    return handler


def test_the_image_is_configured_for_a_container(image: str) -> None:
    config = inspect(image)["Config"]
    variables = dict(entry.split("=", 1) for entry in config["Env"])
    names = ("HOST", "PORT", "STORE", "LOG_FORMAT", "SHUTDOWN_TIMEOUT")
    assert (
        config["User"],
        config["Entrypoint"],
        config["Cmd"],
        list(config["Volumes"]),
        list(config["ExposedPorts"]),
        [variables[f"WORKFLOW_SERVER_{name}"] for name in names],
    ) == (
        "10001",
        ["workflow-server"],
        ["serve", "/workflows"],
        ["/data"],
        ["8000/tcp"],
        ["0.0.0.0", "8000", "sqlite:////data/workflow-server.db", "json", "8"],
    )


def test_the_image_is_small(image: str, capsys: pytest.CaptureFixture[str]) -> None:
    ours = int(run_once(image, "du", "-sm", "/venv").stdout.split()[0])
    with capsys.disabled():
        print(f"\nimage: {inspect(image)['Size'] / 1e6:.0f} MB, of it /venv: {ours} MiB")  # noqa: T201
    assert ours < LARGEST_MIB


def test_no_build_tools_are_left(image: str) -> None:
    script = "command -v cc gcc make strip ld npm node git; pip list --format=freeze"
    found = [line.partition("==")[0] for line in run_once(image, "sh", "-c", script).stdout.split()]
    assert "workflow-server" in found
    assert not [name for name in found if name.startswith("/")]
    assert not {"setuptools", "wheel", "build", "hatchling", "editables"} & set(found)


def test_the_file_system_is_no_place_to_write_but_the_volume_and_tmp(image: str) -> None:
    folders = "for folder in / /venv /workflows /data /tmp"
    script = f'id -u; {folders}; do [ ! -w "$folder" ] || echo "$folder"; done'
    printed = run_once(image, "sh", "-c", script).stdout
    assert printed.split() == ["10001", "/data", "/tmp"]


def test_the_health_check_passes_with_the_defaults(image: str) -> None:
    checked = inspect(image)
    test = (checked.get("Healthcheck") or checked["Config"]["Healthcheck"])["Test"]
    with running_alone(image) as container:
        until(lambda: container.run(*test[1:]).returncode == 0, container.logs)
        wrong = container.run("env", "WORKFLOW_SERVER_PORT=1", *test[1:])
        assert wrong.returncode == 1


def test_a_mounted_workflow_takes_the_place_of_the_examples(
    image: str, port: int, gate: Path
) -> None:
    (gate / "open").touch()
    with running(image, port, *serving_flows(gate)) as container:
        assert httpx.get(f"{container.url}/health").json() == {"status": "healthy"}
        assert httpx.get(f"{container.url}/workflows").json() == {"workflows": ["errand"]}
        run = f"{container.url}/workflows/errand/run"
        handler = httpx.post(run, json={"start_event": {"errand": "bread"}}, timeout=60).json()
        assert handler["result"]["value"] == {"result": "bread: done"}


def test_the_web_ui_is_inside(image: str, port: int) -> None:
    with running(image, port) as container:
        assert '<script type="module"' in httpx.get(container.url).text


def test_the_log_is_json(image: str, port: int) -> None:
    with running(image, port) as container:
        container.stop()
        events = [line for line in container.logs().splitlines() if line.startswith("{")]
        assert "draining" in [json.loads(event)["event"] for event in events]


def test_a_run_in_a_long_step_goes_on_after_stop_and_start(
    image: str, port: int, gate: Path, data: tuple[str, ...]
) -> None:
    with running(image, port, *serving_flows(gate), *data) as container:
        start_errand(container)
        assert container.stop() == 0
        container.call("start")
        container.wait_ready()
        assert get_errand(container)["status"] == "running"
        (gate / "open").touch()
        types = read_types(container)
        assert (types.count("Prepared"), types[-1]) == (1, "StopEvent")
        assert get_errand(container)["result"]["value"] == {"result": "bread: done"}


def test_a_run_goes_on_after_the_container_is_killed(image: str, port: int, gate: Path) -> None:
    with sqlite_data() as data, running(image, port, *serving_flows(gate), *data) as container:
        start_errand(container)
        container.call("kill")
        container.call("start")
        container.wait_ready()
        (gate / "open").touch()
        assert read_types(container)[-1] == "StopEvent"


def test_an_open_event_stream_ends_cleanly_within_the_grace_period(
    image: str, port: int, gate: Path
) -> None:
    with running(image, port, *serving_flows(gate)) as container:
        start_errand(container)
        with httpx.stream("GET", f"{container.url}/events/e?after_sequence=-1") as stream:
            assert container.stop() == 0
            # A stream that is cut off raises here.
            assert "retry: 1000" in stream.read().decode()


def test_a_stop_while_workflows_are_imported_is_heeded(image: str, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    slow = 'import time\nprint("importing", flush=True)\ntime.sleep(600)\n'
    (tmp_path / "slow.py").write_text(slow, encoding="utf-8")
    with running_alone(image, f"--volume={tmp_path}:/workflows:ro") as container:
        until(lambda: "importing" in container.logs(), container.logs)
        assert container.stop() == 0


def test_an_older_image_s_runs_go_on_in_this_one(
    image: str, port: int, gate: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    revision = os.environ.get("IMAGE_OLDER")
    older = build_revision(f"{IMAGE}:older", revision, tmp_path) if revision else image
    with capsys.disabled():
        print(f"\nupgrade from: {revision or 'the same image, as IMAGE_OLDER is not set'}")  # noqa: T201
    with sqlite_data() as data:
        with running(older, port, *serving_flows(gate), *data) as container:
            start_errand(container)
            container.stop()  # or killed at the end of its grace: releases before draining were
        with running(image, port, *serving_flows(gate), *data) as container:
            assert get_errand(container)["status"] == "running"
            (gate / "open").touch()
            assert read_types(container)[-1] == "StopEvent"
            assert get_errand(container)["status"] == "completed"


def test_the_documented_lines_extend_the_image(image: str, port: int, tmp_path: Path) -> None:
    readme = read_blocks((ROOT / "README.md").read_text(encoding="utf-8"))
    (shown,) = (block.text for block in readme if block.kind == "dockerfile parsed")
    assert len(shown.splitlines()) == 3
    lines = shown.replace("FROM workflow-server", f"FROM {image}")
    tmp_path.chmod(0o755)
    (tmp_path / "Dockerfile").write_text(lines, encoding="utf-8")
    (tmp_path / "requirements.txt").write_text("humanize\n", encoding="utf-8")
    extended = build(f"{IMAGE}:extended", tmp_path)
    says = "import os, humanize, workflows; print(os.getuid(), humanize.intcomma(12345))"
    assert run_once(extended, "python", "-c", says).stdout == "10001 12,345\n"
    with running(extended, port) as container:
        assert "greeting" in httpx.get(f"{container.url}/workflows").json()["workflows"]


def test_the_compose_file_runs_the_image_hardened() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]
    server = services["server"]
    assert server["read_only"] is True
    assert server["cap_drop"] == ["ALL"]
    assert server["tmpfs"] == ["/tmp"]
    grace = int(server["stop_grace_period"].removesuffix("s"))
    assert int(server["environment"]["WORKFLOW_SERVER_SHUTDOWN_TIMEOUT"]) < grace
    assert server["depends_on"] == {"postgres": {"condition": "service_healthy"}}


def test_what_compose_brings_up_keeps_its_runs_in_postgres(image: str, port: int) -> None:
    url = f"http://127.0.0.1:{port}"
    with composed(url, IMAGE=image, PORT=str(port)) as compose:
        body = {"handler_id": "yacht", "start_event": {"purpose": "A yacht", "amount": 1_000_000}}
        started = httpx.post(f"{url}/workflows/approval/run-nowait", json=body)
        assert started.status_code == 200
        compose("stop")
        compose("start")
        assert httpx.get(f"{url}/handlers/yacht").json()["status"] == "running"
        answer = {"event": {"type": "Decision", "value": {"approved": True}}}
        assert httpx.post(f"{url}/events/yacht", json=answer).status_code == 200
        with httpx.stream("GET", f"{url}/events/yacht?after_sequence=-1") as stream:
            assert '"Decided"' in stream.read().decode()
