"""Low-rank noise: of each matrix, a member's noise is `left.T @ right / sqrt(rank)` of two thin draws.

A member then differs from the centre by few numbers, so all members can share one copy of the weights: one product for
all of them, and a thin one each (`torch_es.lanes.shared`). A weighted sum over members is one product as well, in place
of a vector for each. The method is EGGROLL's (Sarkar et al. 2025, arXiv:2511.16652). Every element of the noise has
mean 0 and variance 1, and no two are correlated, so `sigma` and the gradient mean what they mean for dense noise.
"""

from __future__ import annotations

import contextlib
import logging
import math
import operator
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from torch_es.checks import check_count
from torch_es.search.noise import Generator, room
from torch_es.search.parameters import FlatParameters
from torch_es.search.perturbation import NOISES, Sigma
from torch_es.types import Float32Array, Float64Array

_log = logging.getLogger(__name__)

_CPU = torch.device("cpu")
_KEPT = 1 << 23  # draws of pairs that are kept together: 32 MiB
_WINDOW = 1 << 21  # draws of pairs that are made together, if all would be more than that
_start = operator.attrgetter("start")  # of a `Part`
_RECURRENT = (nn.RNNBase, nn.RNNCellBase)


class Part(NamedTuple):
    """One parameter of the module, as the noise sees it.

    Attributes:
        name: In the module.
        start: Its first element in theta.
        rows: Of the matrix: the first dimension of the parameter.
        columns: Of the matrix: all other dimensions. A parameter with dense noise is one column.
        first: Its first draw.
        rank: Of its noise; 0 if that is dense.
    """

    name: str
    start: int
    rows: int
    columns: int
    first: int
    rank: int

    @property
    def stop(self) -> int:
        """The end of its elements in theta."""
        return self.start + self.rows * self.columns

    @property
    def num_draws(self) -> int:
        """How many draws its noise takes."""
        return self.rank * (self.rows + self.columns) if self.rank else self.rows

    def dense(self, draws: Tensor) -> Tensor:
        """Return its draws `(..., rows)` from those of all parameters; it must have dense noise."""
        return draws[..., self.first : self.first + self.rows]

    def factors(self, draws: Tensor) -> tuple[Tensor, Tensor]:
        """Return `left` `(..., rank, rows)` and `right` `(..., rank, columns)` from the draws of all parameters."""
        middle, end = self.first + self.rank * self.rows, self.first + self.num_draws
        left, right = draws[..., self.first : middle], draws[..., middle:end]
        return left.unflatten(-1, (self.rank, self.rows)), right.unflatten(-1, (self.rank, self.columns))

    def write(self, theta: Tensor, scaled: Tensor, out: Tensor) -> Tensor:
        """Write the parameter as a member has it into `out`, `(size,)`, and return it.

        `theta` holds the centre's elements of it, `scaled` its own draws, `(num_draws,)`, times their scales.
        """
        scaled = scaled.to(theta.dtype)
        if not self.rank:
            return torch.add(theta, scaled, out=out)
        left, right = self._replace(first=0).factors(scaled)
        shape = self.rows, self.columns
        with one_thread():
            torch.addmm(theta.view(shape), left.t(), right, out=out.view(shape))
        return out


