"""Everything in a run's folder that its report shows."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

from torch_es.report.plotting import Rows, read_metrics
from torch_es.report.split_half import split_half_cosines
from torch_es.runs import checkpoint
from torch_es.runs.replay_log import Record, read


class Evidence(NamedTuple):
    """Everything that the report shows.

    Attributes:
        folder: The run's folder.
        env: The id of its environment; empty if it has none.
        rows: Its metrics, one row for each generation.
        header: The header of its replay log: seed, options, machine.
        records: Its replay log's generations.
        dim: Parameters of its module; None before the first checkpoint.
        cosines: (generation, split-half cosine), see `torch_es.report.split_half`.
        config: Its settings as text: config.yaml, or the arguments of `ES`.
        video: Content of video.mp4, if there is one.
        ended: The result in summary.json; empty while the run is training, or without `torch-es train`.
    """

    folder: Path
    env: str
    rows: Rows
    header: dict[str, Any]
    records: list[Record]
    dim: int | None
    cosines: list[tuple[int, float]]
    config: str
    video: bytes | None
    ended: dict[str, float]


def gather(folder: Path) -> Evidence:
    """Read a run's folder; the run may still be training.

    Raises:
        ValueError: If the folder is not a run, or has not finished a generation yet.
        RunFolderError: If its replay log is missing or damaged.
    """
    rows = read_metrics(folder)
    header, frames = read(folder / "replay.log")
    records = list(frames)
    saved = checkpoint.newest(folder / "checkpoints")
    dim = saved and sum(math.prod(shape) for shape in saved["shapes"].values())
    config, video, summary = (folder / name for name in ("config.yaml", "video.mp4", "summary.json"))
    ended = json.loads(summary.read_text()) if summary.is_file() else {}
    return Evidence(
        folder,
        header["env"],
        rows,
        header,
        records,
        dim,
        split_half_cosines(header["options"], dim, records) if dim else [],
        config.read_text() if config.is_file() else json.dumps(header["options"], indent=1),
        video.read_bytes() if video.is_file() else None,
        ended if ended.get("generation") == rows[-1]["time/iterations"] else {},
    )
