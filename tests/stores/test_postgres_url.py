"""URLs of Postgres as libpq, SQLAlchemy and providers write them."""

import shlex
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from secrets import token_hex
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from tests.support.pgbouncer import pooled
from tests.support.ports import find_port
from tests.support.postgres import DEFAULT, Connection, connect, temporary_schema
from workflow_server.stores.backends import open_store
from workflow_server.stores.base import StoreError
from workflow_server.stores.postgres import PostgresStore
from workflow_server.stores.postgres_connections import Connections
from workflow_server.stores.postgres_url import read_url

OPTIONS = "&keepalives_idle=31&keepalives_interval=7&keepalives_count=3&tcp_user_timeout=9000"


def place_of(url: str) -> dict[str, str]:
    """Return what asyncpg is told of where the database is."""
    return dict(parse_qsl(urlsplit(read_url(url).dsn).query))


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no variable of libpq say anything of a database."""
    for name in ("PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE", "PGSSLMODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("workflow_server.stores.postgres.CLAIM_PAUSE", 0.01)


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """Yield the URL of a schema that is not there yet."""
    async with temporary_schema() as url:
        yield url


@asynccontextmanager
async def started(url: str) -> AsyncIterator[PostgresStore]:
    """Yield the store of a URL, started."""
    store = open_store(url)
    assert isinstance(store, PostgresStore)
    await store.start()
    try:
        yield store
    finally:
        await store.stop()


async def ask(url: str, sql: str) -> tuple[Any, ...]:
    """Return the row that a connection of a URL gives."""
    connection = await Connections(read_url(url)).connect()
    try:
        return tuple(await connection.fetchrow(sql) or ())
    finally:
        await connection.close()


async def refusal_of(url: str) -> str:
    """Return the sentence with which a URL is refused."""
    with pytest.raises(StoreError) as refused:
        async with started(url):
            pass
    return str(refused.value)


def left_out(caplog: pytest.LogCaptureFixture) -> list[tuple[str, Any]]:
    """Return the parameters of which a warning said that they were left out."""
    return [
        (record.levelname, vars(record)["parameter"])
        for record in caplog.records
        if "left out" in record.getMessage()
    ]


HOST = {"host": "db.internal", "port": "5432", "dbname": "runs", "user": "me"}


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("postgresql://me@db.internal/runs", HOST),
        ("postgres://me@db.internal/runs", HOST),
        ("postgresql+asyncpg://me@db.internal/runs", HOST),
        ("postgresql+psycopg://me@db.internal:5432/runs", HOST),
        ("postgresql://db.internal/runs?user=me", HOST),
        ("postgresql://?host=db.internal&dbname=runs&user=me", HOST),
        ("postgresql:///runs?host=db.internal:5432&username=me", HOST),
        ("postgresql://other@elsewhere/none?host=db.internal&database=runs&user=me", HOST),
        ("postgresql://me@db.internal:5/runs?port=5432", HOST),
        ("postgresql://me:p%40ss%2Fw%25rd@db.internal/runs", HOST | {"password": "p@ss/w%rd"}),
        ("postgresql://me:p@ss#w@db.internal/runs", HOST | {"password": "p@ss#w"}),
        ("postgresql://me@db.internal/runs?password=p%26+ss", HOST | {"password": "p&+ss"}),
        ("postgresql://me@db.internal/runs?password=", HOST),
        ("postgresql://m%C3%A9@db.internal/runs", HOST | {"user": "mé"}),
        (
            "postgresql://me@one:1,two:2/runs",
            HOST | {"host": "one,two", "port": "1,2"},
        ),
        (
            "postgresql://me@one,two:2/runs",
            HOST | {"host": "one,two", "port": "5432,2"},
        ),
        (
            "postgresql+asyncpg://me@/runs?host=one:1&host=two:2",
            HOST | {"host": "one,two", "port": "1,2"},
        ),
        ("postgresql://me@/runs?host=one,two&port=7", HOST | {"host": "one,two", "port": "7,7"}),
        (
            "postgresql://me@[::1]:1,[2001:db8::1]/runs",
            HOST | {"host": "[::1],[2001:db8::1]", "port": "1,5432"},
        ),
        ("postgresql://me@/runs?hostaddr=192.0.2.1", HOST | {"host": "192.0.2.1"}),
        ("postgresql://me@/runs?host=::1&port=7", HOST | {"host": "[::1]", "port": "7"}),
        (
            "postgresql://me@%2Fvar%2Frun%2Fpostgresql:5433/runs",
            HOST | {"host": "/var/run/postgresql", "port": "5433"},
        ),
        (
            "postgresql://me@/runs?host=/var/run/postgresql",
            HOST | {"host": "/var/run/postgresql"},
        ),
    ],
)
def test_a_url_says_where_the_database_is(url: str, place: dict[str, str]) -> None:
    assert place_of(url) == {name: value for name, value in place.items() if value}


@pytest.mark.parametrize(
    ("query", "driven"),
    [
        (
            "sslmode=verify-full&sslrootcert=ca.pem",
            {"sslmode": "verify-full", "sslrootcert": "ca.pem"},
        ),
        (
            "sslmode=require&sslcert=c&sslkey=k",
            {"sslmode": "require", "sslcert": "c", "sslkey": "k"},
        ),
        ("ssl=true", {"sslmode": "require"}),
        ("ssl=require", {"sslmode": "require"}),
        ("ssl=false", {"sslmode": "disable"}),
        ("requiressl=1", {"sslmode": "require"}),
        (
            "sslnegotiation=direct&sslmode=require",
            {"sslnegotiation": "direct", "sslmode": "require"},
        ),
        ("target_session_attrs=read-write", {"target_session_attrs": "read-write"}),
        ("sslrootcert=system", {}),
    ],
)
def test_what_the_driver_knows_is_told_to_it(query: str, driven: dict[str, str]) -> None:
    assert place_of(f"postgresql://me@db.internal/runs?{query}") == HOST | driven
    assert read_url(f"postgresql://db/runs?{query}").trusts_system == (
        query == "sslrootcert=system"
    )


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("channel_binding=require", ["channel_binding"]),
        ("channel_binding=prefer&gssencmode=prefer&sslsni=1&client_encoding=utf8", []),
        ("require_auth=scram-sha-256&sslcrldir=x", ["require_auth", "sslcrldir"]),
        ("load_balance_hosts=random", ["load_balance_hosts"]),
        ("hostaddr=192.0.2.1", ["hostaddr"]),
    ],
)
def test_what_the_driver_lacks_is_left_out(query: str, names: list[str]) -> None:
    url = read_url(f"postgresql://me@db.internal/runs?{query}")
    assert (url.left_out, url.settings) == (
        names,
        {"application_name": "workflow-server workflow_server"},
    )


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:hush/hush@db.internal/runs",
        "postgresql://me:12/hush@db.internal/runs",
        "postgresql://me:hush?hush@db.internal/runs",
        "postgresql://me:12?hush@db.internal/runs",
        "postgresql://me:hush@db.internal:hush/runs",
        "postgresql://me:hush@db.internal/runs?port=hush",
        "postgresql://me:hush@[::1/runs",
        "postgresql:me:hush",
        "postgresql://me:hush@db.internal/runs?connect_timeout=hush",
        "postgresql://me:hush@db.internal/runs?keepalives_idle=hush",
        "postgresql://me:hush@db.internal/runs?gssencmode=require",
        "host=db.internal password=hush",
        "db.internal/hush",
    ],
)
def test_a_malformed_url_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(StoreError) as refused:
        open_store(url)
    assert "store's URL" in str(refused.value)
    assert "hush" not in str(refused.value)


async def test_a_url_of_a_provider_opens(url: str, caplog: pytest.LogCaptureFixture) -> None:
    given = (
        f"{url}&sslmode=prefer&channel_binding=require&connect_timeout=10&pgbouncer=true&jit=off"
    )
    async with started(given.replace("postgresql:", "postgresql+asyncpg:")) as store:
        await store.check()
    assert left_out(caplog) == [("WARNING", "channel_binding"), ("WARNING", "pgbouncer")]


async def test_a_setting_that_a_pooler_refuses_is_left_out(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    query = f"{urlsplit(url).query}&statement_timeout=5000&options=-c%20jit%3Doff"
    async with pooled(pool_mode="session") as pooler, started(f"{pooler}?{query}") as store:
        await store.check()
    assert left_out(caplog) == [("WARNING", "statement_timeout"), ("WARNING", "options")]


async def test_settings_of_a_session_are_honoured(url: str) -> None:
    options = "-c%20statement_timeout%3D7000%20--lock_timeout%3D8000"
    settings = await ask(
        f"{url}&options={options}&application_name=runs%20of%20ours&jit=off",
        "SELECT current_setting('statement_timeout'), current_setting('lock_timeout'),"
        " current_setting('application_name'), current_setting('jit')",
    )
    assert settings == ("7s", "8s", "runs of ours", "off")


async def test_the_name_of_the_application_is_ours_where_none_is_given(url: str) -> None:
    schema = urlsplit(url).query.partition("=")[2]
    assert await ask(url, "SHOW application_name") == (f"workflow-server {schema}",)
    other = f"{url}&fallback_application_name=else"
    assert await ask(other, "SHOW application_name") == ("else",)


async def test_connections_are_kept_alive_as_the_url_says(url: str) -> None:
    async with started(f"{url}{OPTIONS}") as store:
        (descriptor,) = store.descriptors()
        opened = socket.socket(fileno=socket.dup(descriptor))
        names = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
        found = [opened.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in names]
        alive = opened.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        opened.close()
    assert (alive, found) == (1, [31, 7, 3, 9000])


async def test_the_first_host_that_answers_is_taken(url: str) -> None:
    parts = urlsplit(url)
    hosts = f"127.0.0.1:{find_port()},{parts.hostname}:{parts.port or 5432}"
    given = f"{parts.scheme}://{parts.username}@{hosts}{parts.path}?{parts.query}"
    async with started(f"{given}&target_session_attrs=read-write") as store:
        await store.check()


async def test_a_socket_of_a_machine_opens(url: str) -> None:
    async with connect() as connection:
        folders = await connection.fetchval("SHOW unix_socket_directories")
    parts = urlsplit(url)
    folder = folders.partition(",")[0]
    where = f"?host={folder}&port={parts.port or 5432}&user={parts.username}&{parts.query}"
    async with started(f"postgresql://{parts.path}{where}") as store:
        await store.check()


async def test_a_database_that_is_missing_is_refused_with_what_makes_it() -> None:
    parts = urlsplit(DEFAULT)
    name = f"not there {token_hex(4)}"
    url = f"postgresql://postgres:hush@{parts.hostname}:{parts.port}/{name.replace(' ', '%20')}"
    async with connect():
        sentence = await refusal_of(url)
    command = f"createdb --host 127.0.0.1 --port 5432 --username postgres -- '{name}'"
    assert sentence == (
        f"Postgres cannot be used (host 127.0.0.1, port 5432, database {name}): database"
        f' "{name}" does not exist. Create it with `{command}`, or name another one in the'
        " store's URL."
    )
    assert shlex.split(command)[-1] == name


async def test_a_database_that_does_not_listen_is_refused_with_its_place() -> None:
    port = find_port()
    sentence = await refusal_of(f"postgresql://me:hush@127.0.0.1:{port}/runs?password=hush")
    place = f"Postgres cannot be used (host 127.0.0.1, port {port}, database runs): "
    assert sentence.startswith(place)
    assert sentence.endswith(
        " Start Postgres there, or correct the host and the port in the store's URL."
    )
    assert "hush" not in sentence


async def test_a_host_that_says_nothing_is_given_up_in_the_time_that_the_url_gives() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        sentence = await refusal_of(f"postgresql://me@127.0.0.1:{port}/runs?connect_timeout=1")
    assert sentence == (
        f"Postgres cannot be used (host 127.0.0.1, port {port}, database runs): it has not answered"
        " within 1 s. Start Postgres there, or correct the host and the port in the store's URL."
    )


@pytest.mark.parametrize(
    ("query", "fix"),
    [
        (
            "sslmode=verify-full&sslrootcert=/none/ca.pem",
            "Correct the files of certificates and keys that the store's URL names.",
        ),
        ("sslmode=whatever", "Correct the store's URL."),
        ("target_session_attrs=whatever", "Correct the store's URL."),
        ("statement_timeout=whatever", "Correct the store's URL."),
        (
            "target_session_attrs=standby",
            "Name the primary in the store's URL, or all hosts with"
            " target_session_attrs=read-write.",
        ),
    ],
)
async def test_a_parameter_that_cannot_be_is_refused_with_what_helps(
    url: str, query: str, fix: str
) -> None:
    assert (await refusal_of(f"{url}&{query}")).endswith(f" {fix}")


async def test_a_user_who_may_not_make_the_schema_is_told_who_lets_them(url: str) -> None:
    name = f"test_{token_hex(4)}"
    parts = urlsplit(url)
    database = parts.path[1:]
    async with connect() as connection:
        await make_user(connection, name)
        try:
            sentence = await refusal_of(url.replace(f"{parts.username}@", f"{name}:hush@"))
        finally:
            await connection.execute(f"DROP ROLE {name}")
    assert sentence.endswith(
        f'Let the owner of the database run `GRANT CREATE ON DATABASE "{database}" TO "{name}"`.'
    )


async def make_user(connection: Connection, name: str) -> None:
    """Make a user who may connect, and no more."""
    await connection.execute(f"CREATE ROLE {name} LOGIN")


async def test_an_unknown_user_is_told_what_to_correct(url: str) -> None:
    parts = urlsplit(url)
    sentence = await refusal_of(url.replace(f"{parts.username}@", "nobody_here:hush@"))
    assert sentence.endswith(" Correct the user and the password in the store's URL.")
    assert "hush" not in sentence
