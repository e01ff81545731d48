"""What the files for Compose and Kubernetes say is what there is: settings, routes and times."""

import re
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # its stubs are a package of their own

from tests.support.documents import ROOT, read_blocks
from workflow_server.app.server import WorkflowServer
from workflow_server.app.settings import ENV_PREFIX, Settings

Json = dict[str, Any]

PROBES = {"/health", "/livez", "/readyz"}
OVERTIME = 16  # seconds after the grace: a step that is cut off, threads, and a step that blocks


@pytest.fixture(scope="module")
def manifest() -> dict[str, Json]:
    """Return the objects of the manifest in the documentation, by their kinds."""
    text = (ROOT / "docs" / "deploying.md").read_text(encoding="utf-8")
    (shown,) = [each.text for each in read_blocks(text) if "kind: Deployment" in each.text]
    return {found["kind"]: found for found in yaml.safe_load_all(shown)}


@pytest.fixture
def pod(manifest: dict[str, Json]) -> Json:
    """Return the pod of the manifest."""
    found: Json = manifest["Deployment"]["spec"]["template"]["spec"]
    return found


@pytest.fixture
def variables(pod: Json) -> dict[str, str]:
    """Return the environment of the pod; what the cluster puts in is given."""
    given = {"WORKFLOW_SERVER_STORE": "postgresql://db.internal/workflows"}
    return given | {
        each["name"]: each["value"] for each in pod["containers"][0]["env"] if "value" in each
    }


def settings_of(variables: dict[str, str]) -> Settings:
    """Return the settings that an environment gives; each must be one that there is."""
    given = {name.removeprefix(ENV_PREFIX).lower(): each for name, each in variables.items()}
    assert given.keys() <= Settings.model_fields.keys()
    return Settings.model_validate(given)


def test_the_manifest_sets_what_servers_of_one_schema_need(variables: dict[str, str]) -> None:
    settings = settings_of(variables)
    assert settings.replicas
    assert settings.advertise_address == f"http://$(POD_IP):{settings.port}"


def test_a_pod_has_the_time_to_end(pod: Json, variables: dict[str, str]) -> None:
    (command,) = [pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]]
    needed = int(command[1]) + settings_of(variables).shutdown_timeout + OVERTIME
    assert needed < pod["terminationGracePeriodSeconds"]


def test_the_probes_of_a_pod_are_routes(pod: Json) -> None:
    (container,) = pod["containers"]
    probes = {name: each["httpGet"]["path"] for name, each in container.items() if "Probe" in name}
    assert probes == {
        "startupProbe": "/readyz",
        "readinessProbe": "/readyz",
        "livenessProbe": "/livez",
    }
    assert set(probes.values()) <= PROBES & WorkflowServer().openapi_schema()["paths"].keys()


def test_the_ingress_has_the_api_and_nothing_that_is_internal(manifest: dict[str, Json]) -> None:
    (rule,) = manifest["Ingress"]["spec"]["rules"]
    listed = {each["path"] for each in rule["http"]["paths"]}
    paths = WorkflowServer().openapi_schema()["paths"]
    served = {re.match(r"/\w+", path)[0] for path in paths}  # type: ignore[index]  # all match
    assert listed == served - PROBES - {"/metrics"}


def test_the_objects_of_the_manifest_belong_together(manifest: dict[str, Json], pod: Json) -> None:
    labels = manifest["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert manifest["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert manifest["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert manifest["Service"]["spec"]["selector"] == labels
    (container,) = pod["containers"]
    assert [each["name"] for each in container["ports"]] == ["http"]
    secret = container["env"][0]["valueFrom"]["secretKeyRef"]
    assert secret["name"] == manifest["Secret"]["metadata"]["name"]
    assert secret["key"] in manifest["Secret"]["stringData"]


@pytest.fixture(scope="module")
def services() -> dict[str, Json]:
    """Return the services of the compose file."""
    text = (ROOT / "compose.yaml").read_text(encoding="utf-8")
    found: dict[str, Json] = yaml.safe_load(text)["services"]
    return found


def test_the_servers_of_the_compose_file_differ_in_what_makes_them_several(
    services: dict[str, Json],
) -> None:
    server, replica = dict(services["server"]), dict(services["replica"])
    assert replica.pop("scale") == 3
    assert replica.pop("profiles") == services["proxy"]["profiles"]
    del server["ports"]
    environment = {**server["environment"], "WORKFLOW_SERVER_REPLICAS": "true"}
    assert replica == {**server, "environment": environment}


def test_compose_brings_up_the_servers_before_the_proxy(services: dict[str, Json]) -> None:
    proxy = services["proxy"]
    assert proxy["depends_on"] == {"replica": {"condition": "service_healthy"}}
    assert proxy["ports"] == ["127.0.0.1:${PORT:-8000}:8080"]
    (mounted, target, _) = proxy["volumes"][0].split(":")
    shown = (ROOT / mounted).read_text(encoding="utf-8")
    assert target == "/etc/nginx/conf.d/default.conf"
    assert "server replica:8000 " in shown
    assert "listen 8080;" in shown
