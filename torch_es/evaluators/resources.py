"""What a run needs of the machine, checked before the first generation, when a lack costs nothing yet."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from torch_es.errors import ResourceError

try:
    import resource
except ImportError:  # Windows, which has no such limit
    resource = None  # type: ignore[assignment]

_SHARED = Path("/dev/shm")  # noqa: S108 - where Linux keeps shared memory
_SPARE_DESCRIPTORS = 32  # Python, torch, environments, loggers
_MIB = 2**20
_CGROUPS, _OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def check_shared_memory(needed: int) -> None:
    """Check that shared memory can hold `needed` bytes; otherwise a worker would die of SIGBUS later.

    Raises:
        ResourceError: If it cannot; the message names both sizes and the way out.

    Example:
        >>> check_shared_memory(0)
    """
    if not _SHARED.is_dir():
        return
    free = shutil.disk_usage(_SHARED).free
    if free < needed:  # F22
        raise ResourceError(
            f"{_SHARED} has {free / _MIB:.1f} MiB free, but the workers' shared memory needs {needed / _MIB:.1f} MiB; "
            "give a container more with `docker run --shm-size=...`, or use `num_workers=0`."
        )


def check_descriptors(needed: int) -> None:
    """Check that there are `needed` file descriptors; this process's own limit is raised as far as the system allows.

    Raises:
        ResourceError: If the limit is lower.

    Example:
        >>> check_descriptors(1)
    """
    if resource is None:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed += _SPARE_DESCRIPTORS
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise ResourceError(f"The workers need {needed} open files, the limit is {hard}; raise it with `ulimit -n`.")
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def default_num_workers() -> int:
    """Return the number of cores that this process may use.

    This is the smallest of three numbers: the cores that the process may run on (`taskset`, SLURM), a container's CPU
    quota, rounded up, and PYTHON_CPU_COUNT, which Python 3.13 lets a user set.

    Example:
        >>> default_num_workers() >= 1
        True
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    told = os.environ.get("PYTHON_CPU_COUNT", "")
    return max(1, min(cores, *(math.ceil(quota) for quota in _quotas()), int(told) if told.isdigit() else cores))


def _quotas() -> Iterator[float]:
    """Yield the CPU quotas of this process's control groups, in cores."""
    with contextlib.suppress(OSError, ValueError):  # version 1
        period = int((_CGROUPS / "cpu/cpu.cfs_period_us").read_text())
        if (quota := int((_CGROUPS / "cpu/cpu.cfs_quota_us").read_text())) > 0:
            yield quota / period
    with contextlib.suppress(OSError):
        lines = _OWN_GROUPS.read_text().splitlines()
        own = next((line[3:].lstrip("/") for line in lines if line.startswith("0::")), "")  # version 2
        for group in (_CGROUPS / own, *(_CGROUPS / own).parents):
            with contextlib.suppress(OSError, ValueError):  # ValueError: "max", which is no quota
                quota, period = map(int, (group / "cpu.max").read_text().split())
                yield quota / period
