"""The settings of a server, from flags, `WORKFLOW_SERVER_*` variables and defaults."""

import json
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from workflow_server.app.origin_patterns import compile_origin_pattern
from workflow_server.app.sharing import Sharing
from workflow_server.schemas.hosts import read_host, read_network

ENV_PREFIX = "WORKFLOW_SERVER_"
MIB = 1024 * 1024

DURATION = re.compile(r"(?P<number>\d+(\.\d+)?)(?P<unit>[smhdw])")
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]
LogFormat = Literal["text", "json"]
LogLevel = Literal["debug", "info", "warning", "error", "critical"]
Loop = Literal["auto", "uvloop", "asyncio"]
OnMisfit = Literal["hold", "fail"]

# Flags that are not spelled as their settings are; None where a setting has no flag.
FLAGS: dict[str, str | None] = {
    "api_keys_file": "--api-keys",
    "api_keys": None,
    "allowed_hosts": "--allowed-host",
    "cors_origins": "--cors-origin",
    "trusted_proxies": "--trusted-proxy",
}


def _split_list(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return json.loads(value)
    return [item.strip() for item in value.split(",") if item.strip()]


CommaSeparated = BeforeValidator(_split_list)


class SettingsError(ValueError):
    """A setting has a value that cannot be; the sentence names the setting and the fix."""


class Limits(BaseModel):
    """Limits on what clients and runs take up of a server."""

    # Built when it is first used: a server that starts uses one of the three classes.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)

    max_body_size: int = Field(
        default=10 * MIB,
        ge=1,
        description="Largest request body that is taken, in bytes.",
    )
    max_body_values: int = Field(
        default=200_000,
        ge=1,
        description="Most JSON values, and names of members, that a request body may have.",
    )
    max_event_size: int = Field(
        default=10 * MIB,
        ge=1024,
        description="Largest event that is sent, or written by a step, in bytes of JSON.",
    )
    max_header_size: int = Field(
        default=32 * 1024,
        ge=1024,
        description="Largest request line and headers that are taken together, in bytes.",
    )
    max_connections: int = Field(
        default=10_000,
        ge=1,
        description="How many connections clients have at once.",
    )
    client_timeout: float = Field(
        default=60.0,
        gt=0,
        description="Seconds that a client has to send a request, or to take part of an answer.",
    )
    max_runs: int = Field(
        default=1_000,
        ge=1,
        description="How many runs are at work at once; further ones are queued.",
    )
    max_runs_per_workflow: int = Field(
        default=0,
        ge=0,
        description="How many of them may be of one workflow; 0: all of them.",
    )
    max_pending_runs: int = Field(
        default=10_000,
        ge=0,
        description="How many runs may be queued; further ones are refused.",
    )
    max_streams: int = Field(
        default=10_000,
        ge=1,
        description="How many event streams are open at once.",
    )
    max_streams_per_client: int = Field(
        default=1_000,
        ge=1,
        description="How many of them one client may have, by its credential or its address.",
    )
    rate_limit: float = Field(
        default=0.0,
        ge=0,
        description="Requests a second that one client may make in the long run; 0: any number.",
    )
    rate_burst: int = Field(
        default=100,
        ge=1,
        description="Requests that one client may make at once, where there is a rate limit.",
    )
    max_refusals: int = Field(
        default=100,
        ge=0,
        description="Credentials that are refused from one address at once, then one a second; 0:"
        " any number.",
    )


class ServiceSettings(Sharing, Limits):
    """Settings of the service; a `WorkflowServer` takes each as an option."""

    persistence_backoff: Annotated[
        tuple[Annotated[float, Field(ge=0)], ...], NoDecode, CommaSeparated
    ] = Field(
        default=(0.5, 3.0),
        description="Seconds to wait before each new try when the store fails; []: no new try.",
    )
    idle_timeout: float = Field(
        default=60.0,
        ge=0,
        description="Seconds after which a run that waits for an event is released from memory.",
    )
    max_resumes: int = Field(
        default=5,
        ge=0,
        description="How often a run is resumed after it was the only one at work when the process"
        " ended, without a finished step in between.",
    )
    on_misfit: OnMisfit = Field(
        default="hold",
        description="What becomes of a run whose workflow is not served or whose code does not fit"
        " its journal: hold keeps it and tries again at each start, fail ends it.",
    )
    retention: Annotated[timedelta | None, Field(gt=timedelta(0))] = Field(
        default=None,
        description="How long ended handlers are kept, such as 12h or 30d; none: for ever.",
    )
    keep_history: bool = Field(
        default=True,
        description="Whether what runs did, step by step, is kept with their events, up to 4 MiB a"
        " run; a workflow and a run can turn it off for themselves.",
    )
    sse_heartbeat_interval: float = Field(
        default=25.0,
        ge=0,
        description="Seconds of silence after which an event stream sends a comment; 0: never.",
    )
    allowed_hosts: Annotated[
        tuple[Annotated[str, AfterValidator(read_host)], ...], NoDecode, CommaSeparated
    ] = Field(
        default=(),
        description="Hosts that a request may name beside localhost, * for all; empty: localhost"
        " alone where the server listens on loopback, else all.",
    )
    trusted_proxies: Annotated[
        tuple[Annotated[str, AfterValidator(read_network)], ...], NoDecode, CommaSeparated
    ] = Field(
        default=(),
        description="Addresses or networks of proxies whose `X-Forwarded-For` is trusted.",
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode, CommaSeparated] = Field(
        default=(),
        description="Origins whose pages may call, * for all; empty: only pages from localhost.",
    )
    cors_origin_pattern: str | None = Field(
        default=None,
        description="Regular expression (RE2) for whole origins whose pages may call.",
    )
    shutdown_timeout: float = Field(
        default=10.0,
        ge=0,
        description="Seconds that open requests and runs get when the server stops.",
    )
    root_path: str = Field(
        default="",
        description="Path under which a proxy serves this server, such as /flows.",
    )

    @field_validator("retention", mode="before")
    @classmethod
    def _read_duration(cls, value: Any) -> Any:
        return read_duration(value) if isinstance(value, str) else value

    @field_validator("sse_heartbeat_interval", mode="before")
    @classmethod
    def _take_none_for_never(cls, value: Any) -> Any:
        return 0.0 if value is None else value

    @field_validator("cors_origin_pattern")
    @classmethod
    def _check_pattern(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                compile_origin_pattern(value)
            except ValueError as error:
                raise ValueError(
                    f"it is no regular expression of RE2, which has no look-around and no"
                    f" references ({error})"
                ) from error
        return value


class Settings(ServiceSettings, BaseSettings):
    """Settings of the command line, each field also a `WORKFLOW_SERVER_*` variable.

    In a variable a list is comma-separated or JSON; an empty variable counts as absent.
    """

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_ignore_empty=True, frozen=True, allow_inf_nan=False
    )

    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="Address or host name to listen on; 0.0.0.0 is every IPv4 address.",
    )
    port: int = Field(
        default=8000,
        ge=0,
        le=65535,
        description="Port to listen on; 0 takes a free one.",
    )
    store: str = Field(
        default="sqlite:///workflow-server.db",
        min_length=1,
        description="URL of the store of the runs: sqlite:///FILE, postgresql://…, or memory:.",
    )
    api_keys_file: str | None = Field(
        default=None,
        min_length=1,
        description="File of API keys, which `workflow-server key create` makes.",
    )
    api_keys: str | None = Field(
        default=None,
        description="The document of API keys itself, as that file would hold it.",
    )
    jwt_issuer: str | None = Field(
        default=None,
        min_length=1,
        description="Issuer of the tokens that are taken; takes an audience and a JWKS too.",
    )
    jwt_audience: str | None = Field(
        default=None,
        min_length=1,
        description="Audience that a token must name.",
    )
    jwt_jwks: str | None = Field(
        default=None,
        min_length=1,
        description="File or address of the issuer's public keys (JWKS).",
    )
    jwt_algorithms: Annotated[
        tuple[Algorithm, ...], NoDecode, CommaSeparated, Field(min_length=1)
    ] = Field(
        default=("RS256", "PS256", "ES256", "EdDSA"),
        description="Algorithms by which tokens may be signed; only asymmetric ones.",
    )
    jwt_scopes_claim: str = Field(
        default="scope",
        min_length=1,
        description="Claim that holds the scopes, or the path to it, such as realm_access.roles.",
    )
    jwt_scope_prefix: str = Field(
        default="",
        description="What stands before read, run and admin in that claim, such as flows:.",
    )
    jwt_tenant_claim: str | None = Field(
        default=None,
        min_length=1,
        description="Claim that names the tenant; a token without it is then refused.",
    )
    loop: Loop = Field(
        default="auto",
        description="Event loop: uvloop is the faster one, asyncio can be patched by libraries such"
        " as nest_asyncio, auto takes asyncio where one has patched it already.",
    )
    log_level: LogLevel = Field(
        default="info",
        description="Least important level that is logged.",
    )
    log_format: LogFormat = Field(
        default="text",
        description="How the log is written: text for people, json for programs.",
    )
    log_tracebacks: bool | None = Field(
        default=None,
        description="Whether the log has the tracebacks of failed steps, without the messages of"
        " exceptions; by default, where it is text and goes to a terminal.",
    )
    debug: bool = Field(
        default=False,
        description="Whether errors of the command line come with their traceback.",
    )

    @field_validator("port", mode="before")
    @classmethod
    def _pass_over_service_link(cls, value: Any) -> Any:
        # Kubernetes gives every container WORKFLOW_SERVER_PORT=tcp://ADDRESS:PORT where a service
        # is called workflow-server. It is no setting of ours.
        if isinstance(value, str) and value.startswith("tcp://"):
            return cls.model_fields["port"].default
        return value

    @field_validator("log_level", mode="before")
    @classmethod
    def _lower_case(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value


def read_duration(text: str) -> timedelta:
    """Return the duration of a number and its unit, s, m, h, d or w; ValueError for others."""
    match = DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError("it is no duration, such as 90s, 15m, 12h, 30d or 4w")
    return timedelta(**{UNITS[match["unit"]]: float(match["number"])})


def flag_of(field: str) -> str | None:
    """Return the flag of a setting, or None where it has none."""
    return FLAGS.get(field, f"--{field.replace('_', '-')}")


def load_settings(**flags: Any) -> Settings:
    """Return the settings: flags first, then variables, then defaults.

    Raises `SettingsError` with one sentence for the first value that cannot be.
    """
    try:
        return Settings(**flags)
    except ValidationError as error:
        given = {field: flag_of(field) or field for field in flags}
        raise _explain(error, lambda name: given.get(name, ENV_PREFIX + name.upper())) from error


def make_service_settings(
    settings: ServiceSettings, limits: Limits | None, options: Mapping[str, Any]
) -> ServiceSettings:
    """Return the settings with the limits in place of theirs, and the options in place of both.

    Raises TypeError for an option that is no setting, and `SettingsError` for a bad value.
    """
    unknown = next((name for name in options if name not in ServiceSettings.model_fields), None)
    if unknown is not None:
        raise TypeError(f"A WorkflowServer has no option called '{unknown}'.")
    values = {name: getattr(settings, name) for name in ServiceSettings.model_fields}
    if limits is not None:
        values |= {name: getattr(limits, name) for name in Limits.model_fields}
    try:
        return ServiceSettings.model_validate({**values, **options})
    except ValidationError as error:
        raise _explain(error, str) from error


def _explain(error: ValidationError, show: Callable[[str], str]) -> SettingsError:
    """Say which setting is wrong, as it was given, and what would be right."""
    fault = error.errors(include_url=False)[0]
    field = str(fault["loc"][0])
    wanted = fault["msg"].removeprefix("Value error, ").rstrip(".")
    description = Settings.model_fields[field].description
    return SettingsError(
        f"{show(field)} cannot be {fault['input']!r}: {wanted}. It is: {description}"
    )
