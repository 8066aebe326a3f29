"""From shaped weights to the search gradient: sums of regenerated noise, block by block.

For mirrored pairs the gradient of E[F(theta + sigma*eps)] is estimated as

    g = 1 / (2 * num_pairs * sigma) * sum_i (w_i0 - w_i1) * eps_i

to be maximised (Salimans et al. 2017, Algorithm 1 with antithetic sampling). Libraries disagree here by factors of
two and of sigma: learning rates do not carry over.
"""

from __future__ import annotations

from typing import Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from torch_es.checks import check_choice
from torch_es.errors import NonFiniteError
from torch_es.search.noise import BLOCK, Noise, num_blocks
from torch_es.search.shaping import Shaping
from torch_es.types import Float64Array

NonFinite = Literal["drop", "raise"]


class NoiseSum(Protocol):
    """Computes `sum_i linear_i * eps_i` and `sum_i squared_i * eps_i**2`, float32 `(dim,)`, here or in workers."""

    def __call__(
        self, generation: int, linear: Float64Array, squared: Float64Array | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Return both sums; the second is None unless `squared` is given."""
        ...


def check_non_finite(value: object) -> NonFinite:
    """Return `value` if it is "drop" or "raise".

    Raises:
        ValueError: If it is neither.

    Example:
        >>> check_non_finite("drop")
        'drop'
    """
    choices: tuple[NonFinite, ...] = get_args(NonFinite)
    return check_choice("non_finite", value, choices)


def noise_sum_block(
    noise: Noise, out: Tensor, generation: int, block: int, linear: Float64Array, squared: Float64Array | None
) -> None:
    """Write one block of both sums into `out`, shape `(1, dim)`, or `(2, dim)` with `squared`.

    Pairs are added in their order, so every element has the same bits whoever computes its block. A pair whose
    coefficients are zero is not regenerated.
    """
    part = out[:, block * BLOCK : (block + 1) * BLOCK].zero_()
    draws = np.empty(part.shape[1], np.float32)
    eps = torch.from_numpy(draws)
    for pair, coefficient in enumerate(linear.tolist()):
        square = 0.0 if squared is None else float(squared[pair])
        if coefficient == 0.0 and square == 0.0:
            continue
        noise.fill_block(draws, generation, pair, block)
        part[0].add_(eps, alpha=coefficient)
        if square != 0.0:
            part[1].addcmul_(eps, eps, value=square)


def serial_noise_sum(noise: Noise) -> NoiseSum:
    """Return the `NoiseSum` that computes every block in this process."""

    def noise_sum(
        generation: int, linear: Float64Array, squared: Float64Array | None = None
    ) -> tuple[Tensor, Tensor | None]:
        out = torch.empty(1 if squared is None else 2, noise.dim)
        for block in range(num_blocks(noise.dim)):
            noise_sum_block(noise, out, generation, block, linear, squared)
        return out[0], None if squared is None else out[1]

    return noise_sum


def as_returns(returns: object) -> Float64Array:
    """Return `(num_pairs, 2)` float64 from that shape, or from a flat sequence in the order +0, -0, +1, -1, ...

    Raises:
        ValueError: If the shape is another, or empty.

    Example:
        >>> as_returns([1.0, 2.0, 3.0, 4.0])
        array([[1., 2.],
               [3., 4.]])
    """
    if isinstance(returns, (list, tuple)):
        returns = [float(r) for r in returns] if not any(isinstance(r, (list, tuple)) for r in returns) else returns
    array = np.asarray(returns, dtype=np.float64)
    if array.ndim == 1 and array.size % 2 == 0:
        array = array.reshape(-1, 2)
    if array.ndim != 2 or array.shape[1] != 2 or not len(array):
        raise ValueError(
            f"`returns` must have shape (num_pairs, 2), or be flat with one return for each member, got {array.shape}."
        )
    return array


def shaped_weights(
    returns: Float64Array, shaping: Shaping, non_finite: NonFinite
) -> tuple[Float64Array, npt.NDArray[np.bool_]]:
    """Shape the pairs whose returns are both finite; the others weigh nothing.

    Returns:
        Weights `(num_pairs, 2)`, with zeros for dropped pairs, and which pairs were kept, `(num_pairs,)`.

    Raises:
        NonFiniteError: If no pair is finite, or `non_finite` is "raise" and one is not.

    Example:
        >>> from torch_es.search.shaping import sign
        >>> shaped_weights(np.array([[1.0, float("nan")], [2.0, 1.0]]), sign, "drop")[1]
        array([False,  True])
    """
    finite: npt.NDArray[np.bool_] = np.all(np.isfinite(returns), axis=1)
    kept = int(finite.sum())
    if kept == 0 or (non_finite == "raise" and kept < len(returns)):
        pair = int(np.argmin(finite))
        raise NonFiniteError(
            f"{len(returns) - kept} of {len(returns)} pairs have a non-finite return, the first is pair {pair} "
            f"with {returns[pair].tolist()}; look for NaN in the environment's reward, or lower `sigma`."
        )
    weights = np.zeros_like(returns)
    weights[finite] = shaping(returns[finite])
    return weights, finite


def search_gradient(
    returns: object,
    sigma: float | Tensor,
    shaping: Shaping,
    non_finite: NonFinite,
    noise_sum: NoiseSum,
    generation: int,
) -> Tensor:
    """Return `g`, shape `(dim,)`, from a generation's returns, `(num_pairs, 2)` or flat; see this file's head.

    Raises:
        NonFiniteError: As `shaped_weights` does.

    Example:
        >>> from torch_es.search.shaping import identity
        >>> noise = Noise(seed=0, dim=3)
        >>> search_gradient([1.0, 1.0], 0.1, identity, "drop", serial_noise_sum(noise), 0)
        tensor([0., 0., 0.])
    """
    weights, kept = shaped_weights(as_returns(returns), shaping, non_finite)
    total, _ = noise_sum(generation, weights[:, 0] - weights[:, 1])
    return total / (2 * int(kept.sum()) * sigma)
