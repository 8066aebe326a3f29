"""Log files that grow by whole pieces only, and a place for those of an earlier run."""

from __future__ import annotations

import os
from pathlib import Path


class AppendFile:
    """Appends pieces. A piece that does not fit on the disk is not written in part; it is written with the next one.

    Args:
        path: The file; created if it does not exist.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "log"
        >>> file = AppendFile(path); file.append(b"one"); file.append(b"two"); file.cut(3); file.close()
        >>> path.read_bytes()
        b'one'
    """

    def __init__(self, path: str | Path) -> None:
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self.size = os.fstat(self._handle).st_size
        self._waiting = b""

    def append(self, piece: bytes) -> None:
        """Write a piece, after any that could not be written before.

        Raises:
            OSError: If there is no room; nothing is lost.
        """
        self._waiting += piece
        written = 0
        try:
            while written < len(self._waiting):
                written += os.write(self._handle, self._waiting[written:])
        except OSError:
            os.ftruncate(self._handle, self.size)
            raise
        self.size += written
        self._waiting = b""

    def cut(self, size: int) -> None:
        """Keep the first `size` bytes."""
        os.ftruncate(self._handle, size)
        self.size = size

    @property
    def deleted(self) -> bool:
        """Whether the file was deleted since it was opened, so that what is written to it is lost."""
        return os.fstat(self._handle).st_nlink == 0

    def sync(self) -> None:
        """Write what is pending, and wait until everything would survive a power failure.

        Raises:
            OSError: If there is no room.
        """
        self.append(b"")
        os.fsync(self._handle)

    def close(self) -> None:
        """Close the file."""
        os.close(self._handle)


def set_aside(path: Path) -> Path:
    """Rename what an earlier run left at `path`, and return its new name, under which nothing was before.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "progress.csv"
        >>> [set_aside(path).name for _ in range(2) if path.write_text("rows")]
        ['progress.earlier.csv', 'progress.earlier-2.csv']
    """
    aside, number = path.with_name(f"{path.stem}.earlier{path.suffix}"), 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.stem}.earlier-{number}{path.suffix}")
    path.rename(aside)
    return aside
