"""An nginx before a server, with what a location of it is to say."""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.documents import require
from tests.support.ports import find_port
from tests.support.raw_http import DEADLINE, RawServer

SBIN = "/usr/sbin/nginx"  # which is on the path of root alone
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
}}
"""


@contextmanager
def proxying(folder: Path, server: RawServer, rules: str) -> Iterator[RawServer]:
    """Yield an nginx that passes requests on to a server, by the rules of one location."""
    program = SBIN if Path(SBIN).exists() else "nginx"
    require(program)
    proxy = RawServer("127.0.0.1", find_port())
    config = folder / "nginx.conf"
    config.write_text(
        CONFIG.format(folder=folder, server=server, port=proxy.port, rules=rules), encoding="utf-8"
    )
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
