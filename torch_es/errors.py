"""The exceptions of torch_es; all other errors are plain TypeErrors and ValueErrors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch_es.types import Task


class WorkerError(RuntimeError):
    """A worker process was lost, or an environment raised an exception inside one.

    The message holds the worker's traceback. The environment's exception is the `__cause__`. `task` is the episode at
    fault, if that is known.
    """

    def __init__(self, message: str, task: Task | None = None) -> None:
        super().__init__(message)
        self.task = task


class Stopped(BaseException):
    """A signal asked to stop while a generation was being played; theta is that of the last whole one."""


class JobError(RuntimeError):
    """A job of a multirun or a trial of a sweep failed; the others continued."""


class ResourceError(OSError):
    """Too little shared memory or disk space, or too few file descriptors; found before the first generation."""


class RunFolderError(ValueError):
    """A run folder is in use, belongs to another run, or has a damaged log."""


class MissingExtraError(ImportError):
    """An optional package is missing; the message names the extra to install."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"`{package}` is not installed; it comes with the extra `{extra}`: pip install 'torch-evolution[{extra}]'."
        )


@contextlib.contextmanager
def needs(extra: str) -> Iterator[None]:
    """Name the extra to install if an import in the `with` block fails."""
    try:
        yield
    except ImportError as error:
        raise MissingExtraError((error.name or extra).partition(".")[0], extra) from error


class NonFiniteError(ValueError):
    """A return, an update or a parameter is NaN or infinite."""
