"""Parameter-exploring policy gradients with symmetric sampling (Sehnke et al. 2010, Neural Networks 23:551-559)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from torch_es.checks import check_positive
from torch_es.search.centre import CentreSearch, SearchOptions
from torch_es.search.perturbation import Sigma
from torch_es.search.protocol import OptimizerFactory
from torch_es.search.rule import Plan
from torch_es.search.shaping import Shaping, resolve
from torch_es.types import Float64Array

if TYPE_CHECKING:
    from typing_extensions import Unpack


def _rule(fitness: Float64Array, shaping: Shaping, sigma_lr: float, max_change: float) -> Plan:
    weights = shaping(fitness)
    num_pairs, pair_mean = len(weights), weights.mean(axis=1)
    squared = pair_mean - pair_mean.sum() / num_pairs

    def update(sums: Tensor, sigma: Sigma) -> tuple[Tensor, Sigma]:
        along, spread = sums
        sigma_step = sigma_lr / num_pairs * (spread - float(squared.sum()))
        return sigma * along / (2 * num_pairs), sigma * (1 + sigma_step.clamp(-max_change, max_change))

    return Plan(weights[:, 0] - weights[:, 1], update, squared)


def PGPE(  # noqa: N802 - the name that users know it by
    target: nn.Module | Tensor,
    optimizer: OptimizerFactory = partial(torch.optim.Adam, lr=0.01),
    *,
    sigma: float = 0.02,
    sigma_lr: float = 0.1,
    sigma_max_change: float = 0.2,
    shaping: str | Shaping = "centered_ranks",
    **options: Unpack[SearchOptions],
) -> CentreSearch:
    """Learn the centre and one sigma for each parameter.

    The centre follows `1/(2*n) * sum_i (w_i0 - w_i1) * sigma * eps_i`: the likelihood gradient times sigma squared, as
    published, so that steps shrink with sigma. Sigma moves by
    `sigma_lr * sigma/n * sum_i ((w_i0 + w_i1)/2 - mean(w)) * (eps_i**2 - 1)`, at most by the share `sigma_max_change`
    in a generation (as in Toklu et al. 2020, arXiv:2008.02387).

    Args:
        target: A module, trained in place, or a vector.
        optimizer: Makes the optimiser from the parameters.
        sigma: Initial standard deviation; a param group's own `sigma` takes precedence.
        sigma_lr: Step size of sigma.
        sigma_max_change: Largest relative change of a sigma in one generation.
        shaping: Name or function from returns to weights.
        options: `num_pairs`, `seed` and the other arguments that every strategy takes; see `CentreSearch`.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> es = PGPE(torch.zeros(2), partial(torch.optim.SGD, lr=0.05), sigma=0.1)
        >>> es.sigma.shape
        torch.Size([2])
    """
    if check_positive("sigma_max_change", sigma_max_change) >= 1:
        raise ValueError(f"`sigma_max_change` must be below 1, or a sigma can become zero, got {sigma_max_change}.")
    rule = partial(
        _rule,
        shaping=resolve(shaping),
        sigma_lr=check_positive("sigma_lr", sigma_lr),
        max_change=sigma_max_change,
    )
    return CentreSearch(target, optimizer, rule, sigma, adapts_sigma=True, **options)
