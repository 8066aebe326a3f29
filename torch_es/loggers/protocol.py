"""What a logger is, and how loggers are started, guarded and closed."""

from __future__ import annotations

import contextlib
import logging
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from torch_es.types import Metrics

_log = logging.getLogger(__name__)


class Logger(Protocol):
    """Takes one row of metrics for each generation; what was not measured is absent, never NaN."""

    def start(self, config: Mapping[str, Any], folder: Path) -> None:
        """Begin a run in `folder`."""
        ...

    def log(self, metrics: Metrics) -> None:
        """Take a row; `metrics["global_step"]` is its place on the x-axis."""
        ...

    def close(self, exit_code: int = 0) -> None:
        """End the run."""
        ...


def check_loggers(loggers: Iterable[object]) -> None:
    """Raise a TypeError if one is no logger."""
    for logger in loggers:
        if not hasattr(logger, "log"):
            raise TypeError(f"`loggers` must hold loggers, such as CsvLogger(), got {logger!r}.")


@contextlib.contextmanager
def opened(loggers: Sequence[Logger], config: Mapping[str, Any], folder: Path) -> Iterator[Callable[[Metrics], None]]:
    """Start loggers, yield a function that gives each of them a row, and close them however the run ends.

    A logger that fails does not stop training: a warning names it, and it is not used any more.

    Args:
        loggers: Any number of them.
        config: The run's settings, as plain data.
        folder: Where they write.

    Example:
        >>> import tempfile
        >>> from torch_es.loggers import CsvLogger
        >>> folder = Path(tempfile.mkdtemp())
        >>> with opened([CsvLogger()], {}, folder) as log:
        ...     log({"global_step": 1.0})
        >>> (folder / "progress.csv").read_text().split()
        ['global_step', '1.0']
    """
    check_loggers(loggers)
    working = list(loggers)

    def call(name: str, *arguments: Any) -> None:
        for logger in tuple(working):
            try:
                getattr(logger, name)(*(dict(a) if isinstance(a, Mapping) else a for a in arguments))
            except Exception as error:  # noqa: BLE001 - a foreign library may raise anything
                working.remove(logger)  # F51
                _log.warning(
                    "%s failed in %s() and is not used any more; training goes on. %s: %s",
                    type(logger).__name__, name, type(error).__name__, error,
                )  # fmt: skip

    code = 1
    try:
        call("start", config, folder)
        yield partial(call, "log")
        code = 0
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
        raise
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
        raise
    finally:
        call("close", code)
