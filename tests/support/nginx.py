"""An nginx before a server, with what a location of it is to say, or before several."""

import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.documents import ROOT, require
from tests.support.ports import find_port
from tests.support.raw_http import DEADLINE, RawServer

SBIN = "/usr/sbin/nginx"  # which is on the path of root alone
BALANCING = ROOT / "docs" / "nginx" / "replicas.conf"  # as it is shipped
CONFIG = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/bodies;
    proxy_temp_path {folder}/answers;
    {content}
}}
"""
ONE_SERVER = """
    map $http_upgrade $connection_upgrade {{ default upgrade; "" ""; }}
    upstream server {{ server {server.host}:{server.port}; keepalive 4; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://server;
            proxy_http_version 1.1;
            {rules}
        }}
    }}
"""


@contextmanager
def proxying(folder: Path, server: RawServer, rules: str) -> Iterator[RawServer]:
    """Yield an nginx that passes requests on to a server, by the rules of one location."""
    port = find_port()
    with _running(folder, ONE_SERVER.format(server=server, port=port, rules=rules), port) as proxy:
        yield proxy


@contextmanager
def balancing(folder: Path, ports: Sequence[int]) -> Iterator[RawServer]:
    """Yield an nginx before the servers at some ports, with the configuration that is shipped."""
    port = find_port()
    content = BALANCING.read_text(encoding="utf-8")
    servers = " ".join(f"server 127.0.0.1:{each} max_fails=0;" for each in ports)
    for shipped, here in (
        ("server replica:8000 max_fails=0;", servers),
        ("listen 8080;", f"listen 127.0.0.1:{port};"),
    ):
        assert content.count(shipped) == 1, shipped
        content = content.replace(shipped, here)
    with _running(folder, content, port) as proxy:
        yield proxy


@contextmanager
def _running(folder: Path, content: str, port: int) -> Iterator[RawServer]:
    """Run an nginx that has this in its `http` block, and listens on a port."""
    program = SBIN if Path(SBIN).exists() else "nginx"
    require(program)
    proxy = RawServer("127.0.0.1", port)
    config = folder / "nginx.conf"
    config.write_text(CONFIG.format(folder=folder, content=content), encoding="utf-8")
    errors = str(folder / "error.log")
    with subprocess.Popen([program, "-p", str(folder), "-e", errors, "-c", str(config)]) as process:
        try:
            _wait_until_it_listens(process, proxy)
            yield proxy
        finally:
            process.terminate()


def _wait_until_it_listens(process: subprocess.Popen[bytes], proxy: RawServer) -> None:
    deadline = time.monotonic() + DEADLINE
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex((proxy.host, proxy.port)) == 0:
                return
        time.sleep(0.01)
    raise AssertionError(f"nginx does not listen; its status is {process.poll()}.")
