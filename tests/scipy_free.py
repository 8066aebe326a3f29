"""Statistics that would otherwise need SciPy."""

import math

import numpy as np


def ks_distance(samples):
    """Kolmogorov's distance of samples to the standard normal."""
    x = np.sort(samples)
    cdf = np.array([0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x])
    n = len(x)
    return max((np.arange(1, n + 1) / n - cdf).max(), (cdf - np.arange(n) / n).max())
