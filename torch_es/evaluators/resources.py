"""What a run needs of the machine, looked at before the first generation, where a lack costs nothing yet."""

from __future__ import annotations

import resource
import shutil
from pathlib import Path

from torch_es.errors import ResourceError

_SHARED = Path("/dev/shm")  # noqa: S108 - where Linux keeps shared memory
_SPARE_DESCRIPTORS = 32  # Python, torch, environments, loggers
_MIB = 2**20


def check_shared_memory(needed: int) -> None:
    """Refuse to start when shared memory cannot hold `needed` bytes: a worker would die of SIGBUS later.

    Raises:
        ResourceError: With both sizes and the way out.

    Example:
        >>> check_shared_memory(0)
    """
    if not _SHARED.is_dir():
        return
    free = shutil.disk_usage(_SHARED).free
    if free < needed:
        raise ResourceError(
            f"{_SHARED} has {free / _MIB:.1f} MiB free, but the workers' shared memory needs {needed / _MIB:.1f} MiB; "
            "give a container more with `docker run --shm-size=...`, or use `num_workers=0`."
        )


def check_descriptors(needed: int) -> None:
    """Make sure of `needed` file descriptors, raising this process's own limit as far as the system lets it.

    Raises:
        ResourceError: If the limit is below.

    Example:
        >>> check_descriptors(1)
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed += _SPARE_DESCRIPTORS
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise ResourceError(f"The workers need {needed} open files, the limit is {hard}; raise it with `ulimit -n`.")
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
