"""Fitness shaping: from raw returns to weights, both `(num_pairs, 2)`; returns are never changed in place.

Each function here gives the same weights in whatever order the members come and, except for `identity`, exact zeros if
all returns are equal. Any function of the same shape can replace it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from torch_es.checks import check_choice
from torch_es.types import Float64Array

Shaping = Callable[[Float64Array], Float64Array]


def mean_ranks(returns: Float64Array) -> Float64Array:
    """Rank from 0 (lowest) to n-1 over the whole population; ties share their mean rank.

    Example:
        >>> mean_ranks(np.array([[1.0, 2.0], [2.0, 5.0]]))
        array([[0. , 1.5],
               [1.5, 3. ]])
    """
    _, inverse, counts = np.unique(returns.ravel(), return_inverse=True, return_counts=True)
    last = np.cumsum(counts) - 1
    ranks: Float64Array = (last - (counts - 1) / 2)[inverse].reshape(returns.shape)  # F43
    return ranks


def centered_ranks(returns: Float64Array) -> Float64Array:
    """Ranks scaled to [-0.5, 0.5] (Salimans et al. 2017, as in its released code, with ties shared).

    Example:
        >>> centered_ranks(np.array([[10.0, -3.0]]))
        array([[ 0.5, -0.5]])
    """
    if returns.size < 2:
        return np.zeros_like(returns)
    return mean_ranks(returns) / (returns.size - 1) - 0.5


def z_score(returns: Float64Array) -> Float64Array:
    """Subtract the mean, divide by the population standard deviation; a constant population gives zeros.

    Example:
        >>> z_score(np.array([[1.0, 3.0]]))
        array([[-1.,  1.]])
    """
    if returns.min() == returns.max():
        return np.zeros_like(returns)
    scaled = returns / np.abs(returns).max()  # keeps the squares of huge returns finite
    centered = scaled - scaled.mean()
    std = centered.std()
    return np.zeros_like(returns) if std == 0 else centered / std


def sign(returns: Float64Array) -> Float64Array:
    """+1 for the better member of a pair, -1 for the worse, 0 for both of a tie.

    Example:
        >>> sign(np.array([[1.0, 3.0], [2.0, 2.0]]))
        array([[-1.,  1.],
               [ 0.,  0.]])
    """
    difference = np.sign(returns[:, 0] - returns[:, 1])
    return np.stack((difference, 0.0 - difference), axis=1)


def identity(returns: Float64Array) -> Float64Array:
    """The returns themselves: the plain estimator of Salimans et al. 2017, Algorithm 1."""
    return returns.copy()


def nes_utilities(returns: Float64Array) -> Float64Array:
    """Utilities of Wierstra et al. 2014 (JMLR 15:949-980); tied members share the mean of their utilities.

    The best of n members has `max(0, log(n/2 + 1) - log 1)`, the i-th `max(0, log(n/2 + 1) - log i)`, divided by
    their sum, less `1/n`: they sum to zero.

    Example:
        >>> float(abs(nes_utilities(np.array([[1.0, 2.0], [3.0, 4.0]])).sum())) < 1e-12
        True
    """
    n = returns.size
    place = np.arange(1, n + 1)
    utility = np.maximum(0.0, math.log(n / 2 + 1) - np.log(place))
    utility = utility / utility.sum() - 1 / n
    _, inverse, counts = np.unique(-returns.ravel(), return_inverse=True, return_counts=True)
    if len(counts) == 1:
        return np.zeros_like(returns)
    starts = np.concatenate(([0], np.cumsum(counts)[:-1]))
    shared: Float64Array = (np.add.reduceat(utility, starts) / counts)[inverse].reshape(returns.shape)
    return shared


SHAPINGS: dict[str, Shaping] = {
    "centered_ranks": centered_ranks,
    "z_score": z_score,
    "sign": sign,
    "identity": identity,
    "nes_utilities": nes_utilities,
}


def resolve(shaping: str | Shaping) -> Shaping:
    """Return the function that a name stands for; of a function of the user's own, the answers are checked.

    Raises:
        ValueError: If the name is unknown.

    Example:
        >>> resolve("sign") is sign
        True
    """
    return partial(_own, shaping) if callable(shaping) else SHAPINGS[check_choice("shaping", shaping, SHAPINGS)]


def _own(shaping: Shaping, returns: Float64Array) -> Float64Array:
    weights = np.asarray(shaping(returns))
    if weights.shape != returns.shape:
        raise ValueError(f"`shaping` must return weights of shape {returns.shape}, got {weights.shape}.")
    return weights
