"""What the benchmark ran on, and how steady it was meanwhile."""

import hashlib
import os
import platform
import time
from pathlib import Path

PROBE_BLOCK = bytes(1 << 20)
PROBE_BLOCKS = 16


def describe_machine() -> dict[str, object]:
    """Return what figures depend on: processor, cores, system, Python, load."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "load_before": os.getloadavg()[0],
    }


def probe() -> float:
    """Return the seconds that a fixed computation takes now; on a quiet machine always the same."""
    begun = time.perf_counter()
    for _ in range(PROBE_BLOCKS):
        hashlib.sha256(PROBE_BLOCK)
    return time.perf_counter() - begun


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
