"""Settings come from flags, variables and defaults, and bad ones are told in a sentence."""

import re

import pytest

from workflow_server.app.settings import (
    ENV_PREFIX,
    Limits,
    ServiceSettings,
    Settings,
    SettingsError,
    load_settings,
)


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in Settings.model_fields:
        monkeypatch.delenv(ENV_PREFIX + field.upper(), raising=False)


def test_the_defaults_are_those_of_the_readme() -> None:
    assert load_settings().model_dump() == {
        "host": "127.0.0.1",
        "port": 8000,
        "store": "sqlite:///workflow-server.db",
        "persistence_backoff": (0.5, 3.0),
        "idle_timeout": 60.0,
        "max_resumes": 5,
        "on_misfit": "hold",
        "retention": None,
        "keep_history": True,
        "sse_heartbeat_interval": 25.0,
        "api_keys_file": None,
        "api_keys": None,
        "jwt_issuer": None,
        "jwt_audience": None,
        "jwt_jwks": None,
        "jwt_algorithms": ("RS256", "PS256", "ES256", "EdDSA"),
        "jwt_scopes_claim": "scope",
        "jwt_scope_prefix": "",
        "jwt_tenant_claim": None,
        "allowed_hosts": (),
        "trusted_proxies": (),
        "cors_origins": (),
        "cors_origin_pattern": None,
        "max_body_size": 10_485_760,
        "max_body_values": 200_000,
        "max_event_size": 10_485_760,
        "max_header_size": 32_768,
        "max_connections": 10_000,
        "client_timeout": 60.0,
        "max_runs": 1_000,
        "max_runs_per_workflow": 0,
        "max_pending_runs": 10_000,
        "max_streams": 10_000,
        "max_streams_per_client": 1_000,
        "rate_limit": 0.0,
        "rate_burst": 100,
        "max_refusals": 100,
        "replicas": False,
        "advertise_address": None,
        "code_version": None,
        "heartbeat": 1.0,
        "stale_after": 5.0,
        "shutdown_timeout": 10.0,
        "root_path": "",
        "loop": "auto",
        "log_level": "info",
        "log_format": "text",
        "log_tracebacks": None,
        "debug": False,
    }


def test_every_setting_is_described() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_a_flag_wins_over_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKFLOW_SERVER_PORT", "8001")
    monkeypatch.setenv("WORKFLOW_SERVER_HOST", "0.0.0.0")

    settings = load_settings(port=8002)

    assert (settings.host, settings.port) == ("0.0.0.0", 8002)


@pytest.mark.parametrize("value", ["0.1, 2", "[0.1, 2]", "0.1,2,"])
def test_a_list_in_a_variable_is_comma_separated_or_json(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKFLOW_SERVER_PERSISTENCE_BACKOFF", value)
    assert load_settings().persistence_backoff == (0.1, 2.0)


def test_one_origin_in_a_variable_is_a_list_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKFLOW_SERVER_CORS_ORIGINS", "https://a.example")
    assert load_settings().cors_origins == ("https://a.example",)


@pytest.mark.parametrize(
    "url", ["http://10.0.0.7:8000", "https://flows.internal/", "http://[::1]:1"]
)
def test_the_others_are_told_a_url(url: str) -> None:
    assert load_settings(advertise_address=url).advertise_address == url


@pytest.mark.parametrize(
    "text",
    ["10.0.0.7:8000", "flows.internal", "http://:8000", "http://fd00::7:8000", "http://a/flows"],
)
def test_an_address_that_the_others_cannot_use_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match=r"\A--advertise-address cannot be .+: it is no URL"):
        load_settings(advertise_address=text)


def test_an_empty_variable_counts_as_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKFLOW_SERVER_PORT", "")
    assert load_settings().port == 8000


def test_a_service_link_of_kubernetes_is_no_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKFLOW_SERVER_PORT", "tcp://10.0.0.1:80")
    assert load_settings().port == 8000


def test_a_log_level_may_be_in_capitals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKFLOW_SERVER_LOG_LEVEL", "WARNING")
    assert load_settings().log_level == "warning"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("port", "eighty"),
        ("port", "65536"),
        ("persistence_backoff", "1,-1"),
        ("persistence_backoff", "[1"),
        ("idle_timeout", "inf"),
        ("on_misfit", "forget"),
        ("cors_origin_pattern", "("),
        ("max_body_size", "0"),
        ("max_body_values", "0"),
        ("log_level", "loud"),
        ("loop", "trio"),
        ("debug", "perhaps"),
    ],
)
def test_a_bad_variable_is_told_in_one_line_that_names_it(
    field: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable = ENV_PREFIX + field.upper()
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=rf"\A{variable} cannot be .+\. It is: .+\.\Z"):
        load_settings()


def test_a_bad_flag_of_another_spelling_is_told_by_its_own_name() -> None:
    with pytest.raises(SettingsError, match=r"\A--cors-origin cannot be 3: "):
        load_settings(cors_origins=3)


def test_the_limits_are_settings_of_the_service_and_those_are_settings() -> None:
    fields = [set(model.model_fields) for model in (Limits, ServiceSettings, Settings)]
    assert fields[0] < fields[1] < fields[2]


def test_a_bad_flag_is_told_by_the_name_of_the_flag() -> None:
    sentence = (
        "--max-body-size cannot be '0': Input should be greater than or equal to 1. "
        "It is: Largest request body that is taken, in bytes."
    )
    with pytest.raises(SettingsError, match=rf"\A{re.escape(sentence)}\Z"):
        load_settings(max_body_size="0")
