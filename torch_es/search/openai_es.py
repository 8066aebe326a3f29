"""Evolution Strategies as in Salimans et al. 2017 (arXiv:1703.03864)."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from torch_es.search.centre import Centre, OptimizerFactory, Population, SchedulerFactory, Sigma
from torch_es.search.gradient import NoiseSum, NonFinite, check_non_finite, search_gradient
from torch_es.search.shaping import Shaping, resolve


class OpenAIES:
    """Follow `g = 1/(2*num_pairs*sigma) * sum_i (w_i0 - w_i1) * eps_i` with an optimiser of your choice.

    Args:
        target: A module, trained in place, or a vector.
        optimizer: Makes the optimiser from the parameters; the default was chosen by measurement on MuJoCo.
        sigma: Standard deviation of the perturbation; a param group's own `sigma` goes first.
        num_pairs: Mirrored pairs in a generation, 16 by default.
        population_size: Instead of `num_pairs`, an even number of members.
        shaping: Name or function from returns to weights, both `(num_pairs, 2)`.
        non_finite: What becomes of a pair with a NaN or infinite return: "drop" it, or "raise".
        seed: Of the noise.
        scheduler: Makes a learning-rate scheduler from the optimiser.

    Raises:
        ValueError: If a value is out of its range.

    Example:
        >>> solution = torch.tensor([0.5, 0.1, -0.3])
        >>> es = OpenAIES(torch.zeros(3), partial(torch.optim.SGD, lr=0.02), sigma=0.1, shaping="z_score")
        >>> for _ in range(200):
        ...     metrics = es.tell([-((w - solution) ** 2).sum() for w in es.ask()])
        >>> bool((es.centre.theta - solution).abs().max() < 0.05)
        True
    """

    def __init__(
        self,
        target: nn.Module | Tensor,
        optimizer: OptimizerFactory = partial(torch.optim.Adam, lr=0.02),
        *,
        sigma: float = 0.04,
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
        noise_sum = noise_sum or self.centre.noise_sum
        return self.centre.step(
            search_gradient(returns, self.sigma, self.shaping, self.non_finite, noise_sum, self.centre.generation)
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the centre's state; sigma is an argument, not state."""
        return self.centre.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        self.centre.load_state_dict(state)
