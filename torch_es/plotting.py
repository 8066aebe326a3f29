"""`curve.png` from `metrics.jsonl`: return against steps and against wall-clock."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from torch_es.types import Float64Array

Rows = list[dict[str, float]]


def read_metrics(folder: str | Path) -> Rows:
    """Return the rows of a run.

    Raises:
        ValueError: If the folder holds none.
    """
    path = Path(folder) / "metrics.jsonl"
    if not path.is_file():
        raise ValueError(f"`{folder}` is no run folder: it has no metrics.jsonl.")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    if not rows:
        raise ValueError(f"`{path}` is empty: the run has not finished a generation yet.")
    return rows


def plot_runs(folders: Sequence[str | Path], out: str | Path) -> Path:
    """Draw the runs over each other, population band and centre, and return where the picture is.

    Raises:
        ValueError: If a folder holds no metrics.
    """
    runs = {Path(folder).name: read_metrics(folder) for folder in folders}
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Sequence[Axes] = figure.subplots(1, 2, sharey=True)
    for axis, key, label in zip(
        axes, ("global_step", "time/time_elapsed"), ("environment steps", "seconds"), strict=True
    ):
        for i, (name, rows) in enumerate(runs.items()):
            _draw(axis, rows, key, name if len(runs) > 1 else "", f"C{i}")
        axis.set_xlabel(label)
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].xaxis.set_major_formatter(EngFormatter(sep=""))
    axes[0].set_ylabel("return")
    axes[0].legend(frameon=False)
    figure.savefig(out, dpi=120)
    return Path(out)


def _draw(axis: Axes, rows: Rows, key: str, name: str, colour: str) -> None:
    x, mean, std = (_column(rows, k) for k in (key, "rollout/ep_rew_mean", "rollout/ep_rew_std"))
    prefix = f"{name}: " if name else ""
    axis.fill_between(x, mean - std, mean + std, color=colour, alpha=0.2, linewidth=0)
    axis.plot(x, mean, color=colour, alpha=0.7, label=f"{prefix}population, mean ± std")
    evaluated = [row for row in rows if "eval/mean_reward" in row]
    axis.plot(
        _column(evaluated, key),
        _column(evaluated, "eval/mean_reward"),
        color=colour if name else "C1",
        marker="o",
        markersize=3,
        label=f"{prefix}centre, noise-free",
    )


def _column(rows: Rows, key: str) -> Float64Array:
    return np.array([row.get(key, np.nan) for row in rows], dtype=np.float64)
