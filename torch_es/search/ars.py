"""Augmented random search (Mania, Guy and Recht 2018, arXiv:1803.07055)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from torch_es.checks import check_count
from torch_es.search.centre import CentreSearch, SearchOptions, resolve_pairs
from torch_es.search.protocol import OptimizerFactory
from torch_es.search.rule import Plan
from torch_es.types import Float64Array

if TYPE_CHECKING:
    from typing_extensions import Unpack


def _rule(fitness: Float64Array, num_top: int) -> Plan:
    top = np.argsort(-fitness.max(axis=1), kind="stable")[:num_top]
    weights = np.zeros_like(fitness)
    deviation = fitness[top].std()
    if deviation > 0:
        weights[top] = fitness[top] / (len(top) * deviation)
    return Plan(weights[:, 0] - weights[:, 1], lambda sums, sigma: (sums[0], sigma))


def ARS(  # noqa: N802 - the name that users know it by
    target: nn.Module | Tensor,
    optimizer: OptimizerFactory = partial(torch.optim.SGD, lr=0.02),
    *,
    sigma: float = 0.03,
    num_top: int | None = None,
    **options: Unpack[SearchOptions],
) -> CentreSearch:
    """Step along the best directions, scaled by the deviation of their returns.

    `g = 1/(b * std(R)) * sum over the b best pairs of (r_i0 - r_i1) * eps_i`, best by `max(r_i0, r_i1)`; note that
    sigma does not divide. V1 plays raw observations and V2 normalised ones; for V2, put an `ObservationNorm` into the
    network. Equal returns give a zero step.

    Args:
        target: A module, trained in place, or a vector.
        optimizer: Makes the optimiser from the parameters; SGD in the paper.
        sigma: The paper's nu; a param group's own `sigma` takes precedence.
        num_top: The paper's b: how many directions are kept; by default all.
        options: `num_pairs` (the paper's N), `seed` and the other arguments of every strategy; see `CentreSearch`.

    Example:
        >>> es = ARS(torch.zeros(2), partial(torch.optim.SGD, lr=0.05), sigma=0.05, num_pairs=8, num_top=4)
        >>> for _ in range(100):
        ...     metrics = es.tell([-((w - 1) ** 2).sum() for w in es.ask()])
        >>> bool((es.theta - 1).abs().max() < 0.2)
        True
    """
    num_pairs = resolve_pairs(options.get("num_pairs"), options.get("population_size"))
    top = check_count("num_top", num_pairs if num_top is None else num_top)
    if top > num_pairs:
        raise ValueError(
            f"`num_top` must be at most `num_pairs`, got {top} of {num_pairs} pairs; set `num_top` "
            "(strategy.num_top) too."
        )
    return CentreSearch(target, optimizer, partial(_rule, num_top=top), sigma, **options)
