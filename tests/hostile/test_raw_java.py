"""Java's own HTTP client, which offers HTTP/2 by an `Upgrade` with every request, is understood.

A JDK runs the source file as it is (JEP 330).
"""

import json
import subprocess
from pathlib import Path

from tests.support.command import serving
from tests.support.raw_http import QUIETLY, write_flows

CALLS = Path(__file__).parents[1] / "support" / "JavaCalls.java"


def test_what_java_posts_is_what_its_runs_start_from(tmp_path: Path) -> None:
    write_flows(tmp_path)
    with serving(tmp_path, "flows.py", *QUIETLY) as server:
        called = subprocess.run(
            ["java", str(CALLS), f"{server.url}/workflows/echo/run"],
            capture_output=True,
            text=True,
            timeout=300,
            check=True,
        )
    answers = [line.split(" ", 2) for line in called.stdout.splitlines()]
    told = [
        (version, status, json.loads(body)["result"]["value"]["result"])
        for version, status, body in answers
    ]
    assert told == [
        ("HTTP_1_1", "200", f"java {number}") for number in range(3) for _ in ("length", "chunks")
    ]
