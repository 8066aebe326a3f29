"""How much of a gradient estimate is signal: the cosine between the estimates of two disjoint halves of the pairs.

Both halves estimate the same gradient from independent noise, so they agree only in the signal. If returns do not
depend on the noise, the cosine is 0, with a deviation of about `1 / sqrt(dim)`. A linear function without noise gives
about `m / (m + dim + 1)` for m pairs in each half. With many parameters that is small, and only the mean over many
generations shows it. If the cosine is r, the cosine between the whole estimate and the true gradient is about
`sqrt(2*r / (1 + r))` (Spearman 1910 and Brown 1910, both British Journal of Psychology 3: the reliability of a test of
twice the length).

This costs training nothing: the noise follows from the seeds, and its weights follow from the returns in `replay.log`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import nn

from torch_es.runs.options import is_function
from torch_es.runs.replay_log import Record
from torch_es.search import Mirrored, make_strategy, strategy_options
from torch_es.search.centre import CentreSearch
from torch_es.search.perturbation import Noisy, serial_sum
from torch_es.search.rule import spread
from torch_es.types import Float64Array


def split_half_cosine(noise: Noisy, coefficients: Float64Array) -> float | None:
    """Return the cosine between the weighted sums of noise over the even and over the odd pairs.

    The sums are the gradient estimate in units of sigma. If all parameters have the same sigma, their cosine is that of
    the gradient.

    Args:
        noise: The generation's perturbation.
        coefficients: The weight of each pair's noise, `(num_pairs,)`.

    Returns:
        The cosine, or None if all weights of a half are zero.

    Example:
        >>> noise = Mirrored(seed=0, generation=3, dim=10_000, sigma=1.0)
        >>> split_half_cosine(noise, np.ones(8)) < 0.05  # returns that know nothing of the noise
        True
        >>> split_half_cosine(noise, np.array([1.0, 0.0])) is None
        True
    """
    odd = np.arange(len(coefficients)) % 2 == 1
    one, other = (serial_sum(noise, np.where(half, coefficients, 0.0))[0] for half in (odd, ~odd))
    norms = float(one.norm() * other.norm())
    return float(one @ other) / norms if norms > 0 else None


def split_half_cosines(
    options: Mapping[str, Any], dim: int, records: Sequence[Record], most: int = 200, budget: float = 1e9
) -> list[tuple[int, float]]:
    """Return (generation, cosine) for generations of a run, evenly spaced.

    Args:
        options: The run's arguments, as in its replay log.
        dim: Parameters of the run's module.
        records: Its generations.
        most: Compute at most this many generations.
        budget: Draw about this many elements of noise, at 5 ns each, but do at least three generations.

    Returns:
        Nothing for a run without noise on its parameters (`sigma=0`), and for one with noise of low rank, which follows
        from the shapes of the module.
    """
    unknown = options.get("sigma") == 0 or options.get("rank") is not None or is_function(options["strategy"])
    if unknown or not records:
        return []
    known = strategy_options(options["strategy"]).keys() - {"optimizer"}
    told = {name: value for name, value in options.items() if name in known and not is_function(value)}
    strategy = make_strategy(options["strategy"], nn.Linear(1, 1), **told)
    assert isinstance(strategy, CentreSearch)  # as all that have a name
    affordable = int(2 * budget / (dim * records[0].fitness.size))
    count = min(len(records), most, max(3, affordable))
    found = []
    for i in np.linspace(0, len(records) - 1, count).astype(int):
        record = records[i]
        noise = Mirrored(options["seed"], record.generation, dim, 1.0, options.get("noise") or "sfc64")
        plan, kept = strategy.plan(record.fitness)
        cosine = split_half_cosine(noise, spread(plan.linear, kept))
        if cosine is not None:
            found.append((record.generation, cosine))
    return found
