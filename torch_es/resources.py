"""What a run needs of the machine, looked at before the first generation, where a lack costs nothing yet."""

from __future__ import annotations

import os
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


def check_folder(folder: Path, needed: int) -> None:
    """Make sure that `folder` can be written to and its disk has `needed` bytes left.

    Raises:
        ResourceError: If not.

    Example:
        >>> import tempfile
        >>> check_folder(Path(tempfile.mkdtemp()), 1)
    """
    probe = folder / f".probe{os.getpid()}"
    try:
        probe.write_bytes(b"0")
        probe.unlink()
    except OSError as error:
        raise ResourceError(f"`{folder}` cannot be written to ({error.strerror}); name another folder.") from error
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ResourceError(
            f"`{folder}` has {free / _MIB:.1f} MiB left, the run's checkpoints need {needed / _MIB:.1f} MiB; "
            "make room or name a folder on another disk."
        )
