"""Separable natural evolution strategies (Schaul, Glasmachers and Schmidhuber 2011; Wierstra et al. 2014)."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from torch_es.checks import check_positive
from torch_es.search.centre import Centre, OptimizerFactory, Population, SchedulerFactory, Sigma
from torch_es.search.gradient import NoiseSum, NonFinite, as_returns, check_non_finite, shaped_weights
from torch_es.search.shaping import nes_utilities


class SNES:
    """Follow the natural gradient of a diagonal Gaussian, with the paper's utilities u.

    The centre moves by `lr * sigma * sum_k u_k s_k` (lr 1 in the paper: plain SGD), sigma is multiplied by
    `exp(sigma_lr/2 * sum_k u_k (s_k**2 - 1))`, where the samples s_k come in mirrored pairs.

    Args:
        target: A module, trained in place, or a vector.
        optimizer: Makes the optimiser from the parameters.
        sigma: Initial standard deviation; a param group's own `sigma` goes first.
        sigma_lr: Step size of log sigma; the paper's `(3 + log d) / (5 sqrt d)` by default.
        num_pairs: Mirrored pairs in a generation, 16 by default.
        population_size: Instead of `num_pairs`, an even number of members.
        non_finite: "drop" or "raise".
        seed: Of the noise.
        scheduler: Makes a learning-rate scheduler from the optimiser.

    Example:
        >>> es = SNES(torch.zeros(2), sigma=0.5, num_pairs=8)
        >>> for _ in range(60):
        ...     metrics = es.tell([-((w - 1) ** 2).sum() for w in es.ask()])
        >>> bool((es.centre.theta - 1).abs().max() < 0.01)
        True
    """

    def __init__(
        self,
        target: nn.Module | Tensor,
        optimizer: OptimizerFactory = partial(torch.optim.SGD, lr=1.0),
        *,
        sigma: float = 0.1,
        sigma_lr: float | None = None,
        num_pairs: int | None = None,
        population_size: int | None = None,
        non_finite: NonFinite = "drop",
        seed: int = 0,
        scheduler: SchedulerFactory | None = None,
    ) -> None:
        self.centre = Centre(
            target, optimizer, num_pairs=num_pairs, population_size=population_size, seed=seed, scheduler=scheduler
        )
        dim = self.centre.parameters.dim
        rate = (3 + math.log(dim)) / (5 * math.sqrt(dim)) if sigma_lr is None else sigma_lr
        self.sigma_lr = check_positive("sigma_lr", rate)
        self.non_finite = check_non_finite(non_finite)
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
        utilities, _ = shaped_weights(as_returns(returns), nes_utilities, self.non_finite)
        both = utilities.sum(axis=1)
        linear, squared = (noise_sum or self.centre.noise_sum)(
            self.centre.generation, utilities[:, 0] - utilities[:, 1], both
        )
        assert squared is not None  # asked for
        metrics = self.centre.step(self._sigma * linear)
        self._sigma = self._sigma * torch.exp(self.sigma_lr / 2 * (squared - float(both.sum())))
        return metrics

    def state_dict(self) -> dict[str, Any]:
        """Return the centre's state and sigma."""
        return {"centre": self.centre.state_dict(), "sigma": self._sigma}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        self.centre.load_state_dict(state["centre"])
        self._sigma = state["sigma"].clone()
