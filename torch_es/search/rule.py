"""Rules: how a strategy turns the fitness of mirrored pairs into a gradient. Each strategy's file holds one.

For mirrored pairs the gradient of E[F(theta + sigma*eps)] is estimated as

    g = 1 / (2 * num_pairs * sigma) * sum_i (w_i0 - w_i1) * eps_i

to be maximised (Salimans et al. 2017, Algorithm 1 with antithetic sampling). Other libraries define it with other
factors of two and of sigma, so learning rates do not carry over.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from torch_es.errors import NonFiniteError
from torch_es.search.perturbation import Sigma, Summation
from torch_es.types import Float64Array

_NOT_FINITE = "The gradient is not finite; scale the returns down or use a rank-based `shaping`."

NonFinite = Literal["drop", "raise"]


class Plan(NamedTuple):
    """What a rule makes of a generation's fitness: which sums it needs, and what follows from them.

    Attributes:
        linear: Coefficient of each pair's noise, `(pairs,)`; of each member's score, `(pairs, 2)`, where the search is
            by actions alone.
        update: Returns the gradient to climb, `(dim,)`, and the next sigma, from the sums, `(1, dim)` or `(2, dim)`,
            and the present sigma, each sigma a number or `(dim,)`. Of a large module it gets one parameter at a time,
            so it must treat each element by itself.
        squared: Coefficient of each pair's squared noise, `(pairs,)`, or None.
    """

    linear: Float64Array
    update: Callable[[Tensor, Sigma], tuple[Tensor, Sigma]]
    squared: Float64Array | None = None


Rule = Callable[[Float64Array], Plan]
"""What makes one strategy differ from another: the plan for the fitness of the pairs to learn from, `(pairs, 2)`, all
finite; column 0 is +noise."""


def kept_pairs(fitness: Float64Array, non_finite: NonFinite) -> npt.NDArray[np.bool_]:
    """Return which pairs can be learnt from, `(pairs,)`: those whose members both have a finite fitness.

    Args:
        fitness: `(pairs, 2)`.
        non_finite: "drop" the other pairs, or "raise".

    Raises:
        NonFiniteError: If no pair is finite, or `non_finite` is "raise" and one is not.

    Example:
        >>> kept_pairs(np.array([[1.0, float("nan")], [2.0, 1.0]]), "drop")
        array([False,  True])
    """
    finite: npt.NDArray[np.bool_] = np.all(np.isfinite(fitness), axis=1)  # F39
    kept = int(finite.sum())
    if kept == 0 or (non_finite == "raise" and kept < len(fitness)):  # F40
        pair = int(np.argmin(finite))
        raise NonFiniteError(
            f"{len(fitness) - kept} of {len(fitness)} pairs have a non-finite return, the first is pair {pair} "
            f"with {fitness[pair].tolist()}; look for NaN in rewards or in what `fitness_fn` returns, or lower `sigma`."
        )
    return finite


def spread(coefficients: Float64Array, kept: npt.NDArray[np.bool_]) -> Float64Array:
    """Return the coefficients of all pairs, zeros for those that were dropped, from the coefficients of the kept ones.

    Example:
        >>> spread(np.array([2.0, 3.0]), np.array([True, False, True]))
        array([2., 0., 3.])
    """
    whole = np.zeros((len(kept), *coefficients.shape[1:]))
    whole[kept] = coefficients
    return whole


def check_coefficients(plan: Plan) -> None:
    """Raise a NonFiniteError if a coefficient is beyond float32, in which noise is summed."""
    given = [plan.linear] if plan.squared is None else [plan.linear, plan.squared]
    if any(np.abs(coefficients).max(initial=0.0) > np.finfo(np.float32).max for coefficients in given):
        raise NonFiniteError(_NOT_FINITE)


def sums_for(plan: Plan, kept: npt.NDArray[np.bool_], noise: Any, summation: Summation) -> Tensor:
    """Return the sums that a plan asks for, which was made for the fitness of the kept pairs."""
    return summation(noise, spread(plan.linear, kept), None if plan.squared is None else spread(plan.squared, kept))


@contextlib.contextmanager
def stepping() -> Iterator[None]:
    """Around an optimiser's step: raise a NonFiniteError where torch refuses a step size beyond float32."""
    try:
        yield
    except RuntimeError as error:
        if "overflow" not in str(error):
            raise
        raise NonFiniteError(f"The optimiser could not step, {error}; lower the learning rate.") from error


def finite_norm(gradient: Tensor) -> float:
    """Return the length of a gradient.

    Raises:
        NonFiniteError: If it is not finite.
    """
    norm = float(gradient.norm())
    if not math.isfinite(norm):
        raise NonFiniteError(_NOT_FINITE)
    return norm
