"""What a logger is, and why none of them can stop training."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from torch_es.types import Metrics

_log = logging.getLogger(__name__)


class Logger(Protocol):
    """Takes one row of metrics a generation; keys that were not measured are absent, never NaN."""

    def start(self, config: Mapping[str, Any], folder: Path) -> None:
        """Begin a run in `folder`."""
        ...

    def log(self, metrics: Metrics) -> None:
        """Take a row; `metrics["global_step"]` is its place on the x-axis."""
        ...

    def close(self, exit_code: int = 0) -> None:
        """End the run."""
        ...


class Guarded:
    """A logger whose failures do not stop training: the first is told in a warning, and it is not asked again.

    Args:
        logger: The logger to guard.

    Example:
        >>> from torch_es.loggers import CsvLogger
        >>> guarded = Guarded(CsvLogger())
        >>> guarded.log({"global_step": 1.0})  # never started, so it fails
    """

    def __init__(self, logger: Logger) -> None:
        self._logger = logger
        self._failed = False

    def start(self, config: Mapping[str, Any], folder: Path) -> None:
        """Begin a run."""
        self._try("start", config, folder)

    def log(self, metrics: Metrics) -> None:
        """Take a row."""
        self._try("log", metrics)

    def close(self, exit_code: int = 0) -> None:
        """End the run."""
        self._try("close", exit_code)

    def _try(self, call: str, *arguments: Any) -> None:
        if self._failed:
            return
        try:
            getattr(self._logger, call)(*arguments)
        except Exception as error:  # noqa: BLE001 - a foreign library may raise anything
            self._failed = True
            _log.warning(
                "%s failed in %s() and is not used any more; training goes on, metrics.jsonl has every row. %s: %s",
                type(self._logger).__name__, call, type(error).__name__, error,
            )  # fmt: skip
