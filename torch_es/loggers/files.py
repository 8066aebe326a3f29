"""Metrics in files of the run's folder: `metrics.jsonl`, from which the rest can be rebuilt, and `progress.csv`."""

from __future__ import annotations

import csv
import io
import json
import logging
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch_es.loggers.appending import AppendFile, set_aside
from torch_es.loggers.names import Naming, named
from torch_es.types import Metrics

_log = logging.getLogger(__name__)


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
        """Write a row; values that are not finite are left out, since JSON cannot hold them."""
        finite = {key: value for key, value in metrics.items() if math.isfinite(value)}
        self._file.append(json.dumps(finite).encode() + b"\n")

    @property
    def deleted(self) -> bool:
        """Whether the file was deleted since it was opened."""
        return self._file.deleted

    def sync(self) -> None:
        """Wait until the rows would survive a power failure."""
        self._file.sync()

    def close(self, exit_code: int = 0) -> None:
        """Close the file."""
        self._file.close()


class CsvLogger:
    """Writes `progress.csv` with a column for each metric; a cell is empty if the metric was not measured.

    Args:
        naming: Names of the metrics: "sb3", "cleanrl" or "both".

    Example:
        >>> import tempfile
        >>> folder, logger = Path(tempfile.mkdtemp()), CsvLogger(naming="sb3")
        >>> logger.start({}, folder)
        >>> logger.log({"global_step": 1.0}); logger.log({"global_step": 2.0, "eval/mean_reward": 7.5}); logger.close()
        >>> (folder / "progress.csv").read_text().split()
        ['global_step,eval/mean_reward', '1.0,', '2.0,7.5']
    """

    def __init__(self, naming: Naming = "both") -> None:
        self._naming = naming
        self._columns: list[str] = []
        self._file: AppendFile | None = None

    def start(self, config: Mapping[str, Any], folder: Path) -> None:
        """Remember the folder; the file is written with the first row."""
        self._path = folder / "progress.csv"

    def log(self, metrics: Metrics) -> None:
        """Write a row. The first row after a resume, or one with a new metric, rewrites the rows before it."""
        row = named(metrics, self._naming)
        if self._file is None or not row.keys() <= set(self._columns):
            self._begin(row)
        assert self._file is not None
        self._file.append(_lines(self._columns, [row]))

    def close(self, exit_code: int = 0) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _begin(self, row: Metrics) -> None:
        """Keep the rows before `row`, and add columns for its metrics.

        A result at the end of a run has the step of the last generation's row, which is before it. The file of another
        run, or of this one if it begins anew, is set aside.
        """
        grows = self._file is not None
        self.close()
        if not grows and row.get("time/iterations") == 1 and self._path.is_file():
            aside = set_aside(self._path)
            _log.warning("`%s` held the rows of an earlier run; they are kept as %s.", self._path, aside.name)
        step, result = row["global_step"], "time/iterations" not in row

        def is_before(other: Mapping[str, str]) -> bool:
            then = float(other["global_step"])
            return grows or then < step or (then == step and result and bool(other.get("time/iterations")))

        written = self._path.read_text() if self._path.is_file() else ""
        whole = written[: written.rfind("\n") + 1]  # a last row that a kill cut short does not count
        before = [r for r in csv.DictReader(io.StringIO(whole)) if is_before(r)]
        self._columns = list(dict.fromkeys([*(before[0] if before else ()), *row]))
        staging = self._path.with_name(f".{self._path.name}.tmp")
        staging.write_bytes(_lines(self._columns, [dict(zip(self._columns, self._columns, strict=True)), *before]))
        os.replace(staging, self._path)
        self._file = AppendFile(self._path)


def _lines(columns: list[str], rows: Iterable[Mapping[str, object]]) -> bytes:
    text = io.StringIO()
    csv.DictWriter(text, columns, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
