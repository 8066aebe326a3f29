"""Evolution Strategies as in Salimans et al. 2017 (arXiv:1703.03864)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from torch_es.search.centre import CentreSearch, SearchOptions
from torch_es.search.protocol import OptimizerFactory
from torch_es.search.rule import Plan
from torch_es.search.shaping import Shaping, resolve
from torch_es.types import Float64Array

if TYPE_CHECKING:
    from typing_extensions import Unpack


def search_gradient(fitness: Float64Array, shaping: Shaping) -> Plan:
    """The rule `g = 1/(2*num_pairs*sigma) * sum_i (w_i0 - w_i1) * eps_i`, where w are the shaped returns."""
    weights = shaping(fitness)
    return Plan(
        weights[:, 0] - weights[:, 1],
        lambda sums, sigma: (sums[0].div_(2 * len(weights) * sigma), sigma),
    )


def OpenAIES(  # noqa: N802 - the name that users know it by
    target: nn.Module | Tensor,
    optimizer: OptimizerFactory = partial(torch.optim.Adam, lr=0.02),
    *,
    sigma: float = 0.04,
    shaping: str | Shaping = "centered_ranks",
    **options: Unpack[SearchOptions],
) -> CentreSearch:
    """Follow `g = 1/(2*num_pairs*sigma) * sum_i (w_i0 - w_i1) * eps_i` with an optimiser of your choice.

    Args:
        target: A module, trained in place, or a vector.
        optimizer: Makes the optimiser from the parameters; the default was chosen by measurement on MuJoCo.
        sigma: Standard deviation of the noise; a param group's own `sigma` takes precedence.
        shaping: Name or function from returns to weights, both `(num_pairs, 2)`.
        options: `num_pairs`, `seed` and the other arguments that every strategy takes; see `CentreSearch`.

    Raises:
        ValueError: If a value is out of its range.

    Example:
        >>> solution = torch.tensor([0.5, 0.1, -0.3])
        >>> es = OpenAIES(torch.zeros(3), partial(torch.optim.SGD, lr=0.02), sigma=0.1, shaping="z_score")
        >>> for _ in range(200):
        ...     metrics = es.tell([-((w - solution) ** 2).sum() for w in es.ask()])
        >>> bool((es.theta - solution).abs().max() < 0.05)
        True
    """
    return CentreSearch(target, optimizer, partial(search_gradient, shaping=resolve(shaping)), sigma, **options)
