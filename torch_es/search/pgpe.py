"""Parameter-exploring policy gradients with symmetric sampling (Sehnke et al. 2010, Neural Networks 23:551-559)."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from torch_es.checks import check_positive
from torch_es.search.centre import Centre, OptimizerFactory, Population, SchedulerFactory, Sigma
from torch_es.search.gradient import NoiseSum, NonFinite, as_returns, check_non_finite, shaped_weights
from torch_es.search.shaping import Shaping, resolve


class PGPE:
    """Learn the centre and one sigma for each parameter.

    The centre follows `1/(2*n) * sum_i (w_i0 - w_i1) * eps_i / sigma`; sigma moves by
    `sigma_lr * sigma/n * sum_i ((w_i0 + w_i1)/2 - mean(w)) * (eps_i**2 - 1)`, at most by the share `sigma_max_change`
    in a generation (as in Toklu et al. 2020, arXiv:2008.02387).

    Args:
        target: A module, trained in place, or a vector.
        optimizer: Makes the optimiser from the parameters.
        sigma: Initial standard deviation; a param group's own `sigma` goes first.
        sigma_lr: Step size of sigma.
        sigma_max_change: Largest relative change of a sigma in one generation.
        num_pairs: Mirrored pairs in a generation, 16 by default.
        population_size: Instead of `num_pairs`, an even number of members.
        shaping: Name or function from returns to weights.
        non_finite: "drop" or "raise".
        seed: Of the noise.
        scheduler: Makes a learning-rate scheduler from the optimiser.

    Example:
        >>> es = PGPE(torch.zeros(2), partial(torch.optim.SGD, lr=0.05), sigma=0.1)
        >>> es.sigma.shape
        torch.Size([2])
    """

    def __init__(
        self,
        target: nn.Module | Tensor,
        optimizer: OptimizerFactory = partial(torch.optim.Adam, lr=0.01),
        *,
        sigma: float = 0.02,
        sigma_lr: float = 0.1,
        sigma_max_change: float = 0.2,
        num_pairs: int | None = None,
        population_size: int | None = None,
        shaping: str | Shaping = "centered_ranks",
        non_finite: NonFinite = "drop",
        seed: int = 0,
        scheduler: SchedulerFactory | None = None,
    ) -> None:
        self.centre = Centre(
            target, optimizer, num_pairs=num_pairs, population_size=population_size, seed=seed, scheduler=scheduler
        )
        self.shaping = resolve(shaping)
        self.non_finite = check_non_finite(non_finite)
        self.sigma_lr = check_positive("sigma_lr", sigma_lr)
        self.sigma_max_change = check_positive("sigma_max_change", sigma_max_change)
        self._sigma = torch.ones_like(self.centre.theta) * self.centre.sigma(sigma)

    @property
    def sigma(self) -> Sigma:
        """One standard deviation for each parameter, `(dim,)`."""
        return self._sigma

    def ask(self) -> Population:
        """Return the members to evaluate."""
        return Population(self.centre, self._sigma)

    def tell(self, returns: Any, noise_sum: NoiseSum | None = None) -> dict[str, float]:
        """Move the centre and sigma; see `Strategy.tell`."""
        weights, kept = shaped_weights(as_returns(returns), self.shaping, self.non_finite)
        num_kept = int(kept.sum())
        pair_mean = weights.mean(axis=1)
        advantage = np.where(kept, pair_mean - pair_mean.sum() / num_kept, 0.0)
        linear, squared = (noise_sum or self.centre.noise_sum)(
            self.centre.generation, weights[:, 0] - weights[:, 1], advantage
        )
        assert squared is not None  # asked for
        change = self.sigma_lr / num_kept * (squared - float(advantage.sum()))
        metrics = self.centre.step(linear / (2 * num_kept * self._sigma))
        self._sigma = self._sigma * (1 + change.clamp(-self.sigma_max_change, self.sigma_max_change))
        return metrics

    def state_dict(self) -> dict[str, Any]:
        """Return the centre's state and sigma."""
        return {"centre": self.centre.state_dict(), "sigma": self._sigma}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        self.centre.load_state_dict(state["centre"])
        self._sigma = state["sigma"].clone()
