"""Where metrics go: each logger takes the same rows, and lives in the parent process only."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from torch_es.errors import MissingExtraError
from torch_es.types import Metrics


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


class JsonlLogger:
    """Appends rows to `metrics.jsonl`, flushed as they come.

    Example:
        >>> import tempfile
        >>> logger = JsonlLogger()
        >>> logger.start({}, Path(tempfile.mkdtemp()))
        >>> logger.log({"global_step": 1.0}); logger.close()
    """

    def start(self, config: Mapping[str, Any], folder: Path) -> None:
        """Open the file to append."""
        self._file = (folder / "metrics.jsonl").open("a")

    def log(self, metrics: Metrics) -> None:
        """Write a row; a value that is not finite has no JSON form and is left out."""
        finite = {key: value for key, value in metrics.items() if math.isfinite(value)}
        self._file.write(json.dumps(finite) + "\n")
        self._file.flush()

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
        self._run = wandb.init(dir=str(folder), config=dict(config), **options)
        # rows carry their own x-axis, since W&B silently drops steps that go back
        self._run.define_metric("global_step")
        self._run.define_metric("*", step_metric="global_step")

    def log(self, metrics: Metrics) -> None:
        """Send a row."""
        self._run.log(dict(metrics))

    def close(self, exit_code: int = 0) -> None:
        """Finish the run."""
        self._run.finish(exit_code=exit_code)
