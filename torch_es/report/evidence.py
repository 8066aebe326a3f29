"""What a run's folder knows of the run, gathered for its report."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import OmegaConf

from torch_es.report.plotting import Rows, read_metrics
from torch_es.report.split_half import split_half_cosines
from torch_es.runs import checkpoint
from torch_es.runs.replay_log import Record, read


class Evidence(NamedTuple):
    """All of it.

    Attributes:
        folder: Of the run.
        env: Its environment's id, if it is known by one.
        rows: Its metrics, a row a generation.
        header: Of its replay log: seed, options, machine.
        records: Its replay log's generations.
        dim: Parameters of its module; None before the first checkpoint.
        cosines: (generation, split-half cosine), see `torch_es.report.split_half`.
        config: Its settings as text: config.yaml, or what `ES` was called with.
        video: Content of video.mp4, if there is one.
        ended: What `torch-es train` measured at the end, summary.json; empty where it did not, or went on since.
    """

    folder: Path
    env: str | None
    rows: Rows
    header: dict[str, Any]
    records: list[Record]
    dim: int | None
    cosines: list[tuple[int, float]]
    config: str
    video: bytes | None
    ended: dict[str, float]


def gather(folder: Path) -> Evidence:
    """Read a run's folder, also while the run goes on.

    Raises:
        ValueError: If the folder is no run, or has not finished a generation yet.
        RunFolderError: If its replay log is missing or damaged.
    """
    rows = read_metrics(folder)
    header, frames = read(folder / "replay.log")
    records = list(frames)
    saved = checkpoint.newest(folder / "checkpoints")
    dim = saved and sum(math.prod(shape) for shape in saved["shapes"].values())
    config, video, summary = (folder / name for name in ("config.yaml", "video.mp4", "summary.json"))
    ended = json.loads(summary.read_text()) if summary.is_file() else {}
    settings = OmegaConf.load(config) if config.is_file() else None
    return Evidence(
        folder,
        OmegaConf.select(settings, "env.id") if settings is not None else header["options"].get("env"),
        rows,
        header,
        records,
        dim,
        split_half_cosines(header["options"], dim, records) if dim else [],
        config.read_text() if settings is not None else json.dumps(header["options"], indent=1),
        video.read_bytes() if video.is_file() else None,
        ended if ended.get("generation") == rows[-1]["time/iterations"] else {},
    )