def factored(parameters: FlatParameters, rank: int) -> tuple[Part, ...]:
    """Return how each parameter of a module is perturbed by noise of a rank.

    Parameters with two and more dimensions are matrices of as many rows as their first dimension has. One whose smaller
    side is not above the rank gets dense noise, as vectors do, and so do the matrices of recurrent layers.

    Raises:
        TypeError: If `rank` is not a whole number.
        ValueError: If it is below 1.

    Example:
        >>> for part in factored(FlatParameters(nn.Linear(8, 4)), rank=1):
        ...     part
        Part(name='weight', start=0, rows=4, columns=8, first=0, rank=1)
        Part(name='bias', start=32, rows=4, columns=1, first=12, rank=0)
    """
    rank = check_count("rank", rank)
    recurrent = {id(p) for m in parameters.module.modules() if isinstance(m, _RECURRENT) for p in m.parameters(False)}
    parts: list[Part] = []
    start = first = 0
    for name, p in parameters.named.items():
        matrix = p.dim() > 1 and p.numel() and id(p) not in recurrent
        rows, columns = (len(p), p[0].numel()) if matrix else (p.numel(), 1)
        low = min(rows, columns) > rank
        part = Part(name, start, *((rows, columns) if low else (p.numel(), 1)), first, rank if low else 0)
        parts.append(part)
        start, first = part.stop, first + part.num_draws
    return tuple(parts)


def low_rank(
    parameters: FlatParameters, rank: int, generator: Generator = "sfc64"
) -> Callable[[int, int, int, Sigma], LowRank]:
    """Return what makes a generation's perturbation of a module, and log which parameters get dense noise.

    Raises:
        ValueError: If all do, since members then differ in as many numbers as without it.
    """
    parts = factored(parameters, rank)
    low = [part for part in parts if part.rank]
    if not low:
        most = max((min(part.rows, part.columns) for part in factored(parameters, 1) if part.rank), default=1) - 1
        way_out = f"at most {most} is possible here" if most else "the module has none, so leave it out"
        raise ValueError(
            f"`rank` must be below both sides of some trainable matrix outside recurrent layers, got {rank}; {way_out}."
        )
    full = [part.name for part in parts if not part.rank and parameters.named[part.name].dim() > 1]
    _log.info(
        "Noise of rank %d on %s of %s parameters; dense on the others%s.", rank,
        f"{sum(part.stop - part.start for part in low):,}", f"{parts[-1].stop:,}",
        f", among them the matrices {', '.join(full)}" if full else "",
    )  # fmt: skip
    return partial(LowRank, parts=parts, generator=generator)


class Factors(NamedTuple):
    """A member's weights without the vector of them: the centre's, and the draws of its noise.

    Attributes:
        theta: The centre, `(dim,)`.
        draws: Of the noise, `(num_draws,)`; see `Part`.
        scales: What multiplies the draws: sigma, with the member's sign, on those of dense noise and `left` (there over
            the root of the rank), and 1 on those of `right`.
    """

    theta: Tensor
    draws: Float32Array
    scales: Float32Array

    def weights(self, parts: tuple[Part, ...], out: Tensor) -> Tensor:
        """Write the vector of weights into `out`, `(dim,)`, and return it."""
        scaled = torch.from_numpy(self.draws * self.scales)
        for part in parts:
            own = slice(part.start, part.stop)
            part.write(self.theta[own], scaled[part.first : part.first + part.num_draws], out[own])
        return out


