"""Perturbations: how a member's weights are made from the centre's, and the way back, a weighted sum of the noise.

A perturbation is small. It travels to whoever plays, and each member follows from it and a number, so no weights
travel. The sum is cut by blocks of parameters and chunks of pairs: a small network's update can use every worker too.
Chunks follow from the numbers of parameters and pairs alone, so the sum has the same bits whoever computes its parts.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from torch_es.search.noise import BLOCK, Generator, Noise, num_blocks, room
from torch_es.search.philox import AT_ONCE, PhiloxNoise
from torch_es.search.sfc64 import SFC64Noise
from torch_es.types import Float64Array

Sigma = float | Tensor

NOISES: dict[Generator, Callable[[int, int], Noise]] = {"sfc64": SFC64Noise, "philox": PhiloxNoise}

_CHUNK = 64  # pairs that are worth a message to a worker
_PARTS = 128  # blocks times chunks, at most, unless the blocks alone are more: 33 MB of partial sums


class Perturbation(Protocol):
    """Makes the members of one generation.

    It is picklable; the large tensors in it go through shared memory. Each player takes a copy (`copy.copy`), so it may
    keep scratch memory between calls.
    """

    def member(self, theta: Tensor, member: int, out: Tensor) -> Tensor:
        """Return the weights `(dim,)` of a member around the centre: `out`, or a tensor that must not change."""
        ...


class Noisy(Perturbation, Protocol):
    """A perturbation by noise that can be summed with weights."""

    dim: int

    def part(self, theta: Tensor, member: int, start: int, out: Tensor) -> Tensor:
        """Write one parameter of a member into `out`, `(size,)`, and return it.

        Args:
            theta: The centre's elements of that parameter, `(size,)`.
            member: Its number.
            start: Where the parameter begins in the vector of all.
            out: Where to.
        """
        ...

    def sum_span(
        self, out: Tensor, start: int, units: range, linear: Float64Array, squared: Float64Array | None
    ) -> None:
        """Write both sums over some units of the population, for some neighbouring parameters, into `out`.

        Args:
            out: The columns of the sums, `(1, size)`, or `(2, size)` with `squared`.
            start: The first of the parameters.
            units: Which pairs.
            linear: Coefficients of all pairs, `(num_pairs,)`.
            squared: Coefficients of the squares, or None.
        """
        ...


class Mirrored:
    """Gaussian noise in mirrored pairs: members 2i and 2i + 1 are `theta + sigma * eps_i`, `theta - sigma * eps_i`.

    Args:
        seed: The run's seed.
        generation: The generation; each has noise of its own.
        dim: Elements of theta.
        sigma: Standard deviation: a number, or one for each parameter `(dim,)`.
        generator: Of the noise; see `torch_es.search.noise`.

    Example:
        >>> mirrored = Mirrored(seed=0, generation=0, dim=3, sigma=0.5)
        >>> plus, minus = (mirrored.member(torch.ones(3), i, torch.empty(3)).clone() for i in (0, 1))
        >>> (plus + minus) / 2
        tensor([1., 1., 1.])
    """

    def __init__(self, seed: int, generation: int, dim: int, sigma: Sigma, generator: Generator = "sfc64") -> None:
        self.seed, self.generation, self.dim, self.sigma, self.generator = seed, generation, dim, sigma, generator
        self._noise = NOISES[generator](seed, dim)
        self._eps = room(1, 0)
        self._drawn: int | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return Mirrored, (self.seed, self.generation, self.dim, self.sigma, self.generator)

    def part(self, theta: Tensor, member: int, start: int, out: Tensor) -> Tensor:
        """See `Noisy.part`."""
        pair, second = divmod(member, 2)
        eps = room(1, len(out), out.device)
        self._noise.fill(eps, self.generation, (pair,), start)
        sigma = self.sigma
        if isinstance(sigma, Tensor):
            sigma = sigma[start : start + len(out)].to(out.device)
        return _perturbed(theta, eps[0], sigma, -1 if second else 1, out)

    def member(self, theta: Tensor, member: int, out: Tensor) -> Tensor:
        """See `Perturbation.member`; always written from the centre, so nothing drifts."""
        pair, second = divmod(member, 2)
        if self._drawn != pair:  # the other half of the pair usually comes next
            if self._drawn is None:
                self._eps = room(1, self.dim)
            self._noise.fill(self._eps, self.generation, (pair,))
            self._drawn = pair
        return _perturbed(theta, self._eps[0], self.sigma, -1 if second else 1, out)

    def sum_span(
        self, out: Tensor, start: int, units: range, linear: Float64Array, squared: Float64Array | None
    ) -> None:
        """See `Noisy.sum_span`; a pair whose coefficients are zero is not drawn."""
        out.zero_()
        chosen = [pair for pair in units if linear[pair] != 0.0 or (squared is not None and squared[pair] != 0.0)]
        # on the CPU a pair at a time stays in the cache; elsewhere each draw is many launches
        together = 1 if out.is_cpu else max(1, AT_ONCE // max(out.shape[1], 1))
        eps = room(min(together, len(chosen)), out.shape[1], out.device)
        sums, rows = out.unbind(0), eps.unbind(0)
        for first in range(0, len(chosen), together):
            pairs = chosen[first : first + together]
            self._noise.fill(eps if len(pairs) == len(rows) else eps[: len(pairs)], self.generation, pairs, start)
            for pair, row in zip(pairs, rows, strict=False):
                sums[0].add_(row, alpha=linear[pair])
                if squared is not None and squared[pair] != 0.0:
                    sums[1].addcmul_(row, row, value=squared[pair])


def _perturbed(theta: Tensor, eps: Tensor, sigma: Sigma, sign: int, out: Tensor) -> Tensor:
    if isinstance(sigma, Tensor):
        return torch.addcmul(theta, sigma, eps.to(theta.dtype), value=sign, out=out)
    return torch.add(theta, eps, alpha=sign * sigma, out=out)


class Unperturbed(NamedTuple):
    """Every member has the centre's weights; they differ by their noisy actions alone.

    What corresponds to the noise is a member's score, which comes back with its result: see
    `torch_es.search.action_space`.

    Attributes:
        num_members: Members whose scores come back.
    """

    num_members: int

    def member(self, theta: Tensor, member: int, out: Tensor) -> Tensor:
        """See `Perturbation.member`."""
        return theta


Summation = Callable[[Noisy, Float64Array, Float64Array | None], Tensor]
"""Computes the weighted sums over a generation, in this process or over workers. Given the perturbation, coefficients
`(num_pairs,)`, and those of the squares or None, it returns `sum_i linear_i * eps_i` and, if it was asked for,
`sum_i squared_i * eps_i**2`, as the rows of one float32 tensor, `(1, dim)` or `(2, dim)`."""


def max_chunks(dim: int) -> int:
    """Return the largest number of chunks that a sum over `dim` parameters is cut into.

    Example:
        >>> max_chunks(5_702), max_chunks(159_505), max_chunks(10_000_000)
        (128, 25, 1)
    """
    return max(1, _PARTS // num_blocks(dim))


def chunks(dim: int, num_pairs: int) -> list[range]:
    """Return the pairs of each chunk of a sum, in order; they follow from the two numbers alone.

    Example:
        >>> chunks(5_702, 16)
        [range(0, 16)]
        >>> len(chunks(5_702, 5_000)), len(chunks(10_000_000, 5_000))
        (79, 1)
    """
    count = min(-(-num_pairs // _CHUNK), max_chunks(dim))
    bounds = [num_pairs * i // count for i in range(count + 1)]
    return [range(first, last) for first, last in pairwise(bounds)]


def sum_parts(dim: int, num_pairs: int) -> list[tuple[int, int]]:
    """Return the parts of a sum that can be computed apart: (chunk of pairs, block of parameters).

    Example:
        >>> sum_parts(5_702, 128)
        [(0, 0), (1, 0)]
    """
    return [(chunk, block) for chunk in range(len(chunks(dim, num_pairs))) for block in range(num_blocks(dim))]


def add_chunks(parts: Tensor) -> Tensor:
    """Return the sums of all chunks `(chunks, 1 or 2, dim)`, added in order; the first is written over."""
    first: Tensor
    first, *others = parts
    for part in others:
        first += part
    return first


def serial_sum(noise: Noisy, linear: Float64Array, squared: Float64Array | None = None) -> Tensor:
    """Compute the sums in this process; see `Summation`."""
    total = room(1 if squared is None else 2, noise.dim)
    first, *others = chunks(noise.dim, len(linear))
    blocks = range(num_blocks(noise.dim))
    for block in blocks:
        noise.sum_span(columns(total, block), block * BLOCK, first, linear, squared)
    for pairs in others:  # outside: the noise may keep what it drew of a chunk
        for block in blocks:
            out = columns(total, block)
            part = torch.empty_like(out)
            noise.sum_span(part, block * BLOCK, pairs, linear, squared)
            out += part
    return total


def columns(sums: Tensor, block: int) -> Tensor:
    """Return the columns `(..., size)` of a block of parameters, of `(..., dim)`."""
    return sums[..., block * BLOCK : (block + 1) * BLOCK]
