"""URL of a Postgres database, as libpq, SQLAlchemy and providers write it.

The source of the parameters' names is the manual of libpq, "Parameter Key Words".
"""

import os
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlencode

from workflow_server.stores.base import StoreError

DEFAULT_SCHEMA = "workflow_server"
SCHEMA_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
TIMEOUT = 30.0  # seconds until a connection counts as failed
# The last @ before the path ends the password, which may have others, and a # too.
URL = re.compile(
    r"[^:/?@]+://(?:(?P<auth>[^/?]*)@)?(?P<hosts>[^/?@]*)(?:/(?P<database>[^?@]*))?(?:\?(?P<query>.*))?"
)
HOST = re.compile(r"(?P<name>\[[^\]]*\]|[^:\[\]]*)(?::(?P<port>[0-9]{1,5}))?")

PLACE = ("host", "port", "dbname", "user", "password")
DRIVEN = frozenset(  # by asyncpg, which knows them
    {"gsslib", "krbsrvname", "passfile", "service", "ssl_max_protocol_version"}
    | {"ssl_min_protocol_version", "sslcert", "sslcrl", "sslkey", "sslmode", "sslnegotiation"}
    | {"sslpassword", "sslrootcert", "target_session_attrs"}
)
KEPT_ALIVE = {
    "keepalives": (socket.SOL_SOCKET, "SO_KEEPALIVE"),
    "keepalives_idle": (socket.IPPROTO_TCP, "TCP_KEEPIDLE"),
    "keepalives_interval": (socket.IPPROTO_TCP, "TCP_KEEPINTVL"),
    "keepalives_count": (socket.IPPROTO_TCP, "TCP_KEEPCNT"),
    "tcp_user_timeout": (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT"),
}
# Parameters of libpq that asyncpg has no part of, and the values that ask for nothing it lacks.
LACKING: dict[str, tuple[str, ...]] = {
    "channel_binding": ("disable", "prefer"),
    "client_encoding": ("auto", "UTF8", "utf8", "utf-8", "UTF-8"),
    "gssdelegation": ("0",),
    "gssencmode": ("disable", "prefer"),
    "load_balance_hosts": ("disable",),
    "max_protocol_version": ("3.0", "latest"),
    "min_protocol_version": ("3.0",),
    "oauth_client_id": (),
    "oauth_client_secret": (),
    "oauth_issuer": (),
    "oauth_scope": (),
    "replication": ("0", "off", "no", "false"),
    "require_auth": (),
    "requirepeer": (),
    "requiressl": ("0",),
    "scram_client_key": (),
    "scram_server_key": (),
    "servicefile": (),
    "sslcertmode": ("allow", "disable"),
    "sslcompression": ("0", "1"),  # TLS itself has none any more
    "sslcrldir": (),
    "sslkeylogfile": (),
    "sslsni": ("1",),
}
ALIASES = {"database": "dbname", "username": "user"}
SSL = {"true": "require", "1": "require", "false": "disable", "0": "disable"}  # other drivers' ssl=
Parameters = dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresUrl:
    """Database, schema and connections that a URL names.

    `dsn` is what asyncpg takes. `settings` are sent to the database when a session begins,
    `socket_options` are levels, names and values, and `left_out` are parameters that nothing
    follows. `trusts_system` asks for the certificates that the system trusts.
    """

    dsn: str
    schema: str
    hosts: str
    ports: str
    database: str
    user: str
    timeout: float
    settings: Mapping[str, str]
    socket_options: Sequence[tuple[int, int, int]]
    trusts_system: bool
    left_out: Sequence[str]


def read_url(url: str) -> PostgresUrl:
    """Return what a URL names; `StoreError`, which quotes no password, where it is malformed."""
    found = URL.fullmatch(url)
    if found is None:
        raise _malformed()
    given = _read_query(found["query"] or "")
    place = _read_place(found, given)
    schema = given.pop("schema", DEFAULT_SCHEMA)
    if not SCHEMA_NAME.fullmatch(schema):
        raise StoreError(
            f"'{schema}' cannot be a schema's name: it must be 1 to 63 of a-z 0-9 _ and not begin"
            " with a digit."
        )
    driven = {name: given.pop(name) for name in sorted(DRIVEN & given.keys())}
    trusts_system = driven.get("sslrootcert") == "system"
    if trusts_system:
        del driven["sslrootcert"]
    timeout = _read_number("connect_timeout", given.pop("connect_timeout", "0"))
    user = place.get("user") or os.environ.get("PGUSER", "")
    return PostgresUrl(
        # A space as %20, for asyncpg's parser takes + for a space, and libpq's does not.
        dsn=f"postgresql://?{urlencode({**place, **driven}, quote_via=quote)}",
        schema=schema,
        hosts=place.get("host") or os.environ.get("PGHOST", "localhost"),
        ports=place.get("port") or os.environ.get("PGPORT", "5432"),
        database=place.get("dbname") or os.environ.get("PGDATABASE", "") or user,
        user=user,
        timeout=timeout if timeout > 0 else TIMEOUT,
        socket_options=_take_socket_options(given),
        trusts_system=trusts_system,
        left_out=_take_lacking(given),
        settings=_take_settings(given, schema),
    )


def _read_query(query: str) -> Parameters:
    """Return the parameters by their names in libpq; empty ones are none."""
    given: Parameters = {}
    for part in filter(None, query.split("&")):
        name, equals, value = map(unquote, part.partition("="))
        if not equals:
            raise _malformed()
        name = ALIASES.get(name, name)
        if not value:
            continue
        if name == "host" and "host" in given:  # so SQLAlchemy writes several
            value = f"{given['host']},{value}"
        given[name] = value
    if mode := given.pop("ssl", ""):
        given.setdefault("sslmode", SSL.get(mode.lower(), mode))
    if given.get("requiressl") == "1":
        del given["requiressl"]
        given.setdefault("sslmode", "require")
    return given


def _read_place(found: re.Match[str], given: Parameters) -> Parameters:
    """Return where the database is and who asks; what the query says of it wins, as in libpq."""
    user, _, password = (found["auth"] or "").partition(":")
    place = {"user": user, "password": password, "dbname": found["database"] or ""}
    place = {name: unquote(value) for name, value in place.items() if value}
    if found["hosts"]:
        place.update(_read_hosts(found["hosts"]))
    place.update({name: given.pop(name) for name in PLACE if name in given})
    if "host" not in place and "hostaddr" in given:
        place["host"] = given.pop("hostaddr")
    if "host" in place:
        place.update(_read_hosts(place["host"], place.get("port", "")))
    if not re.fullmatch(r"[0-9]{1,5}(,[0-9]{1,5})*", place.get("port", "5432")):
        raise _malformed()
    return place


def _read_hosts(hosts: str, ports: str = "") -> Parameters:
    """Return hosts and their ports; a port that is written with its host wins."""
    defaults = ports.split(",")
    names, numbers = [], []
    for place, host in enumerate(hosts.split(",")):
        is_plain = host.count(":") > 1 and "[" not in host  # an address of IPv6, as in host=::1
        found = HOST.fullmatch(f"[{host}]" if is_plain else host)
        if found is None:
            raise _malformed()
        names.append(unquote(found["name"]) or "localhost")
        default = defaults[place] if len(defaults) > place else defaults[-1]
        numbers.append(found["port"] or default or "5432")
    return {"host": ",".join(names), "port": ",".join(numbers)}


def _read_number(name: str, value: str) -> int:
    try:
        return int(value)
    except ValueError as error:
        raise StoreError(f"'{name}' in the store's URL must be a whole number.") from error


def _take_socket_options(given: Parameters) -> list[tuple[int, int, int]]:
    """Return the options of sockets; libpq keeps connections alive unless it is told not to."""
    numbers = {"keepalives": 1} | {
        name: _read_number(name, given.pop(name)) for name in KEPT_ALIVE if name in given
    }
    options = [
        (level, getattr(socket, option, None), numbers[name])
        for name, (level, option) in KEPT_ALIVE.items()
        if numbers.get(name, 0) > 0
    ]
    return [(level, option, value) for level, option, value in options if option is not None]


def _take_lacking(given: Parameters) -> list[str]:
    """Return the parameters that ask for what the driver lacks."""
    if given.get("gssencmode") == "require":
        raise StoreError(
            "Connections to Postgres are not encrypted with GSSAPI: remove 'gssencmode=require'"
            " from the store's URL, and let TLS encrypt them with 'sslmode=require'."
        )
    lacking = {name: given.pop(name) for name in (*LACKING, "hostaddr") if name in given}
    return [name for name, value in lacking.items() if value not in LACKING.get(name, ())]


def _take_settings(given: Parameters, schema: str) -> Parameters:
    """Return the settings of a session; names that only the database knows are among them."""
    fallback = given.pop("fallback_application_name", f"workflow-server {schema}")
    return {"application_name": fallback} | given


def _malformed() -> StoreError:
    return StoreError(
        "The store's URL must be postgresql://USER:PASSWORD@HOST:PORT/DATABASE; in a user or a"
        " password write / as %2F, ? as %3F, : as %3A, @ as %40 and % as %25."
    )
