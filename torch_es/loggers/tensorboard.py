"""Metrics as TensorBoard's scalars, and the config as its hyperparameters."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch_es.checks import flat
from torch_es.errors import needs
from torch_es.loggers.appending import set_aside
from torch_es.loggers.names import Naming, named
from torch_es.types import Metrics

_log = logging.getLogger(__name__)

_OBJECTIVE = "eval/mean_reward"  # the result that TensorBoard's table of hyperparameters shows


class TensorBoardLogger:
    """Writes scalars for TensorBoard into `tensorboard/` in the run's folder.

    Args:
        naming: Names of the metrics: "sb3", "cleanrl" or "both".

    Raises:
        MissingExtraError: If tensorboard is not installed.
    """

    def __init__(self, naming: Naming = "both") -> None:
        with needs("tensorboard"):
            from tensorboard.compat.proto.summary_pb2 import Summary
            from torch.utils.tensorboard import SummaryWriter
            from torch.utils.tensorboard.summary import hparams
        self._open, self._summary, self._hparams = SummaryWriter, Summary, hparams
        self._naming = naming
        self._writer: Any = None

    def start(self, config: Mapping[str, Any], folder: Path) -> None:
        """Remember the folder; the event file begins with the first row."""
        self._folder = folder / "tensorboard"
        values = {key: v if isinstance(v, (bool, int, float)) else str(v) for key, v in flat(config).items()}
        self._config = self._hparams(values, {_OBJECTIVE: 0.0}) if values else ()

    def log(self, metrics: Metrics) -> None:
        """Write each metric at `global_step`."""
        step = int(metrics["global_step"])
        if self._writer is None:
            if metrics.get("time/iterations") == 1 and self._folder.is_dir():
                aside = set_aside(self._folder)
                _log.warning("`%s` held an earlier run; it is kept as %s.", self._folder, aside.name)
            # a resumed run may play a generation again: its old row is hidden; a final result has none and hides none
            purge = step if "time/iterations" in metrics else None
            self._writer = self._open(str(self._folder), purge_step=purge)
            for summary in self._config:
                self._writer.file_writer.add_summary(summary)
        values = [
            self._summary.Value(tag=key, simple_value=value) for key, value in named(metrics, self._naming).items()
        ]
        self._writer.file_writer.add_summary(self._summary(value=values), step)  # one event; add_scalar writes many

    def close(self, exit_code: int = 0) -> None:
        """Flush and close."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
