"""Noise from SFC64, the fastest generator of NumPy, whose raw output NumPy guarantees to keep (NEP 19).

The flat vector is cut into blocks, each with a random stream of its own, so any block can be computed by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from torch_es.search.noise import BLOCK, blocks, look_up
from torch_es.seeding import derive

_WARM_UP = 12  # rounds that mix the seed through SFC64's state, as its author prescribes


class SFC64Noise:
    """The noise of one run, for a flat vector of `dim` elements in the memory of the CPU.

    Example:
        >>> import torch
        >>> noise = SFC64Noise(seed=0, dim=3)
        >>> a, b = torch.empty(2, 3), torch.empty(1, 3)
        >>> noise.fill(a, generation=5, pairs=[1, 2]); noise.fill(b, generation=5, pairs=[2])
        >>> bool((a[1] == b[0]).all())
        True
    """

    def __init__(self, seed: int, dim: int) -> None:
        self.seed = seed
        self.dim = dim
        self._stream = np.random.SFC64(0)
        self._state = self._stream.state

    def fill(self, out: Tensor, generation: int, pairs: Sequence[int], start: int = 0) -> None:
        """See `Noise.fill`; blocks that reach beyond the elements are drawn whole."""
        stop = start + out.shape[1]
        for row, pair in zip(out.numpy(), pairs, strict=True):
            for first, last in blocks(start, stop, self.dim):
                block = first // BLOCK
                if start <= first and last <= stop:
                    self._fill_block(row[first - start : last - start], generation, pair, block)
                else:
                    begin, end, whole = max(start, first), min(stop, last), np.empty(last - first, np.float32)
                    self._fill_block(whole, generation, pair, block)
                    row[begin - start : end - start] = whole[begin - first : end - first]

    def _fill_block(self, out: npt.NDArray[Any], generation: int, pair: int, block: int) -> None:
        words = self._state["state"]["state"]
        words[:3] = np.frombuffer(derive("noise", self.seed, generation, pair, block, size=24), np.uint64)
        words[3] = 1
        self._stream.state = self._state
        self._stream.random_raw(_WARM_UP, output=False)
        look_up(self._stream.random_raw(-(-out.size // 4)), out)
