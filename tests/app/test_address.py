"""Addresses are bound before a server uses them, and shown as a browser takes them."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from workflow_server.app.address import (
    AddressError,
    bind_listeners,
    close_listeners,
    is_loopback,
    listen,
    show_url,
)


@contextmanager
def bound(host: str, port: int) -> Iterator[int]:
    """Yield the port to which listeners are bound."""
    listeners = bind_listeners(host, port)
    try:
        [port] = {listener.getsockname()[1] for listener in listeners}
        yield port
    finally:
        close_listeners(listeners)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])
def test_a_port_that_was_free_is_held(host: str) -> None:
    with (
        bound(host, 0) as port,
        pytest.raises(AddressError, match=rf"\APort {port} of 127\.0\.0\.1 is in use: "),
    ):
        bind_listeners("127.0.0.1", port)


def test_a_port_is_the_one_that_was_asked_for() -> None:
    with bound("127.0.0.1", 0) as port:
        pass
    with bound("127.0.0.1", port) as again:
        assert again == port


def test_a_port_that_is_in_use_on_one_address_cannot_be_had_on_all() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(AddressError, match=rf"\APort {port} of 0\.0\.0\.0 is in use: "):
            bind_listeners("0.0.0.0", port)


def test_of_two_that_are_bound_to_a_port_the_second_cannot_listen() -> None:
    with bound("127.0.0.1", 0) as port:
        pass
    first, second = bind_listeners("127.0.0.1", port), bind_listeners("127.0.0.1", port)
    listen(first, "127.0.0.1")
    with pytest.raises(AddressError, match=rf"\APort {port} of 127\.0\.0\.1 is in use: "):
        listen(second, "127.0.0.1")
    close_listeners([*first, *second])


def test_who_connects_is_taken_from_the_time_when_it_listens() -> None:
    [listener] = bind_listeners("127.0.0.1", 0)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(listener.getsockname())
    listen([listener], "127.0.0.1")
    socket.create_connection(listener.getsockname()).close()
    close_listeners([listener])


def test_what_is_no_host_name_is_told() -> None:
    with pytest.raises(AddressError, match=r"\Ano\.\.host is no address of this machine: "):
        bind_listeners("no..host", 8000)


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
