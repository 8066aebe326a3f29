"""Search by action noise alone: `sigma = 0`, the parameters of all members are the centre's."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from torch_es.search.centre import Centre, OptimizerFactory, Population, SchedulerFactory
from torch_es.search.gradient import NoiseSum, NonFinite, as_returns, check_non_finite, shaped_weights
from torch_es.search.shaping import Shaping, resolve

_log = logging.getLogger(__name__)


class ActionSpaceES:
    """Follow `g = 1/(2*num_pairs) * sum_m w_m * score_m`, the score-function estimate (see `torch_es.rollout.score`).

    With `sigma = 0` there is no parameter noise that returns could be weighed by, so this estimate is of the smoothing
    by action noise: its variance grows with the steps of an episode, where that of parameter noise does not (Salimans
    et al. 2017, section 3.1).

    Args:
        target: A module, trained in place.
        optimizer: Makes the optimiser from the parameters.
        sigma: Zero.
        num_pairs: Two members each, without anything that mirrors them.
        population_size: Instead of `num_pairs`, an even number of members.
        shaping: Name or function from returns to weights, both `(num_pairs, 2)`.
        non_finite: What becomes of a pair with a NaN or infinite return: "drop" it, or "raise".
        seed: Of the run.
        scheduler: Makes a learning-rate scheduler from the optimiser.
    """

    sigma = 0.0

    def __init__(
        self,
        target: nn.Module | Tensor,
        optimizer: OptimizerFactory = partial(torch.optim.Adam, lr=0.02),
        *,
        sigma: float = 0.0,
        num_pairs: int | None = None,
        population_size: int | None = None,
        shaping: str | Shaping = "centered_ranks",
        non_finite: NonFinite = "drop",
        seed: int = 0,
        scheduler: SchedulerFactory | None = None,
    ) -> None:
        if sigma != 0:
            raise ValueError(f"`sigma` must be 0 where actions alone are searched, got {sigma}.")
        self.centre = Centre(
            target, optimizer, num_pairs=num_pairs, population_size=population_size, seed=seed, scheduler=scheduler
        )
        self.shaping = resolve(shaping)
        self.non_finite = check_non_finite(non_finite)

    def ask(self) -> Population:
        """Return the members to evaluate, each with the centre's weights."""
        return Population(self.centre, self.sigma)

    def tell(self, returns: Any, noise_sum: NoiseSum | None = None) -> dict[str, float]:
        """Move the centre by the members' returns.

        Args:
            returns: `(num_pairs, 2)`, or flat.
            noise_sum: Here the weighted sum of the members' scores, in the order +0, -0, +1, ...

        Raises:
            ValueError: If there are no scores: a plain function of the weights has no actions.
        """
        if noise_sum is None:
            raise ValueError("`sigma` must be positive for a function of the weights: there are no actions to search.")
        weights, kept = shaped_weights(as_returns(returns), self.shaping, self.non_finite)
        total, _ = noise_sum(self.centre.generation, weights.ravel())
        return self.centre.step(total / (2 * int(kept.sum())))

    def state_dict(self) -> dict[str, Any]:
        """Return the centre's state."""
        return self.centre.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        self.centre.load_state_dict(state)


def check_searches_actions(action_noise: object, uneven: bool | int) -> None:
    """Say what `sigma` 0 means, or refuse it where nothing is left to search by.

    Raises:
        ValueError: If actions have no noise, or members may differ in how much they play.
    """
    if action_noise is None:
        raise ValueError(
            "`sigma` must be positive, got 0: without `action_noise` nothing would differ between members."
        )
    if uneven:
        raise ValueError(
            "`min_episodes`, `min_timesteps` and several episodes a member need a positive `sigma`; give `num_pairs`."
        )
    _log.warning(
        "`sigma` is 0: all members have the centre's weights and differ by %s action noise alone. The estimate of the "
        "gradient is then the score function's (REINFORCE with shaped returns): it needs a network that autograd can "
        "go through, and its variance grows with the steps of an episode.",
        action_noise,
    )
