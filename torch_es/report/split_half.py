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

import inspect
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from torch_es.runs.options import is_function
from torch_es.runs.replay_log import Record
from torch_es.search import STRATEGIES, Strategy
from torch_es.search.gradient import serial_noise_sum
from torch_es.search.noise import Noise
from torch_es.types import Float64Array


def split_half_cosine(noise: Noise, generation: int, coefficients: Float64Array) -> float | None:
    """Return the cosine between the weighted sums of noise over the even and over the odd pairs.

    The sums are the gradient estimate in units of sigma. If all parameters have the same sigma, their cosine is that of
    the gradient.

    Args:
        noise: The run's noise.
        generation: The generation.
        coefficients: The weight of each pair's noise, `(num_pairs,)`.

    Returns:
        The cosine, or None if all weights of a half are zero.

    Example:
        >>> split_half_cosine(Noise(seed=0, dim=10_000), 3, np.ones(8)) < 0.05  # returns that know nothing of the noise
        True
        >>> split_half_cosine(Noise(seed=0, dim=10), 3, np.array([1.0, 0.0])) is None
        True
    """
    odd = np.arange(len(coefficients)) % 2 == 1
    noise_sum = serial_noise_sum(noise)
    one, other = (noise_sum(generation, np.where(half, coefficients, 0.0))[0] for half in (odd, ~odd))
    norms = float(one.norm() * other.norm())
    return float(one @ other) / norms if norms > 0 else None


def pair_coefficients(strategy: Strategy, fitness: Float64Array) -> Float64Array:
    """Return what `strategy` weighs each pair's noise by, `(num_pairs,)`: it is told the fitness, and listened to.

    Args:
        strategy: Moved by an estimate of zero, so best one of a vector of its own.
        fitness: `(num_pairs, 2)`.

    Example:
        >>> from torch_es.search import OpenAIES
        >>> pair_coefficients(OpenAIES(torch.zeros(1)), np.array([[3.0, 1.0], [2.0, 0.0]]))
        array([0.66666667, 0.66666667])
    """
    asked: dict[int, Float64Array] = {}

    def listen(generation: int, linear: Float64Array, squared: Float64Array | None = None) -> Any:
        asked[generation] = linear
        return torch.zeros(1), None if squared is None else torch.zeros(1)

    strategy.tell(fitness, listen)
    (coefficients,) = asked.values()
    return coefficients


def split_half_cosines(
    options: Mapping[str, Any], dim: int, records: Sequence[Record], most: int = 200, budget: float = 1e9
) -> list[tuple[int, float]]:
    """Return (generation, cosine) for generations of a run, evenly spaced.

    Args:
        options: The run's arguments as its replay log has them.
        dim: Parameters of the run's module.
        records: Its generations.
        most: So many generations at most,
        budget: and about so many elements of noise in all, at some 5 ns each; but three generations at least.

    Returns:
        Nothing for a run without noise on its parameters (`sigma=0`).
    """
    if options.get("sigma") == 0 or not records:
        return []
    kind = STRATEGIES[options["strategy"]]
    known = set(inspect.signature(kind).parameters) - {"optimizer"}
    told = {name: value for name, value in options.items() if name in known and not is_function(value)}
    strategy = kind(torch.zeros(1), partial(torch.optim.SGD, lr=0.0), **told)
    noise = Noise(options["seed"], dim)
    affordable = int(budget / (dim * len(records[0].fitness)))
    count = min(len(records), most, max(3, affordable))
    found = []
    for i in np.linspace(0, len(records) - 1, count).astype(int):
        record = records[i]
        cosine = split_half_cosine(noise, record.generation, pair_coefficients(strategy, record.fitness))
        if cosine is not None:
            found.append((record.generation, cosine))
    return found
