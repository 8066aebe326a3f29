"""Curves from `metrics.jsonl`: return against steps, wall-clock and generations, many seeds as one band."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from torch_es.runs import checkpoint
from torch_es.types import Float64Array

Rows = list[dict[str, float]]

AXES = {"global_step": "environment steps", "time/time_elapsed": "seconds", "time/iterations": "generations"}
_POPULATION, _CENTRE = "rollout/ep_rew_mean", "eval/mean_reward"


def read_metrics(folder: str | Path) -> Rows:
    """Return the rows of a run's `metrics.jsonl`, one for each generation.

    Raises:
        ValueError: If the folder has no metrics.
    """
    path = Path(folder) / "metrics.jsonl"
    if not path.is_file():
        if checkpoint.numbered(Path(folder) / "checkpoints"):  # as in the zoo
            raise ValueError(
                f"`{folder}` holds only the policy: it has no metrics.jsonl; give the folder of a run that has one."
            )
        raise ValueError(f"`{folder}` is not a run folder: it has no metrics.jsonl.")
    text = path.read_text()
    lines = text[: text.rfind("\n") + 1].splitlines()  # a last row that a kill cut short does not count
    try:
        rows = [json.loads(line) for line in lines]
    except ValueError as error:
        raise ValueError(f"`{path}` has a row that is not JSON: {error}.") from error
    if not rows:
        raise ValueError(f"`{path}` is empty: the run has not finished a generation yet.")
    return rows


def read_result(folder: str | Path, rows: Rows) -> dict[str, float]:
    """Return a run's final evaluation; none if it has not ended, or was trained on since.

    Args:
        folder: The run folder.
        rows: Of its metrics.
    """
    path = Path(folder) / "summary.json"
    result: dict[str, float] = json.loads(path.read_text()) if path.is_file() else {}
    return result if result.pop("generation", None) == rows[-1]["time/iterations"] else {}


def column(rows: Rows, key: str) -> Float64Array:
    """Return one metric of every row, NaN for rows that lack it.

    Example:
        >>> column([{"a": 1.0}, {}], "a")
        array([ 1., nan])
    """
    return np.array([row.get(key, np.nan) for row in rows], dtype=np.float64)


def new_figure(columns: int, height: float = 4.2) -> tuple[Figure, list[Axes]]:
    """Return a figure with `columns` panels side by side; it opens no window."""
    figure = Figure(figsize=(max(6.5, 5 * columns), height), layout="constrained")
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(1, columns, squeeze=False)[0])
    for panel in panels:
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    return figure, panels


def plot_runs(runs: Sequence[str | Path] | Mapping[str, Sequence[str | Path]], out: str | Path) -> Path:
    """Draw the population's and the centre's return of runs into one picture.

    Args:
        runs: Run folders, each drawn by itself. Or groups of them, by the name that the legend shows: a group is one
            curve, its mean, with a band from lowest to highest.
        out: The picture's file.

    Returns:
        `out` as a path.

    Raises:
        ValueError: If a folder holds no metrics.
    """
    groups = runs if isinstance(runs, Mapping) else {str(folder): [folder] for folder in runs}
    curves(groups).savefig(out, dpi=120)
    return Path(out)


def curves(groups: Mapping[str, Sequence[str | Path]]) -> Figure:
    """Return the figure that `plot_runs` saves."""
    rows = {name: [read_metrics(folder) for folder in folders] for name, folders in groups.items()}
    figure, panels = new_figure(len(AXES))
    for panel, (key, label) in zip(panels, AXES.items(), strict=True):
        for i, (name, runs) in enumerate(rows.items()):
            prefix = f"{name}: " if len(rows) > 1 else ""
            if len(runs) == 1:
                _draw_run(panel, runs[0], key, prefix, f"C{i}")
            else:
                _draw_band(panel, runs, key, prefix, f"C{i}")
        panel.set_xlabel(label)
        panel.sharey(panels[0])
    panels[0].xaxis.set_major_locator(MaxNLocator(5))
    panels[0].xaxis.set_major_formatter(EngFormatter(sep=""))
    panels[0].set_ylabel("return")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper left", ncols=2, frameon=False)
    return figure


def band(runs: Sequence[Rows], x: str, y: str, points: int = 200) -> tuple[Float64Array, ...]:
    """Return x, and the mean, lowest and highest y of several runs, over the range that all of them cover.

    Runs do not measure at the same x, so each run is interpolated between its measurements.

    Example:
        >>> one, other = ([{"x": 0.0, "y": k}, {"x": 2.0, "y": 3 * k}] for k in (1.0, 2.0))
        >>> [each.tolist() for each in band([one, other], "x", "y", points=3)]
        [[0.0, 1.0, 2.0], [1.5, 3.0, 4.5], [1.0, 2.0, 3.0], [2.0, 4.0, 6.0]]
    """
    lines = [np.array([(row[x], row[y]) for row in rows if x in row and y in row]) for rows in runs]
    end = min(line[-1, 0] for line in lines)
    at = np.linspace(min(end, max(line[0, 0] for line in lines)), end, points)
    values = np.array([np.interp(at, *line.T) for line in lines])
    return at, values.mean(axis=0), values.min(axis=0), values.max(axis=0)


def _draw_run(panel: Axes, rows: Rows, key: str, prefix: str, colour: str) -> None:
    x, mean, std = (column(rows, k) for k in (key, _POPULATION, "rollout/ep_rew_std"))
    panel.fill_between(x, mean - std, mean + std, color=colour, alpha=0.2, linewidth=0)
    panel.plot(x, mean, color=colour, alpha=0.7, label=f"{prefix}population, mean ± std")
    evaluated = [row for row in rows if _CENTRE in row]
    panel.plot(
        column(evaluated, key),
        column(evaluated, _CENTRE),
        color=colour if prefix else "C1",
        marker="o",
        markersize=3,
        label=f"{prefix}centre, noise-free",
    )


def _draw_band(panel: Axes, runs: Sequence[Rows], key: str, prefix: str, colour: str) -> None:
    """Draw the centre's return, or the population's if a run has too few evaluations for a line."""
    evaluated = all(sum(_CENTRE in row for row in rows) > 1 for rows in runs)
    x, mean, low, high = band(runs, key, _CENTRE if evaluated else _POPULATION)
    what = "centre, noise-free" if evaluated else "population"
    panel.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
    panel.plot(x, mean, color=colour, label=f"{prefix}{what}, mean of {len(runs)} runs, lowest to highest")
