"""A server of the workflows, in a process and an environment of its own."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tests.packaging.wheel import ROOT
from tests.support.live import NO_TLS
from tests.support.waiting import DEADLINE


@contextmanager
def serve(module: str, environment: dict[str, str]) -> Iterator[httpx.Client]:
    """Serve with the `WorkflowServer` of a module, and yield a client of it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.differential.serve", module],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            base_url = f"http://127.0.0.1:{process.stdout.readline().strip()}"
            with httpx.Client(base_url=base_url, timeout=DEADLINE, verify=NO_TLS) as client:
                yield client
        finally:
            process.terminate()
