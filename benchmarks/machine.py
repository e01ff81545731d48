"""What the benchmark runs on: the machine, its steadiness, and what it tells of a process."""

import hashlib
import math
import os
import platform
import re
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("workflow-server", "llama-index-workflows", "fastapi", "uvicorn", "pydantic")


def describe() -> dict[str, object]:
    """Return what figures depend on: date, processor, load, Python, packages."""
    cpuinfo = Path("/proc/cpuinfo")
    models = re.findall(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else []
    peer = Path(__file__).with_name("peer-requirements.txt").read_text()
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "load before": f"{os.getloadavg()[0]:.2f}",
        "system": f"{platform.system()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "peer": re.findall("(?m)^llama-agents-server.*", peer)[0],
        "packages": ", ".join(f"{package} {version(package)}" for package in PACKAGES),
    }


def probe() -> float:
    """Return the seconds that a fixed computation takes now; on a quiet machine always the same."""
    begun = time.perf_counter()
    hashlib.sha256(bytes(1 << 24))
    return time.perf_counter() - begun


def cpu_of(pid: int) -> float:
    """Return the seconds of processor time that a process has used; NaN where nothing tells."""
    try:
        return time.clock_gettime((~pid << 3) | 2)  # as clock_getcpuclockid() of Linux does
    except OSError:
        return math.nan


def memory_of(pid: int) -> float:
    """Return the bytes of memory that a process keeps resident; NaN where nothing tells."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    except OSError:
        return math.nan
    return float(pages) * os.sysconf("SC_PAGE_SIZE")
