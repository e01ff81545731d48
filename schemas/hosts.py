"""Hosts and networks, as settings and requests name them."""

import re
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address, ip_network

ANY_HOST = "*"
NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")


def spell_host(text: str) -> str:
    """Return a host name or address in its one spelling: `[::FFFF:7F00:1]` is 127.0.0.1."""
    name = text.strip().lower().removesuffix(".")
    try:
        address = ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return name
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def read_host(text: str) -> str:
    """Return a host name, an address or `*` in its one spelling; ValueError for others."""
    name = spell_host(text)
    if name == ANY_HOST or NAME.fullmatch(name) or _reads(ip_address, name):
        return name
    raise ValueError("it is no host name or address without a port, such as flows.example.com")


def read_network(text: str) -> str:
    """Return an address or a network as it is given; ValueError for others."""
    if _reads(ip_network, text):
        return text
    raise ValueError("it is no address or network, such as 127.0.0.1 or 10.0.0.0/8")


def _reads(read: Callable[[str], object], text: str) -> bool:
    try:
        read(text)
    except ValueError:
        return False
    return True
