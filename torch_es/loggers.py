"""Where metrics go: each logger takes the same rows, and lives in the parent process only."""

from __future__ import annotations

import json
import logging
import math
import secrets
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from torch_es.appending import AppendFile
from torch_es.errors import MissingExtraError
from torch_es.types import Metrics

_log = logging.getLogger(__name__)

_BY_SIGNAL = 128  # exit codes above it name the signal


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
        >>> guarded = Guarded(JsonlLogger())
        >>> guarded.log({"global_step": 1.0})  # never started, so it fails
    """

    def __init__(self, logger: Logger) -> None:
        self._logger = logger
        self._failed = False

    def start(self, config: Mapping[str, Any], folder: Path) -> None:
        """Begin a run.

        Raises:
            MissingExtraError: If the logger needs a package that is not installed.
        """
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
        except MissingExtraError:
            raise
        except Exception as error:  # noqa: BLE001 - a foreign library may raise anything
            self._failed = True
            _log.warning(
                "%s failed in %s() and is not used any more; training goes on, metrics.jsonl has every row. %s: %s",
                type(self._logger).__name__, call, type(error).__name__, error,
            )  # fmt: skip


class JsonlLogger:
    """Appends rows to `metrics.jsonl` as they come.

    Example:
        >>> import tempfile
        >>> logger = JsonlLogger()
        >>> logger.start({}, Path(tempfile.mkdtemp()))
        >>> logger.log({"global_step": 1.0}); logger.close()
    """

    def start(self, config: Mapping[str, Any], folder: Path) -> None:
        """Open the file to append."""
        self._file = AppendFile(folder / "metrics.jsonl")

    def log(self, metrics: Metrics) -> None:
        """Write a row; a value that is not finite has no JSON form and is left out."""
        finite = {key: value for key, value in metrics.items() if math.isfinite(value)}
        self._file.append(json.dumps(finite).encode() + b"\n")

    def sync(self) -> None:
        """Wait until the rows would survive a power failure."""
        self._file.sync()

    def close(self, exit_code: int = 0) -> None:
        """Close the file."""
        self._file.close()


class TensorBoardLogger:
    """Writes scalars for TensorBoard into `tensorboard/`."""

    def start(self, config: Mapping[str, Any], folder: Path) -> None:
        """Open the event file.

        Raises:
            MissingExtraError: If tensorboard is not installed.
        """
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingExtraError("tensorboard", "tensorboard") from error
        self._writer = SummaryWriter(str(folder / "tensorboard"))

    def log(self, metrics: Metrics) -> None:
        """Write each metric at `global_step`."""
        for key, value in metrics.items():
            self._writer.add_scalar(key, value, int(metrics["global_step"]))

    def close(self, exit_code: int = 0) -> None:
        """Flush and close."""
        self._writer.close()


class WandbLogger:
    """Sends rows to Weights & Biases; offline with `mode="offline"` or `WANDB_MODE=offline`.

    Args:
        project: Name of the project.
        name: Of the run; the folder's name by default.
        group: Of the run, for many seeds of one experiment.
        mode: online, offline, disabled, or None for what the environment says.
    """

    def __init__(
        self, project: str = "torch_es", name: str | None = None, group: str | None = None, mode: str | None = None
    ) -> None:
        self._options: dict[str, Any] = {"project": project, "name": name, "group": group, "mode": mode}

    def start(self, config: Mapping[str, Any], folder: Path) -> None:
        """Begin the run.

        Raises:
            MissingExtraError: If wandb is not installed.
        """
        try:
            import wandb
        except ImportError as error:
            raise MissingExtraError("wandb", "wandb") from error
        options = {**self._options, "name": self._options["name"] or folder.name}
        # a resumed run goes on in W&B as the same one; offline, its parts are brought together when they are synced
        kept = folder / ".wandb-id"
        if not kept.is_file():
            kept.write_text(secrets.token_hex(4))
        self._run = wandb.init(dir=str(folder), config=dict(config), id=kept.read_text(), resume="allow", **options)
        # rows carry their own x-axis, since W&B silently drops steps that go back
        self._run.define_metric("global_step")
        self._run.define_metric("*", step_metric="global_step")

    def log(self, metrics: Metrics) -> None:
        """Send a row."""
        self._run.log(dict(metrics))

    def close(self, exit_code: int = 0) -> None:
        """Finish the run; one that a signal ended is marked as preempted, so that it can be queued again."""
        if exit_code > _BY_SIGNAL and exit_code != _BY_SIGNAL + signal.SIGINT:
            self._run.mark_preempting()
        self._run.finish(exit_code=exit_code)
