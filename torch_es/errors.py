"""The errors that are torch_es's own; everything else is a plain TypeError or ValueError."""


class WorkerError(RuntimeError):
    """A worker process was lost, or an environment raised inside one; the message carries the worker's traceback."""


class MissingExtraError(ImportError):
    """An optional dependency is missing; the message names the extra that brings it."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"`{package}` is not installed; it comes with the extra `{extra}`: pip install 'torch-evolution[{extra}]'."
        )


class NonFiniteError(ValueError):
    """A return, an update or a parameter is NaN or infinite where it must not be."""
