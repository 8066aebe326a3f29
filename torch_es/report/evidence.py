"""Everything in a run's folder that its report shows."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

from torch_es.report.plotting import read_metrics, read_result
from torch_es.report.split_half import split_half_cosines
from torch_es.runs import checkpoint
from torch_es.runs.replay_log import read


class Evidence:
    """What the folder of a run holds, read at once; the run may still be training.

    Raises:
        ValueError: If the folder is not a run, or has not finished a generation yet.
        RunFolderError: If its replay log is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows = read_metrics(folder)  # one for each generation
        self.header, frames = read(folder / "replay.log")  # seed, options, machine
        self.records = list(frames)
        self.env, options = self.header["env"], self.header["options"]
        saved = checkpoint.newest(folder / "checkpoints")
        self.dim = sum(math.prod(shape) for shape in saved["shapes"].values()) if saved else None
        self.cosines = split_half_cosines(options, self.dim, self.records) if self.dim else []
        config, video = (folder / name for name in ("config.yaml", "video.mp4"))
        self.config = config.read_text() if config.is_file() else json.dumps(options, indent=1)
        self.video = video.read_bytes() if video.is_file() else None
        log = folder / "run.log"
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
        self.nodes = [line for line in lines if re.search(r" Node \S+ .*\b(joined|remain)\b", line)]  # of a cluster
        self.ended = read_result(folder, self.rows)
