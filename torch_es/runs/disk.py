"""What a run needs of the disk, checked before the first generation."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from torch_es.errors import ResourceError

_MIB = 2**20


def check_folder(folder: Path, needed: int) -> None:
    """Check that `folder` can be written to and that its disk has `needed` bytes left.

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
