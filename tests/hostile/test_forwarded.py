"""Whom a request speaks for is believed from the proxies that are configured, and from no other."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.command import run_command, serving
from tests.support.nginx import proxying
from tests.support.raw_http import RawServer, find_server, parse_answers, write_flows

MEMORY = ("--store", "memory:")
ONE_EACH = ("--rate-limit", "0.001", "--rate-burst", "1")
RULES = """
proxy_set_header Host localhost;
proxy_set_header Connection "";
proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
"""


@contextmanager
def listening(folder: Path, *flags: str, **variables: str) -> Iterator[RawServer]:
    """Yield a server that takes one request of each client."""
    write_flows(folder)
    quietly = ("--log-level", "error")
    with serving(folder, "flows.py", *MEMORY, *quietly, *ONE_EACH, *flags, **variables) as running:
        yield find_server(running)


def ask(server: RawServer, *forwarded: str) -> int:
    """Return the status of a request that says for whom it speaks."""
    lines = ["GET /workflows HTTP/1.1", "Host: localhost", "Connection: close"]
    lines += [f"X-Forwarded-For: {address}" for address in forwarded]
    (answer,) = parse_answers(server.ask("\r\n".join([*lines, "", ""]).encode()))
    return answer.status


def test_nobody_is_believed_by_default(tmp_path: Path) -> None:
    with listening(tmp_path) as server:
        statuses = [ask(server, f"192.0.2.{number}") for number in range(3)]
    assert statuses == [200, 429, 429]


def test_another_proxy_than_the_configured_ones_is_not_believed(tmp_path: Path) -> None:
    with listening(tmp_path, "--trusted-proxy", "192.0.2.7") as server:
        statuses = [ask(server, f"192.0.2.{number}") for number in range(3)]
    assert statuses == [200, 429, 429]


@pytest.mark.parametrize("proxy", ["127.0.0.1", "127.0.0.0/8"])
def test_a_configured_proxy_is_believed(tmp_path: Path, proxy: str) -> None:
    with listening(tmp_path, "--trusted-proxy", "192.0.2.7", "--trusted-proxy", proxy) as server:
        statuses = [ask(server, f"198.51.100.{number}") for number in (1, 2, 1)]
    assert statuses == [200, 200, 429]


def test_the_variable_of_uvicorn_configures_a_proxy_too(tmp_path: Path) -> None:
    with listening(tmp_path, FORWARDED_ALLOW_IPS="127.0.0.1") as server:
        statuses = [ask(server, f"198.51.100.{number}") for number in (1, 2, 1)]
    assert statuses == [200, 200, 429]


def test_what_a_client_says_before_the_proxy_does_is_not_believed(tmp_path: Path) -> None:
    """nginx adds the address of its client, 127.0.0.1, which is the last and no proxy's here."""
    flags = ("--host", "0.0.0.0", "--trusted-proxy", "127.0.0.2")
    with listening(tmp_path, *flags) as server:
        with proxying(tmp_path, server, f"proxy_bind 127.0.0.2; {RULES}") as proxy:
            statuses = [ask(proxy, f"198.51.100.{number}") for number in range(3)]
        direct = ask(server, "198.51.100.200")
    assert statuses == [200, 429, 429]
    assert direct == 429


@pytest.mark.parametrize(
    ("flags", "told"), [((), "127.0.0.1"), (("--trusted-proxy", "127.0.0.1"), "198.51.100.9")]
)
def test_the_log_names_the_address_that_is_believed(
    tmp_path: Path, flags: tuple[str, ...], told: str
) -> None:
    write_flows(tmp_path)
    run_command(
        tmp_path, "key", "create", "--name", "a", "--scope", "run", "--file", "keys.json"
    ).check_returncode()
    keys = ("--api-keys", "keys.json", "--log-format", "json")
    with serving(tmp_path, "flows.py", *MEMORY, *keys, *flags) as running:
        lines = ["GET /workflows HTTP/1.1", "Host: localhost", "X-Forwarded-For: 198.51.100.9"]
        lines += ["Authorization: Bearer wfs_wrong", "Connection: close", "", ""]
        find_server(running).ask("\r\n".join(lines).encode())
        assert running.process.stdout is not None
        line = next(line for line in running.process.stdout if "refused" in line)
    assert f'"{told}"' in line


@pytest.mark.parametrize("proxy", ["*", "proxy.example", "10.0.0.0/99", "10.0.0.1:80"])
def test_what_is_no_address_cannot_be_trusted(tmp_path: Path, proxy: str) -> None:
    write_flows(tmp_path)
    ended = run_command(tmp_path, "serve", "flows.py", *MEMORY, "--trusted-proxy", proxy)
    assert (ended.returncode, "it is no address or network" in ended.stderr) == (2, True)
