"""The pictures of a report: each function takes what was recorded and returns a figure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from torch_es.report.plotting import Rows, column, new_figure
from torch_es.runs.replay_log import Record
from torch_es.types import Float64Array

_BINS = 40
_COLUMNS = 200
_DECADE = 10.0


def histogram(records: Sequence[Record]) -> Figure:
    """Draw the population's fitness over the generations, as shares of the members."""
    counts, numbers, edges = fitness_counts(records)
    figure, (panel,) = new_figure(1)
    image = panel.pcolormesh(numbers, edges, counts.T, cmap="Blues", norm=PowerNorm(0.5), shading="flat")
    figure.colorbar(image, ax=panel, label="share of the members")
    _label(panel, "fitness")
    return figure


def fitness_counts(records: Sequence[Record]) -> tuple[Float64Array, Float64Array, Float64Array]:
    """Return shares `(columns, bins)` of the finite fitness values, and the edges of both.

    If there are more generations than columns, several share one. One member in 500 lies beyond each end of the bins.

    Example:
        >>> fitness = np.array([[1.0, np.nan]]), np.array([[2.0, 3.0]])
        >>> records = [Record(i, {"fitness": f}, b"", {}) for i, f in enumerate(fitness)]
        >>> shares, numbers, edges = fitness_counts(records)
        >>> shares.sum(axis=1).tolist(), numbers.tolist()
        ([1.0, 1.0], [0.0, 1.0, 2.0])
    """
    parts = np.array_split(np.arange(len(records)), min(_COLUMNS, len(records)))
    members = [np.concatenate([records[i].fitness.ravel() for i in part]) for part in parts]
    finite = [each[np.isfinite(each)] for each in members]
    low, high = np.quantile(np.concatenate(finite), (0.002, 0.998))
    edges = np.linspace(low, high if high > low else low + 1, _BINS + 1)
    counts = [np.histogram(each.clip(edges[0], edges[-1]), edges)[0] / max(1, len(each)) for each in finite]
    starts = [records[part[0]].generation for part in parts]
    return np.array(counts), np.array([*starts, records[-1].generation + 1], np.float64), edges


def gradient(rows: Rows) -> Figure:
    """Draw the gradient's norm, and the size of a step relative to theta."""
    figure, panels = new_figure(2, height=3.6)
    for panel, key, label in zip(
        panels, ("es/grad_norm", "es/update_ratio"), ("norm of the gradient", "|step| / |theta|"), strict=True
    ):
        values = column(rows, key)
        panel.plot(column(rows, "time/iterations"), values, linewidth=0.8)
        positive = values[values > 0]
        if positive.size and positive.max() > _DECADE * positive.min():
            panel.set_yscale("log", nonpositive="mask")
        _label(panel, label)
    return figure


def cosines(found: Sequence[tuple[int, float]], chance: float) -> Figure:
    """Draw split-half cosines over the generations, their running mean, and a band of `chance` around zero."""
    figure, (panel,) = new_figure(1, height=3.6)
    generations, values = (np.array(each) for each in zip(*found, strict=True))
    width = max(1, len(values) // 10)
    panel.axhspan(-chance, chance, color="lightgrey", alpha=0.5, linewidth=0, label="chance, one deviation")
    panel.plot(generations, values, ".", alpha=0.4, label="a generation")
    smooth = np.convolve(values, np.ones(width) / width, mode="valid")
    panel.plot(generations[width // 2 :][: len(smooth)], smooth, color="C1", label=f"mean of {width}")
    _label(panel, "split-half cosine")
    figure.legend(loc="outside upper left", ncols=3, frameon=False)
    return figure


def observations(records: Sequence[Record]) -> Figure:
    """Draw mean and standard deviation of each element of the observation, after the first and the last generation."""
    figure, (panel,) = new_figure(1, height=3.6)
    for record, colour, shift in ((records[0], "silver", -0.15), (records[-1], "C0", 0.15)):
        mean, std = statistics(record)
        panel.errorbar(
            np.arange(len(mean)) + shift, mean, std, fmt="o", markersize=3, color=colour, linewidth=1,
            label=f"after generation {record.generation + 1}",
        )  # fmt: skip
    panel.set_yscale("symlog", linthresh=1.0)
    panel.yaxis.set_major_formatter("{x:g}")
    _label(panel, "mean ± standard deviation", "element of the observation")
    figure.legend(loc="outside upper left", ncols=2, frameon=False)
    return figure


def statistics(record: Record) -> tuple[Float64Array, Float64Array]:
    """Return mean and standard deviation of all observations until then, `(size,)` each."""
    norm = record.progress["observation_norm"]
    return norm["mean"].numpy(), (norm["m2"] / norm["count"].clamp(min=1)).sqrt().numpy()


def _label(panel: Axes, y: str, x: str = "generation") -> None:
    panel.set(xlabel=x, ylabel=y)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
