"""Agents of other libraries as networks for `ES`: from observations to means or scores of actions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from torch_es.errors import MissingExtraError

__all__ = ["from_cleanrl", "from_tensordict"]

_HINT = "give `ES` the module that turns observations into means or logits."


class _Pictures(nn.Module):
    """Bytes as numbers from 0 to 1, as CleanRL's Atari agents scale them in their methods."""

    def forward(self, x: Tensor) -> Tensor:
        return x / 255.0


def from_cleanrl(agent: nn.Module) -> nn.Module:
    """Return the layers that decide a CleanRL `Agent`'s actions, as a network for `ES`.

    The layers are the agent's own, so the agent is trained in place; its critic and deviations do not change. The
    agent's log-probabilities are used to check that `get_action_and_value` really acts by these layers.

    Args:
        agent: Has `actor` (scores of a discrete action) or `actor_mean` (means of a continuous one), and before it
            `network`, if it sees pictures.

    Raises:
        TypeError: If it lacks this method or these layers.
        ValueError: If it does not act by these layers alone.

    Example:
        >>> from torch.distributions import Categorical
        >>> class Agent(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.actor, self.critic = nn.Linear(4, 2), nn.Linear(4, 1)
        ...     def get_action_and_value(self, x, action=None):
        ...         probs = Categorical(logits=self.actor(x))
        ...         action = probs.sample() if action is None else action
        ...         return action, probs.log_prob(action), probs.entropy(), self.critic(x)
        >>> from_cleanrl(Agent())
        Linear(in_features=4, out_features=2, bias=True)
    """
    mean, scores = getattr(agent, "actor_mean", None), getattr(agent, "actor", None)
    last = scores if mean is None else mean
    if not (isinstance(last, nn.Module) and callable(getattr(agent, "get_action_and_value", None))):
        raise TypeError(
            "`agent` must have `get_action_and_value` and a module `actor` or `actor_mean`; "
            f"{type(agent).__name__} does not. Otherwise {_HINT}"
        )
    network = getattr(agent, "network", None)
    way = last if network is None else nn.Sequential(_Pictures(), network, last)
    try:
        alike = _acts_by(agent, way, _inputs(way), continuous=mean is not None)
    except (TypeError, RuntimeError, ValueError, IndexError) as error:
        raise ValueError(f"`agent` ({type(agent).__name__}) could not be tried: {error}. Instead, {_HINT}") from error
    if not alike:
        raise ValueError(f"`agent` ({type(agent).__name__}) does not act by these layers alone. Instead, {_HINT}")
    return way


def _inputs(way: nn.Module) -> Tensor:
    """Return a few observations of the size that the first layer takes; pictures are CleanRL's 84x84."""
    first = next(layer for layer in way.modules() if isinstance(layer, (nn.Linear, nn.Conv2d)))
    shape = (first.in_features,) if isinstance(first, nn.Linear) else (first.in_channels, 84, 84)
    return torch.rand(4, *shape, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def _acts_by(agent: Any, way: nn.Module, x: Tensor, continuous: bool) -> bool:
    output = way(x)
    if continuous:  # as likely on either side of a mean
        step = 0.5 * torch.rand(output.shape, generator=torch.Generator().manual_seed(1))
        above, below = (agent.get_action_and_value(x, output + sign * step)[1] for sign in (1, -1))
        return torch.allclose(above, below, rtol=1e-3, atol=1e-3)
    actions = torch.arange(output.shape[1])
    told = [agent.get_action_and_value(x, action.expand(len(x)))[1] for action in actions]
    return torch.allclose(torch.stack(told, 1), output.log_softmax(1), rtol=1e-3, atol=1e-4)


class _TensorDictNetwork(nn.Module):
    """Calls a TensorDict module with an observation, and returns what it writes for the action."""

    def __init__(self, actor: Any, key: Any) -> None:
        super().__init__()
        self.actor, self.key = actor, key

    def forward(self, inputs: Any) -> Tensor:
        from tensordict import TensorDict
        from tensordict.nn import InteractionType, set_interaction_type

        given = inputs if isinstance(inputs, dict) else {self.actor.in_keys[0]: inputs}
        size = len(next(iter(given.values())))
        with set_interaction_type(InteractionType.DETERMINISTIC):
            answer: Tensor = self.actor(TensorDict(given, batch_size=[size])).get(self.key)
        return answer


def from_tensordict(actor: nn.Module) -> nn.Module:
    """Return a network that computes the deterministic actions of a TorchRL actor, or of any `TensorDictModule`.

    Args:
        actor: Reads an observation, or with several keys the leaves of a Dict by name. Writes `logits` of a discrete
            action, or otherwise `action`, as a Box or one-hot. It is trained in place. A distribution returns what
            `InteractionType.DETERMINISTIC` means for it.

    Raises:
        MissingExtraError: If tensordict is not installed.
        TypeError: If `actor` is not such a module.

    Example:
        >>> from tensordict.nn import TensorDictModule
        >>> actor = TensorDictModule(nn.Linear(3, 1), in_keys=["observation"], out_keys=["action"])
        >>> from_tensordict(actor)(torch.zeros(5, 3)).shape
        torch.Size([5, 1])
    """
    try:
        from tensordict.nn import TensorDictModuleBase
    except ImportError as error:
        raise MissingExtraError("tensordict", "torchrl") from error
    if not isinstance(actor, TensorDictModuleBase):
        raise TypeError(f"`actor` must be a TensorDictModule, got {type(actor).__name__}. Otherwise {_HINT}")
    key = next((key for key in ("logits", "action") if key in actor.out_keys), None)
    if key is None:
        raise TypeError(f"`actor` must write `logits` or `action`, but writes {', '.join(map(str, actor.out_keys))}.")
    return _TensorDictNetwork(actor, key)
