"""Noise from a counter: Philox 4x64 with ten rounds (Salmon et al. 2011, https://doi.org/10.1145/2063384.2063405).

Element i follows from the pair's key and the number i, so it is made on the device where it is needed, beginning
anywhere. Whole numbers alone are involved, so CPU and GPU give the same bits. On a CPU the generator is NumPy's, whose
raw output NumPy guarantees to keep (NEP 19); elsewhere it is the same arithmetic in torch.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from torch_es.search.noise import BLOCK, look_up, quantiles
from torch_es.seeding import derive

_ROUNDS = 10
_FACTORS = 0xD2E7470EE14C6C93, 0xCA5A826395121157
_KEY_STEPS = 0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B
_PER_COUNT = 16  # elements: four words of 64 bits, 16 bits each
AT_ONCE = 1 << 22  # elements on another device: about 110 MiB while they are made
_LOW = 0xFFFFFFFF


class PhiloxNoise:
    """The noise of one run, for a flat vector of `dim` elements on any device.

    Example:
        >>> noise = PhiloxNoise(seed=0, dim=40)
        >>> whole, part = torch.empty(1, 40), torch.empty(1, 7)
        >>> noise.fill(whole, generation=5, pairs=[2]); noise.fill(part, generation=5, pairs=[2], start=20)
        >>> bool((whole[:, 20:27] == part).all())
        True
    """

    def __init__(self, seed: int, dim: int) -> None:
        self.seed = seed
        self.dim = dim
        self._stream = np.random.Philox(0)
        self._state = self._stream.state

    def fill(self, out: Tensor, generation: int, pairs: Sequence[int], start: int = 0) -> None:
        """See `Noise.fill`."""
        keys = self.keys(generation, pairs)
        if out.device.type == "cpu":
            for row, key in zip(out.numpy(), keys, strict=True):
                self._fill_row(row, key, start)
        else:
            fill_by_torch(out, keys, start)

    def keys(self, generation: int, pairs: Sequence[int]) -> npt.NDArray[np.uint64]:
        """Return the generator's keys for some pairs, `(len(pairs), 2)`."""
        whole = b"".join(derive("noise", self.seed, generation, pair, size=16) for pair in pairs)
        return np.frombuffer(whole, "<u8").reshape(-1, 2)

    def _fill_row(self, row: npt.NDArray[Any], key: npt.NDArray[np.uint64], start: int) -> None:
        count, skipped = divmod(start, _PER_COUNT)
        own = self._state["state"]
        own["counter"][:] = count, 0, 0, 0
        own["key"][:] = key
        self._stream.state = self._state
        for first in range(-skipped, row.size, BLOCK):  # the pieces stay in the cache
            piece = row[max(first, 0) : first + BLOCK]
            before = max(-first, 0)
            look_up(self._stream.random_raw(-(-(before + piece.size) // 4)), piece, before)


def fill_by_torch(out: Tensor, keys: npt.NDArray[np.uint64], start: int) -> None:
    """Write the elements of each key from `start` on into the rows of `out`, `(len(keys), n)`, on its device."""
    table, shifts = _table(out.device), torch.arange(0, 64, 16, device=out.device)
    key = _bits(keys, out.device).t()[..., None]
    first, last = start // _PER_COUNT, -(-(start + out.shape[1]) // _PER_COUNT)
    step = max(1, AT_ONCE // _PER_COUNT // max(len(keys), 1))
    for low in range(first, last, step):
        counts = torch.arange(low + 1, min(low + step, last) + 1, device=out.device)
        words = philox(counts.expand(len(keys), -1), key)
        draws = (words[..., None] >> shifts).bitwise_and_(0xFFFF).flatten(1)
        begin, end = max(start, low * _PER_COUNT), min(start + out.shape[1], (low + len(counts)) * _PER_COUNT)
        out[:, begin - start : end - start] = table[draws[:, begin - low * _PER_COUNT : end - low * _PER_COUNT]]


def philox(counts: Tensor, key: Tensor) -> Tensor:
    """Return the four words of each count, `(..., 4)`: unsigned numbers in the bits of int64.

    Args:
        counts: int64, `(...)`.
        key: int64, `(2, ...)`, broadcast.

    Example:
        >>> words = philox(torch.tensor([1]), torch.tensor([[5], [0]]))[0]
        >>> [int(word) % 2**64 for word in words] == np.random.Philox(key=5).random_raw(4).tolist()
        True
    """
    factors, steps = _constants(counts.device)
    shape = (2, *[1] * counts.dim())
    factors_low, factors_high = factors.bitwise_and(_LOW).view(shape), (factors >> 32).bitwise_and_(_LOW).view(shape)
    factors, steps = factors.view(shape), steps.view(shape)
    even, odd = torch.stack((counts, torch.zeros_like(counts))), torch.zeros_like(counts)  # words 0 and 2, 1 and 3
    for _ in range(_ROUNDS):
        low, high = even & _LOW, (even >> 32).bitwise_and_(_LOW)
        lowest, cross, crossed = low * factors_low, low * factors_high, high * factors_low
        middle = (lowest >> 32).bitwise_and_(_LOW) + (cross & _LOW) + (crossed & _LOW)
        top = high * factors_high + (cross >> 32).bitwise_and_(_LOW) + (crossed >> 32).bitwise_and_(_LOW)
        top += middle >> 32  # the upper half of a product of 128 bits
        even, odd, key = top.flip(0) ^ odd ^ key, (even * factors).flip(0), key + steps
    return torch.stack((even[0], odd[0], even[1], odd[1]), -1)


def _bits(words: npt.NDArray[np.uint64], device: torch.device) -> Tensor:
    """Return unsigned words in the bits of int64."""
    return torch.from_numpy(words.astype(np.uint64).view(np.int64)).to(device)


@functools.cache
def _constants(device: torch.device) -> tuple[Tensor, Tensor]:
    return _bits(np.array(_FACTORS, np.uint64), device), _bits(np.array(_KEY_STEPS, np.uint64), device)


@functools.cache
def _table(device: torch.device) -> Tensor:
    return torch.from_numpy(quantiles()).to(device)
