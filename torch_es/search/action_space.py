"""Search by noise on actions alone: with `sigma = 0`, all members have the centre's parameters."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from torch_es.search.centre import CentreSearch, SearchOptions, resolve_pairs
from torch_es.search.perturbation import Unperturbed
from torch_es.search.protocol import OptimizerFactory
from torch_es.search.rule import Plan
from torch_es.search.shaping import Shaping, resolve
from torch_es.types import Float64Array

if TYPE_CHECKING:
    from typing_extensions import Unpack

_log = logging.getLogger(__name__)


def _rule(fitness: Float64Array, shaping: Shaping) -> Plan:
    return Plan(shaping(fitness), lambda sums, sigma: (sums[0] / (2 * len(fitness)), sigma))


def ActionSpaceES(  # noqa: N802 - beside OpenAIES
    target: nn.Module | Tensor,
    optimizer: OptimizerFactory = partial(torch.optim.Adam, lr=0.02),
    *,
    sigma: float = 0.0,
    shaping: str | Shaping = "centered_ranks",
    **options: Unpack[SearchOptions],
) -> CentreSearch:
    """Follow `g = 1/(2*num_pairs) * sum_m w_m * score_m`, the score-function estimate (`torch_es.rollout.score`).

    With `sigma = 0` there is no parameter noise to weigh. The estimate is of the return smoothed by action noise. Its
    variance grows with the steps of an episode; that of parameter noise does not (Salimans et al. 2017, section 3.1).

    Args:
        target: A module, trained in place.
        optimizer: Makes the optimiser from the parameters.
        sigma: Zero.
        shaping: Name or function from returns to weights, both `(num_pairs, 2)`.
        options: `num_pairs` (each of two members, which are not mirrored), `seed` and the other arguments that every
            strategy takes; see `CentreSearch`.

    Raises:
        ValueError: If `sigma` is not 0.
    """
    if sigma != 0:
        raise ValueError(f"`sigma` must be 0 where the search is by actions alone, got {sigma}.")
    members = 2 * resolve_pairs(options.get("num_pairs"), options.get("population_size"))
    rule = partial(_rule, shaping=resolve(shaping))
    return CentreSearch(target, optimizer, rule, None, perturb=lambda *_: Unperturbed(members), **options)


def check_searches_actions(action_noise: object, uneven: bool | int) -> None:
    """Log what `sigma` 0 means, or refuse it if nothing is left to search by.

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
