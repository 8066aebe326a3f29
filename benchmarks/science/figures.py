"""The figures of docs/science.md: the mean over seeds, and their range."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, NullFormatter

from science.curves import CORE, RETURN, STEPS, WALL, mean_curve
from science.experiments import env_id, labels
from science.summaries import Found

COLUMNS = 2  # of panels
AXES = {STEPS: "environment steps", CORE: "core-seconds", WALL: "wall-clock seconds"}


def draw(experiment: str, rows: Sequence[Found], out: Path) -> None:
    """Draw the figure of an experiment."""
    if experiment == "table1":
        table1(rows, out)
    else:
        panels(experiment, rows, out)


def table1(rows: Sequence[Found], out: Path) -> None:
    """Draw a line of panels for each task: return against steps, core-seconds and wall-clock."""
    tasks = list(dict.fromkeys(job.task for job, _ in rows))
    figure = Figure(figsize=(14, 3.6 * len(tasks)), layout="constrained")
    FigureCanvasAgg(figure)
    grid: Any = figure.subplots(len(tasks), len(AXES), squeeze=False)
    for line, task in zip(grid, tasks, strict=True):
        for panel, (axis, name) in zip(line, AXES.items(), strict=True):
            panel.set_xscale("log")
            for i, arm in enumerate(dict.fromkeys(job.arm for job, _ in rows)):
                curves = [result["curve"] for job, result in rows if (job.task, job.arm) == (task, arm)]
                if curves:
                    _line(panel, curves, axis, arm.upper(), f"C{i}")
            panel.set(title=env_id(task), xlabel=name, ylabel="return, noise-free")
            panel.xaxis.set_major_formatter(EngFormatter(sep="") if axis == STEPS else "{x:,g}")
            panel.xaxis.set_minor_formatter(NullFormatter())
            panel.grid(alpha=0.3)
        line[0].legend(frameon=False)
    figure.savefig(out, dpi=90)


def _line(panel: Any, curves: Sequence[Any], axis: int, name: str, colour: str) -> None:
    x, mean = mean_curve(curves, axis)
    each = np.array([np.interp(x, *np.array(curve)[:, [axis, RETURN]].T) for curve in curves])
    later = (x > 0) | (panel.get_xscale() == "linear")  # the start has no place on a logarithmic axis
    panel.plot(x[later], mean[later], color=colour, label=f"{name} ({len(curves)} seed{'s' * (len(curves) > 1)})")
    panel.fill_between(x[later], each.min(0)[later], each.max(0)[later], color=colour, alpha=0.15, linewidth=0)


def panels(experiment: str, rows: Sequence[Found], out: Path) -> None:
    """Draw a panel for each row of the experiment's table, and a line in it for each column."""
    found: dict[str, dict[str, list[Any]]] = {}
    for job, result in rows:
        task, arm = labels(experiment, job)
        curve = np.array(result["curve"])
        curve[:, STEPS] *= getattr(job.work, "repeat", 1)
        found.setdefault(task, {}).setdefault(arm, []).append(curve)
    columns = min(len(found), COLUMNS)
    lines = math.ceil(len(found) / columns)
    figure = Figure(figsize=(5.5 * columns, 4.2 * lines), layout="constrained")
    FigureCanvasAgg(figure)
    for number, (task, arms) in enumerate(found.items()):
        panel = figure.add_subplot(lines, columns, number + 1)
        for i, (arm, curves) in enumerate(arms.items()):
            _line(panel, curves, STEPS, arm, f"C{i}")
        panel.set(title=task, xlabel=AXES[STEPS], ylabel="return, noise-free")
        panel.xaxis.set_major_formatter(EngFormatter(sep=""))
        panel.legend(frameon=False)
        panel.grid(alpha=0.3)
    figure.savefig(out, dpi=110)
