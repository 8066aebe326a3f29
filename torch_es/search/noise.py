"""Gaussian noise as a function of (run, generation, pair): computed wherever it is needed and never stored.

An element is a 16-bit draw looked up in a table of the standard normal's quantiles: 65,536 equiprobable levels,
symmetric, variance one, |z| < 4.4. That costs half of `torch.Generator`'s Box-Muller, and needs whole numbers only, so
the bits do not depend on the CPU's vector instructions, on the device or on the version of torch.

The draws come from one of two generators. SFC64 (`torch_es.search.sfc64`) is a little faster on a CPU. Philox
(`torch_es.search.philox`) counts, so that any element can be computed by itself on any device.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from statistics import NormalDist
from typing import Any, Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from torch_es.checks import check_choice
from torch_es.types import Float32Array

Generator = Literal["sfc64", "philox"]

BLOCK = 1 << 15  # elements that are summed together: they stay in the cache, and workers share an update by them
LEVELS = 1 << 16


def num_blocks(dim: int) -> int:
    """Return how many blocks a flat vector of `dim` elements has.

    Example:
        >>> num_blocks(BLOCK + 1)
        2
    """
    return -(-dim // BLOCK)


def blocks(start: int, stop: int, dim: int) -> Iterator[tuple[int, int]]:
    """Yield where each block begins and ends that holds some of the elements from `start` to `stop`.

    Example:
        >>> list(blocks(5, BLOCK + 1, BLOCK + 9)) == [(0, BLOCK), (BLOCK, BLOCK + 9)]
        True
    """
    for first in range(start // BLOCK * BLOCK, stop, BLOCK):
        yield first, min(first + BLOCK, dim)


def resolve_generator(noise: Generator | None, on_cpu: bool) -> Generator:
    """Return the generator to use; None stands for SFC64 on the CPU and Philox elsewhere.

    Raises:
        ValueError: If it is unknown, or cannot draw where the parameters are.

    Example:
        >>> resolve_generator(None, on_cpu=True), resolve_generator("philox", on_cpu=True)
        ('sfc64', 'philox')
    """
    if noise is None:
        return "sfc64" if on_cpu else "philox"
    if check_choice("noise", noise, get_args(Generator)) == "sfc64" and not on_cpu:
        raise ValueError("`noise` must be philox for parameters that are not on the CPU, got sfc64; leave it out.")
    return noise


@functools.cache
def quantiles() -> Float32Array:
    """Return the table: the normal's quantile at the middle of each of 65,536 equal slices, scaled to variance one."""
    normal = NormalDist()
    half = np.array([normal.inv_cdf((i + 0.5) / LEVELS) for i in range(LEVELS // 2, LEVELS)])
    table = np.concatenate((-half[::-1], half))
    scaled: Float32Array = (table / np.sqrt(np.mean(table**2))).astype(np.float32)
    return scaled


def look_up(raw: npt.NDArray[np.uint64], out: npt.NDArray[Any], skipped: int = 0) -> None:
    """Write the elements that 64-bit draws stand for, four each from the lowest bits up, into `out`, `(n,)`."""
    # byte order is pinned so that big-endian machines read the same draws
    draws = raw.astype("<u8", copy=False).view("<u2")[skipped : skipped + out.size]
    np.take(quantiles(), draws, out=out, mode="clip")


def room(pairs: int, size: int, device: torch.device | str = "cpu") -> Tensor:
    """Return memory for `size` elements of some pairs' noise, `(pairs, size)`, whatever torch's default dtype is."""
    return torch.empty(pairs, size, dtype=torch.float32, device=device)


class Noise(Protocol):
    """The noise of one run, for a flat vector of `dim` elements."""

    dim: int

    def fill(self, out: Tensor, generation: int, pairs: Sequence[int], start: int = 0) -> None:
        """Write the elements of some pairs' noise, from `start` on, into `out`, `(len(pairs), n)`."""
        ...
