"""Addresses are tried before a server opens them, and shown as a browser takes them."""

import socket

import pytest

from workflow_server.app.address import AddressError, find_port, is_loopback, show_url


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])
def test_port_0_is_a_free_port(host: str) -> None:
    port = find_port(host, 0)
    with socket.create_server(("127.0.0.1", port)) as server:
        assert server.getsockname()[1] == port


def test_a_free_port_is_the_one_that_was_asked_for() -> None:
    port = find_port("127.0.0.1", 0)
    assert find_port("127.0.0.1", port) == port


def test_a_port_that_is_in_use_on_one_address_cannot_be_had_on_all() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(AddressError, match=rf"\APort {port} of 0\.0\.0\.0 is in use: "):
            find_port("0.0.0.0", port)


def test_what_is_no_host_name_is_told() -> None:
    with pytest.raises(AddressError, match=r"\Ano\.\.host is no address of this machine: "):
        find_port("no..host", 8000)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("flows.example", "http://flows.example:8000"),
        ("0.0.0.0", "http://localhost:8000"),
        ("::", "http://localhost:8000"),
        ("::1", "http://[::1]:8000"),
    ],
)
def test_an_address_is_shown_as_a_browser_takes_it(host: str, url: str) -> None:
    assert show_url(host, 8000) == url


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("localhost", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.0.2.1", False),
        ("no such host", False),
    ],
)
def test_an_address_is_of_this_machine_alone_or_not(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
