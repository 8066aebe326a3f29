"""The errors that are torch_es's own; everything else is a plain TypeError or ValueError."""

from torch_es.types import Task


class WorkerError(RuntimeError):
    """A worker process was lost, or an environment raised inside one; the message carries the worker's traceback.

    What the environment raised is its `__cause__`; `task` is the episode that is to blame, where that is known.
    """

    def __init__(self, message: str, task: Task | None = None) -> None:
        super().__init__(message)
        self.task = task


class Stopped(BaseException):
    """A signal asked to stop while a generation was being played; theta is that of the last whole one."""


class JobError(RuntimeError):
    """A job of a multirun or a trial of a sweep failed; the others went on."""


class ResourceError(OSError):
    """Shared memory, file descriptors or disk space do not suffice; found before the first generation."""


class RunFolderError(ValueError):
    """A run's folder is in use, belongs to another run, or its log is damaged."""


class MissingExtraError(ImportError):
    """An optional dependency is missing; the message names the extra that brings it."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"`{package}` is not installed; it comes with the extra `{extra}`: pip install 'torch-evolution[{extra}]'."
        )


class NonFiniteError(ValueError):
    """A return, an update or a parameter is NaN or infinite where it must not be."""
