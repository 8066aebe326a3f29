"""Gaussian noise as a function of (run, generation, pair): computed wherever it is needed and never stored.

The flat vector is cut into blocks of `BLOCK` elements, each with a random stream of its own, so any block can be
computed by itself. Workers share an update by blocks, and a block stays in the cache.

An element is a 16-bit draw looked up in a table of the standard normal's quantiles: 65,536 equiprobable levels,
symmetric, variance one, |z| < 4.4. That costs half of `torch.Generator`'s Box-Muller, and needs whole numbers only, so
the bits do not depend on the CPU's vector instructions or the version of torch. The stream is NumPy's SFC64, whose
raw output NumPy guarantees to keep (NEP 19).
"""

from __future__ import annotations

import functools
from statistics import NormalDist

import numpy as np

from torch_es.seeding import derive
from torch_es.types import Float32Array

BLOCK = 1 << 15
_LEVELS = 1 << 16
_WARM_UP = 12  # rounds that mix the seed through SFC64's state, as its author prescribes


def num_blocks(dim: int) -> int:
    """Return how many blocks a flat vector of `dim` elements has.

    Example:
        >>> num_blocks(BLOCK + 1)
        2
    """
    return -(-dim // BLOCK)


@functools.cache
def quantiles() -> Float32Array:
    """Return the table: the normal's quantile at the middle of each of 65,536 equal slices, scaled to variance one."""
    normal = NormalDist()
    half = np.array([normal.inv_cdf((i + 0.5) / _LEVELS) for i in range(_LEVELS // 2, _LEVELS)])
    table = np.concatenate((-half[::-1], half))
    scaled: Float32Array = (table / np.sqrt(np.mean(table**2))).astype(np.float32)
    return scaled


class Noise:
    """The noise of one run, for a flat vector of `dim` elements.

    Example:
        >>> noise = Noise(seed=0, dim=3)
        >>> a, b = np.empty(3, np.float32), np.empty(3, np.float32)
        >>> noise.fill(a, generation=5, pair=2); noise.fill(b, generation=5, pair=2)
        >>> bool((a == b).all())
        True
    """

    def __init__(self, seed: int, dim: int) -> None:
        self.seed = seed
        self.dim = dim
        self._stream = np.random.SFC64(0)
        self._state = self._stream.state

    def fill(self, out: Float32Array, generation: int, pair: int) -> None:
        """Write the pair's noise vector, shape `(dim,)`, into `out`."""
        self.fill_span(out, generation, pair, 0)

    def fill_span(self, out: Float32Array, generation: int, pair: int, start: int) -> None:
        """Write the elements from `start` on into `out`; blocks that reach beyond them are drawn whole."""
        for block in range(start // BLOCK, -(-(start + len(out)) // BLOCK)):
            first, last = block * BLOCK, min((block + 1) * BLOCK, self.dim)
            begin, end = max(start, first), min(start + len(out), last)
            own = out[begin - start : end - start]
            if len(own) == last - first:
                self.fill_block(own, generation, pair, block)
            else:
                whole = np.empty(last - first, np.float32)
                self.fill_block(whole, generation, pair, block)
                own[:] = whole[begin - first : end - first]

    def fill_block(self, out: Float32Array, generation: int, pair: int, block: int) -> None:
        """Write one block of the pair's noise vector; `out` is as long as the block is."""
        words = self._state["state"]["state"]
        words[:3] = np.frombuffer(derive("noise", self.seed, generation, pair, block, size=24), np.uint64)
        words[3] = 1
        self._stream.state = self._state
        self._stream.random_raw(_WARM_UP, output=False)
        # byte order is pinned so that big-endian machines read the same draws
        draws = self._stream.random_raw(-(-out.size // 4)).astype("<u8", copy=False).view("<u2")[: out.size]
        np.take(quantiles(), draws, out=out, mode="clip")
