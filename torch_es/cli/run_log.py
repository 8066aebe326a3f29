"""`run.log` in the run's folder: warnings, and the traceback of an error that ended the run."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path


class _File(logging.FileHandler):
    """Creates the file with the first record. If it cannot be written, nothing stops: other handlers report too."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, delay=True)
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Say nothing: `logging` would print a traceback of its own."""


@contextlib.contextmanager
def run_log(folder: Path) -> Iterator[None]:
    r"""Write everything logged meanwhile to `run.log`, and the traceback of an error before it reaches the caller.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with run_log(folder):
        ...     logging.getLogger("torch_es").warning("the joint creaks")
        >>> (folder / "run.log").read_text().endswith("WARNING the joint creaks\n")
        True
    """
    file, root = _File(folder / "run.log"), logging.getLogger()
    root.addHandler(file)
    try:
        yield
    except Exception as error:
        trace = sys.exc_info()  # F53a
        file.handle(logging.LogRecord(__name__, logging.ERROR, __file__, 0, "%s", (error,), trace))
        raise
    finally:
        root.removeHandler(file)
        file.close()
