"""Separable natural evolution strategies (Schaul, Glasmachers and Schmidhuber 2011; Wierstra et al. 2014)."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from torch_es.checks import check_positive
from torch_es.search.centre import CentreSearch, SearchOptions
from torch_es.search.perturbation import Sigma
from torch_es.search.protocol import OptimizerFactory
from torch_es.search.rule import Plan
from torch_es.search.shaping import nes_utilities
from torch_es.types import Float64Array

if TYPE_CHECKING:
    from typing_extensions import Unpack


def _rule(fitness: Float64Array, sigma_lr: float | None) -> Plan:
    utilities = nes_utilities(fitness)
    squared = utilities.sum(axis=1)

    def update(sums: Tensor, sigma: Sigma) -> tuple[Tensor, Sigma]:
        along, spread = sums
        dim = len(along)
        rate = (3 + math.log(dim)) / (5 * math.sqrt(dim)) if sigma_lr is None else sigma_lr
        return sigma * along, sigma * torch.exp(rate / 2 * (spread - float(squared.sum())))

    return Plan(utilities[:, 0] - utilities[:, 1], update, squared)


def SNES(  # noqa: N802 - the name that users know it by
    target: nn.Module | Tensor,
    optimizer: OptimizerFactory = partial(torch.optim.SGD, lr=1.0),
    *,
    sigma: float = 0.1,
    sigma_lr: float | None = None,
    **options: Unpack[SearchOptions],
) -> CentreSearch:
    """Follow the natural gradient of a diagonal Gaussian, with the paper's utilities u.

    The centre moves by `lr * sigma * sum_k u_k s_k` (lr 1 in the paper: plain SGD), and sigma is multiplied by
    `exp(sigma_lr/2 * sum_k u_k (s_k**2 - 1))`, where the samples s_k come in mirrored pairs.

    Args:
        target: A module, trained in place, or a vector.
        optimizer: Makes the optimiser from the parameters.
        sigma: Initial standard deviation; a param group's own `sigma` takes precedence.
        sigma_lr: Step size of log sigma; the paper's `(3 + log d) / (5 sqrt d)` by default.
        options: `num_pairs`, `seed` and the other arguments that every strategy takes; see `CentreSearch`.

    Example:
        >>> es = SNES(torch.zeros(2), sigma=0.5, num_pairs=8)
        >>> for _ in range(60):
        ...     metrics = es.tell([-((w - 1) ** 2).sum() for w in es.ask()])
        >>> bool((es.theta - 1).abs().max() < 0.01)
        True
    """
    rule = partial(_rule, sigma_lr=None if sigma_lr is None else check_positive("sigma_lr", sigma_lr))
    return CentreSearch(target, optimizer, rule, sigma, adapts_sigma=True, **options)
