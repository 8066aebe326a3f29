"""What curves of several seeds say together: when a score was reached, and interquartile means across tasks.

A curve is the list of points [steps, core-seconds, wall-clock seconds, return] of one run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import bootstrap, trim_mean

STEPS, CORE, WALL, RETURN = range(4)
SHARES = (0.25, 0.5, 0.75, 1.0)
Curve = Sequence[Sequence[float]]
Array = np.ndarray[Any, np.dtype[np.float64]]


class Reached(NamedTuple):
    """When two algorithms first reached a share of the progress of the first.

    If TRPO was there at its `first` evaluation, `trpo` is an upper bound, and `ratio` a lower one.
    """

    share: float
    target: float
    trpo: float
    es: float | None
    first: bool

    @property
    def ratio(self) -> float | None:
        """ES's over TRPO's; None if ES did not get there."""
        return None if self.es is None else self.es / self.trpo


def mean_curve(curves: Sequence[Curve], axis: int) -> tuple[Array, Array]:
    """Return the mean of curves wherever one of them has a point; beyond its end, a run keeps its last return.

    Example:
        >>> x, y = mean_curve([[[0, 0, 0, 1.0], [2, 0, 0, 3.0]], [[0, 0, 0, 1.0], [1, 0, 0, 5.0]]], STEPS)
        >>> x.tolist(), y.tolist()
        ([0.0, 1.0, 2.0], [1.0, 3.5, 4.0])
    """
    points = [np.asarray(curve, np.float64) for curve in curves]
    x = np.unique(np.concatenate([p[:, axis] for p in points]))
    return x, np.mean([np.interp(x, p[:, axis], p[:, RETURN]) for p in points], axis=0)


def first_reached(curves: Sequence[Curve], axis: int, score: float) -> float | None:
    """Return where the mean of curves first is at `score` or above; None if nowhere."""
    x, y = mean_curve(curves, axis)
    there = np.flatnonzero(y >= score - 1e-9)
    return float(x[there[0]]) if len(there) else None


def progress(curves: Sequence[Curve]) -> tuple[float, float]:
    """Return the mean return at the start and at the end."""
    return tuple(float(np.mean([curve[i][RETURN] for curve in curves])) for i in (0, -1))  # type: ignore[return-value]


def table1(trpo: Sequence[Curve], es: Sequence[Curve], axis: int) -> list[Reached]:
    """Return when each reached 25, 50, 75 and 100% of TRPO's progress; nothing if TRPO made none.

    The target at a share p is s0 + p (s_final - s0), as in Salimans et al. 2017.
    """
    start, end = progress(trpo)
    if end <= start:
        return []
    made, first = [], max(curve[1][axis] for curve in trpo)
    for share in SHARES:
        target = start + share * (end - start)
        cost = first_reached(trpo, axis, target)
        assert cost is not None  # its last point is there
        made.append(Reached(share, target, cost, first_reached(es, axis, target), cost <= first))
    return made


def interquartile_mean(scores: Sequence[Sequence[float]]) -> tuple[float, float | None, float | None]:
    """Return the interquartile mean of all runs, and its 95% confidence interval: None with one seed of a task.

    The bootstrap is stratified: it draws the seeds of each task anew, as in Agarwal et al. 2021.

    Args:
        scores: For each task, a normalised score for each seed.
    """

    def statistic(*tasks: Any) -> float:
        return float(trim_mean(np.concatenate(tasks), 0.25))

    mean = statistic(*map(np.asarray, scores))
    if min(map(len, scores)) < 2:
        return mean, None, None
    options: dict[str, Any] = {"n_resamples": 2_000, "vectorized": False, "method": "percentile"}
    interval = bootstrap(tuple(map(np.asarray, scores)), statistic, rng=0, **options).confidence_interval
    return mean, float(interval.low), float(interval.high)
