"""The settings of a server that shares its store with others."""

from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator


class Sharing(BaseModel):
    """Settings by which servers share a store."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)

    replicas: bool = Field(
        default=False,
        description="Whether this server shares its Postgres with others, which go on with its runs"
        " when it ends.",
    )
    advertise_address: str | None = Field(
        default=None,
        min_length=1,
        description="URL under which the others reach this server, such as http://10.0.0.7:8000; by"
        " default, the address from which it connects to Postgres, and its port.",
    )
    code_version: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="Version of the code that this server serves, such as a commit or an image;"
        " with replicas, runs go on at servers of theirs first. By default, a digest of the files"
        " of the workflows.",
    )
    heartbeat: float = Field(
        default=1.0,
        gt=0,
        description="Seconds between the heartbeats of a server with replicas.",
    )
    stale_after: float = Field(
        default=5.0,
        gt=0,
        description="Seconds without a heartbeat after which the others go on with its runs; at"
        " least three heartbeats.",
    )

    @field_validator("advertise_address")
    @classmethod
    def _check_advertise_address(cls, value: str | None) -> str | None:
        if value is not None and not _is_origin(value):
            raise ValueError("it is no URL such as http://10.0.0.7:8000 or http://[fd00::7]:8000")
        return value

    @field_validator("stale_after")
    @classmethod
    def _check_stale_after(cls, value: float, info: ValidationInfo) -> float:
        heartbeat = info.data.get("heartbeat", 0.0)
        if value < 3 * heartbeat:
            raise ValueError(f"it is less than three heartbeats of {heartbeat:g} s")
        return value


def _is_origin(url: str) -> bool:
    """Return whether a URL names a server, and nothing below it."""
    try:
        parts = urlsplit(url)
        return (
            parts.scheme in {"http", "https"}
            and bool(parts.hostname)
            and parts.port != 0
            and not (parts.username or parts.path.strip("/") or parts.query or parts.fragment)
        )
    except ValueError:
        return False
