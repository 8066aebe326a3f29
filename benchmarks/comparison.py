"""Arms of an experiment, each with several seeds, as curves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

COLUMNS = 2  # of panels
Row = dict[str, Any]


def draw(rows: Sequence[Row], out: Path) -> None:
    """Draw a panel a task and a line an arm: the mean over seeds, and their range."""
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    columns = min(len(tasks), COLUMNS)
    lines = math.ceil(len(tasks) / columns)
    figure = Figure(figsize=(5.5 * columns, 4.2 * lines), layout="constrained")
    FigureCanvasAgg(figure)
    for number, task in enumerate(tasks):
        axis = figure.add_subplot(lines, columns, number + 1)
        own = [row for row in rows if row["task"] == task]
        for i, arm in enumerate(dict.fromkeys(row["arm"] for row in own)):
            _line(axis, [row for row in own if row["arm"] == arm], arm, f"C{i}")
        axis.set(title=task, xlabel="environment steps", ylabel="centre's return, noise-free")
        axis.xaxis.set_major_formatter(EngFormatter(sep=""))
        axis.legend(frameon=False)
        axis.grid(alpha=0.3)
    figure.savefig(out, dpi=110)


def _line(axis: Axes, rows: Sequence[Row], arm: str, colour: str) -> None:
    grid = np.linspace(0, min(row["steps"][-1] for row in rows), 60)
    curves = np.array([np.interp(grid, row["steps"], row["centre"]) for row in rows])
    axis.fill_between(grid, curves.min(0), curves.max(0), color=colour, alpha=0.15, linewidth=0)
    axis.plot(grid, curves.mean(0), color=colour, label=f"{arm} ({len(rows)} seeds)")
