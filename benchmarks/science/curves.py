"""What curves of several seeds say together: when a score was reached, and interquartile means across tasks.

A curve is the list of points [steps, core-seconds, wall-clock seconds, return] of one run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import trim_mean

STEPS, CORE, WALL, RETURN = range(4)
SHARES = (0.25, 0.5, 0.75, 1.0)
Curve = Sequence[Sequence[float]]
Array = np.ndarray[Any, np.dtype[np.float64]]


class Crossing(NamedTuple):
    """Where a mean of curves first was at a score, and the last point before at which one of them was evaluated."""

    at: float
    before: float


class Reached(NamedTuple):
    """When two algorithms first reached a share of the progress of the first.

    If TRPO was there at its first evaluation, its cost is an upper bound.
    """

    share: float
    target: float
    trpo: Crossing
    es: Crossing | None

    @property
    def first(self) -> bool:
        """Whether TRPO was there before each of its runs had been evaluated since it began."""
        return self.trpo.before == 0

    @property
    def ratio(self) -> float | None:
        """ES's over TRPO's; None if ES did not get there."""
        return None if self.es is None else self.es.at / self.trpo.at

    @property
    def least(self) -> float:
        """The lowest ratio that the times of the evaluations allow."""
        return self.es.before / self.trpo.at if self.es else math.inf

    @property
    def most(self) -> float:
        """The highest ratio that the times of the evaluations allow."""
        return self.es.at / self.trpo.before if self.es and not self.first else math.inf


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


def first_reached(curves: Sequence[Curve], axis: int, score: float) -> Crossing | None:
    """Return where the mean of curves first is at `score` or above; None if nowhere."""
    x, y = mean_curve(curves, axis)
    there = np.flatnonzero(y >= score - 1e-9)
    if not len(there):
        return None
    at = float(x[there[0]])
    earlier = [max((point[axis] for point in curve if point[axis] < at), default=0.0) for curve in curves]
    return Crossing(at, float(min(earlier)))


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
    made = []
    for share in SHARES:
        target = start + share * (end - start)
        cost = first_reached(trpo, axis, target)
        assert cost is not None  # its last point is there
        made.append(Reached(share, target, cost, first_reached(es, axis, target)))
    return made


def interquartile_mean(tasks: Sequence[tuple[Array, Array]]) -> tuple[float, float | None, float | None]:
    """Return the interquartile mean of all runs, and its 95% confidence interval: None with one seed of a task.

    A score is the share of TRPO's progress. The bootstrap is stratified, as in Agarwal et al. 2021: it draws the seeds
    of each task anew. It draws TRPO's too, since the scores depend on them; a draw in which TRPO makes no progress on
    a task has no scores, and is drawn again.

    Args:
        tasks: For each, TRPO's returns before and after training `(seeds, 2)`, and an algorithm's returns `(seeds,)`.
    """

    def statistic(drawn: Sequence[tuple[Array, Array]]) -> float:
        spans = [trpo.mean(axis=0) for trpo, _ in drawn]
        shares = [(own - start) / (end - start) for (start, end), (_, own) in zip(spans, drawn, strict=True)]
        return float(trim_mean(np.concatenate(shares), 0.25))

    mean = statistic(tasks)
    if min(len(seeds) for task in tasks for seeds in task) < 2:
        return mean, None, None
    rng = np.random.default_rng(0)
    draws: list[float] = []
    while len(draws) < 2_000:
        drawn = [(rng.choice(trpo, len(trpo)), rng.choice(own, len(own))) for trpo, own in tasks]
        if all(np.diff(trpo.mean(axis=0)) > 0 for trpo, _ in drawn):
            draws.append(statistic(drawn))
    low, high = np.percentile(draws, (2.5, 97.5))
    return mean, float(low), float(high)
