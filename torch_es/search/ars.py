"""Augmented random search (Mania, Guy and Recht 2018, arXiv:1803.07055)."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from torch_es.checks import check_count
from torch_es.search.centre import Centre, OptimizerFactory, Population, SchedulerFactory, Sigma
from torch_es.search.gradient import NoiseSum, NonFinite, as_returns, check_non_finite, shaped_weights
from torch_es.types import Float64Array


class ARS:
    """Step along the best directions, scaled by the deviation of their returns.

    `g = 1/(b * std(R)) * sum over the b best pairs of (r_i0 - r_i1) * eps_i`, best by `max(r_i0, r_i1)`; note that
    sigma does not divide. V1 plays raw observations and V2 normalised ones: that is the policy's
    an `ObservationNorm` in the network, not the strategy's. Equal returns give a zero step.

    Args:
        target: A module, trained in place, or a vector.
        optimizer: Makes the optimiser from the parameters; SGD in the paper.
        sigma: The paper's nu; a param group's own `sigma` goes first.
        num_top: The paper's b, directions kept; all by default.
        num_pairs: The paper's N, mirrored pairs in a generation.
        population_size: Instead of `num_pairs`, an even number of members.
        non_finite: "drop" or "raise".
        seed: Of the noise.
        scheduler: Makes a learning-rate scheduler from the optimiser.

    Example:
        >>> es = ARS(torch.zeros(2), partial(torch.optim.SGD, lr=0.05), sigma=0.05, num_pairs=8, num_top=4)
        >>> for _ in range(100):
        ...     metrics = es.tell([-((w - 1) ** 2).sum() for w in es.ask()])
        >>> bool((es.centre.theta - 1).abs().max() < 0.2)
        True
    """

    def __init__(
        self,
        target: nn.Module | Tensor,
        optimizer: OptimizerFactory = partial(torch.optim.SGD, lr=0.02),
        *,
        sigma: float = 0.03,
        num_top: int | None = None,
        num_pairs: int | None = None,
        population_size: int | None = None,
        non_finite: NonFinite = "drop",
        seed: int = 0,
        scheduler: SchedulerFactory | None = None,
    ) -> None:
        self.centre = Centre(
            target, optimizer, num_pairs=num_pairs, population_size=population_size, seed=seed, scheduler=scheduler
        )
        self.num_top = check_count("num_top", self.centre.num_pairs if num_top is None else num_top)
        if self.num_top > self.centre.num_pairs:
            raise ValueError(
                f"`num_top` must be at most `num_pairs`, got {self.num_top} of {self.centre.num_pairs} pairs."
            )
        self.non_finite = check_non_finite(non_finite)
        self._sigma = sigma
        _ = self.sigma  # checked before anything runs

    @property
    def sigma(self) -> Sigma:
        """A number, or a vector `(dim,)` where param groups have a `sigma` of their own."""
        return self.centre.sigma(self._sigma)

    def ask(self) -> Population:
        """Return the members to evaluate."""
        return Population(self.centre, self.sigma)

    def tell(self, returns: Any, noise_sum: NoiseSum | None = None) -> dict[str, float]:
        """Move the centre; see `Strategy.tell`."""
        weights, _ = shaped_weights(as_returns(returns), self._top, self.non_finite)
        total, _ = (noise_sum or self.centre.noise_sum)(self.centre.generation, weights[:, 0] - weights[:, 1])
        return self.centre.step(total)

    def _top(self, returns: Float64Array) -> Float64Array:
        best = returns.max(axis=1)
        kept = np.argsort(-best, kind="stable")[: self.num_top]
        weights = np.zeros_like(returns)
        deviation = returns[kept].std()
        if deviation > 0:
            weights[kept] = returns[kept] / (len(kept) * deviation)
        return weights

    def state_dict(self) -> dict[str, Any]:
        """Return the centre's state; sigma is an argument, not state."""
        return self.centre.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        self.centre.load_state_dict(state)