class LowRank:
    """Mirrored pairs, as `Mirrored` has them, with noise of low rank on matrices.

    Args:
        seed: The run's seed.
        generation: The generation; each has noise of its own.
        dim: Elements of theta.
        sigma: Standard deviation of an element: a number, or one for each parameter, `(dim,)`, the same within each.
        parts: From `factored`.
        generator: Of the noise; see `torch_es.search.noise`.

    Example:
        >>> parts = factored(FlatParameters(nn.Linear(8, 4)), rank=1)
        >>> noise = LowRank(seed=0, generation=0, dim=36, sigma=0.5, parts=parts)
        >>> member = noise.member(torch.zeros(36), 0, torch.empty(36))
        >>> int(torch.linalg.matrix_rank(member[:32].view(4, 8)))
        1
    """

    def __init__(
        self,
        seed: int,
        generation: int,
        dim: int,
        sigma: Sigma,
        parts: tuple[Part, ...],
        generator: Generator = "sfc64",
    ) -> None:
        self.seed, self.generation, self.dim, self.sigma, self.parts = seed, generation, dim, sigma, parts
        self.generator = generator
        self._noise = NOISES[generator](seed, parts[-1].first + parts[-1].num_draws)
        self._draws = room(1, 0)
        self._drawn: int | None = None  # the pair whose draws these are
        self._scales = room(0, 0)
        self._together: tuple[object, Tensor] = None, room(0, 0)  # whose draws these are, and the draws
        self._windows: tuple[int, dict[int, tuple[int, int]]] = 0, {}  # how many draws at most, and where they are

    def __reduce__(self) -> tuple[Any, ...]:
        return LowRank, (self.seed, self.generation, self.dim, self.sigma, self.parts, self.generator)

    def member(self, theta: Tensor, member: int, out: Tensor) -> Tensor:
        """See `Perturbation.member`; always written from the centre, so nothing drifts."""
        return self.factors(theta, member).weights(self.parts, out)

    def part(self, theta: Tensor, member: int, start: int, out: Tensor) -> Tensor:
        """See `Noisy.part`."""
        if not out.numel():
            return out
        part = self._from(start)[0]
        own = slice(part.first, part.first + part.num_draws)
        pair, second = divmod(member, 2)
        scales = self._all_scales(out.device)[second, own]
        return part.write(theta, self._of_pair(pair, out.device)[own] * scales, out)

    def factors(self, theta: Tensor, member: int) -> Factors:
        """Return a member without its vector; of the centre (-1), all draws are zero. Its arrays must not change."""
        plus, minus, none = self._all_scales(_CPU).numpy()
        if member < 0:
            return Factors(theta, none, none)
        pair, second = divmod(member, 2)
        return Factors(theta, self._of_pair(pair, _CPU).numpy(), minus if second else plus)

    def draws(self, members: Sequence[int], device: torch.device) -> Tensor:
        """Return several members' draws times their scales, `(members, num_draws)`; the centre's (-1) are zero."""
        pairs = sorted({member // 2 for member in members if member >= 0})
        drawn = room(len(pairs) + 1, self._noise.dim, device)
        self._noise.fill(drawn[:-1], self.generation, pairs)
        drawn[-1] = 0.0
        found = drawn[[pairs.index(member // 2) if member >= 0 else -1 for member in members]]
        scales = self._all_scales(device)
        for row, member in zip(found, members, strict=True):
            row.mul_(scales[member % 2])
        return found

    def _of_pair(self, pair: int, device: torch.device) -> Tensor:
        """Return a pair's draws, `(num_draws,)`, which must not change."""
        if (self._drawn, self._draws.device) != (pair, device):  # the other half of the pair usually comes next
            if self._drawn is None or self._draws.device != device:
                self._draws = room(1, self._noise.dim, device)
            self._noise.fill(self._draws, self.generation, (pair,))
            self._drawn = pair
        return self._draws[0]

    def _all_scales(self, device: torch.device) -> Tensor:
        """Return what multiplies the draws of a pair's first member, its second, and the centre, `(3, num_draws)`."""
        if not len(self._scales):
            plus = self._new_scales()
            minus = np.where(self._signed(), -plus, plus)
            self._scales = torch.from_numpy(np.stack((plus, minus, np.zeros_like(plus))))
        self._scales = self._scales.to(device)
        return self._scales

    def _signed(self) -> np.ndarray[Any, Any]:
        """Return which draws take a member's sign: all but those of `right`."""
        signed = np.ones(self._noise.dim, np.bool_)
        for part in self.parts:
            signed[part.first + part.rank * part.rows : part.first + part.num_draws] = not part.rank
        return signed

    def _new_scales(self) -> Float32Array:
        scales = np.ones(self._noise.dim, np.float32)
        for part in self.parts:
            own = part.rank * part.rows or part.rows
            sigma = float(self.sigma[part.start]) if isinstance(self.sigma, Tensor) else self.sigma
            scales[part.first : part.first + own] = sigma / math.sqrt(max(part.rank, 1))
        return scales

    def sum_span(
        self, out: Tensor, start: int, units: range, linear: Float64Array, squared: Float64Array | None
    ) -> None:
        """See `Noisy.sum_span`; a pair whose coefficient is zero is not drawn.

        Raises:
            ValueError: If sums of squares are asked for, which low-rank noise does not have.
        """
        if squared is not None:
            raise ValueError("`squared` must be None: noise of low rank has no sums of squares.")
        stop = start + out.shape[1]
        chosen = tuple(pair for pair in units if linear[pair] != 0.0)
        if not chosen:
            out.zero_()
            return
        coefficients = torch.from_numpy(linear[list(chosen)].astype(np.float32)).to(out.device)
        with one_thread():
            for part in self._from(start):
                if part.start >= stop:
                    break
                first, last = max(start, part.start), min(stop, part.stop)
                if first < last:
                    own = *self._drawn_together(chosen, part, out.device), coefficients
                    out[0, first - start : last - start] = _part_sum(*own, first - part.start, last - part.start)

    def _from(self, start: int) -> tuple[Part, ...]:
        """Return the parameter that holds element `start` of theta, and those behind it."""
        return self.parts[bisect_right(self.parts, start, key=_start) - 1 :]

    def _drawn_together(self, pairs: tuple[int, ...], part: Part, device: torch.device) -> tuple[Part, Tensor]:
        """Return the draws of several pairs, `(pairs, draws)`, kept for the next call, and the parameter in them.

        The draws are those of all parameters, or of a large module those of some neighbouring ones.
        """
        most = self._noise.dim if len(pairs) * self._noise.dim <= _KEPT else _WINDOW // len(pairs)
        if self._windows[0] != most:
            self._windows = most, windows(self.parts, most)
        first, last = self._windows[1][part.first]
        if self._together[0] != (key := (pairs, first, device)):
            draws = room(len(pairs), last - first, device)
            self._noise.fill(draws, self.generation, pairs, first)
            self._together = key, draws
        return part._replace(first=part.first - first), self._together[1]


def windows(parts: tuple[Part, ...], most: int) -> dict[int, tuple[int, int]]:
    """Return, by each parameter's first draw, from where to where its draws and its neighbours' are made together.

    They are at most so many, or those of one parameter.

    Example:
        >>> parts = factored(FlatParameters(nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 3))), rank=1)
        >>> [part.num_draws for part in parts], windows(parts, most=16)
        ([12, 4, 7, 3], {0: (0, 16), 12: (0, 16), 16: (16, 26), 23: (16, 26)})
    """
    found: dict[int, tuple[int, int]] = {}
    together: list[Part] = []
    for part, following in pairwise((*parts, None)):
        assert part is not None
        together.append(part)
        begin, end = together[0].first, part.first + part.num_draws
        if following is None or end + following.num_draws - begin > most:
            found |= {own.first: (begin, end) for own in together}
            together = []
    return found


def _part_sum(part: Part, draws: Tensor, coefficients: Tensor, start: int, stop: int) -> Tensor:
    """Return elements `start` to `stop` of a parameter's sum, from draws `(pairs, num_draws)`."""
    if not part.rank:
        return coefficients @ part.dense(draws)[:, start:stop]
    left, right = part.factors(draws)
    top, end = start // part.columns, -(-stop // part.columns)
    before, width = top * part.columns, part.columns
    if end - top == 1:  # within one row
        right, before, width = right[..., start - before : stop - before], start, stop - start
    weights = (coefficients / math.sqrt(part.rank))[:, None, None]
    product = (left[..., top:end] * weights).flatten(0, 1).t() @ right.reshape(-1, width)
    return product.view(-1)[start - before : stop - before]


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread, as in a worker: with more, a product may round differently."""
    before = torch.get_num_threads()
    if before != 1:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if before != 1:
            torch.set_num_threads(before)
