"""What the benchmark ran on, and how steady it was meanwhile."""

import hashlib
import os
import platform
import resource
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


def cpu_of(pid: int) -> float | None:
    """Return the seconds of processor time that a process has used; None where nothing tells."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_of(pid: int) -> int:
    """Return the bytes of memory that a process keeps resident; 0 where nothing tells."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    except OSError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def allow_files(wanted: int) -> int:
    """Raise the limit of open files towards what is wanted, for child processes too; return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return soft
