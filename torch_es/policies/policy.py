"""The policy: observation -> normalisation -> network -> head -> action, everything needed to act in one module."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn

from torch_es.nn import ObservationNorm, VirtualBatchNorm
from torch_es.policies.heads import make_head


class Policy(nn.Module):
    """Wraps a network for an environment's spaces; the network itself is kept, not copied.

    The network is called with a batch of float32 observations `(batch, *shape)` and answers `(batch, size)`.

    Args:
        network: Any module.
        observation_space: A Box.
        action_space: A Box, Discrete, MultiDiscrete or MultiBinary space.
        normalize_observations: Whether to normalise by running statistics.
        box_head: How outputs become actions of a Box; see `make_head`.

    Raises:
        ValueError: If a space is of another kind, the output does not fit the action space, or the network holds a
            BatchNorm layer, whose statistics population members would share.

    Example:
        >>> policy = Policy(nn.Linear(3, 2), gym.spaces.Box(-1, 1, (3,)), gym.spaces.Discrete(2))
        >>> policy.act(np.zeros(3)).shape
        ()
    """

    def __init__(
        self,
        network: nn.Module,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        normalize_observations: bool = True,
        box_head: str = "clip",
    ) -> None:
        super().__init__()
        if not isinstance(observation_space, gym.spaces.Box):
            raise ValueError(
                f"`observation_space` must be a Box, got {observation_space}; "
                "wrap the environment in gymnasium.wrappers.FlattenObservation."
            )
        check_no_batch_norm(network)
        self.network = network
        self.observation_shape = observation_space.shape
        self.head = make_head(action_space, box_head)
        size = int(np.prod(observation_space.shape))
        self.observation_norm = ObservationNorm(size) if normalize_observations else None
        self.dtype = next((p.dtype for p in network.parameters() if p.is_floating_point()), torch.float32)
        self._check_output()

    def forward(self, observation: Tensor) -> Tensor:
        """Return actions for observations `(batch, *observation_shape)`."""
        if self.observation_norm is not None:
            flat = observation.reshape(len(observation), -1)
            observation = self.observation_norm(flat).reshape(observation.shape)
        action: Tensor = self.head(self.network(observation.to(self.dtype)))
        return action

    @torch.no_grad()
    def act(self, observation: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return the deterministic action for one observation, or one for each of a batch; statistics stay."""
        observation = np.asarray(observation)
        single = observation.shape == self.observation_shape
        if not single and observation.shape[1:] != self.observation_shape:
            raise ValueError(
                f"`observation` must have shape {self.observation_shape}, or (batch, ...) of it, "
                f"got {observation.shape}."
            )
        batch = torch.from_numpy(observation[None] if single else observation)
        training = self.network.training
        self.network.eval()
        try:
            actions: np.ndarray[Any, Any] = self(batch).numpy()
        finally:
            self.network.train(training)
        return actions[0] if single else actions

    def _check_output(self) -> None:
        zeros = torch.zeros(1, *self.observation_shape, dtype=self.dtype)
        training = self.network.training
        try:
            with torch.no_grad():
                output = self.network.eval()(zeros)
        except RuntimeError as error:
            raise ValueError(
                f"`policy` must take a batch of observations of shape {self.observation_shape}: {error}"
            ) from error
        finally:
            self.network.train(training)
        if tuple(output.shape) != (1, self.head.size):
            raise ValueError(
                f"`policy` must answer (batch, {self.head.size}) to fit the action space, "
                f"got {tuple(output.shape)} for a batch of one."
            )


def check_no_batch_norm(network: nn.Module) -> None:
    """Refuse BatchNorm by name, since members of a population would share its statistics.

    VirtualBatchNorm is refused for now: rollouts do not yet collect its statistics anew for each member.

    Raises:
        ValueError: If there is one.
    """
    for name, layer in network.named_modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            raise ValueError(
                f"`policy` holds {type(layer).__name__} at `{name}`, whose statistics a population would share; "
                "use LayerNorm or GroupNorm instead."
            )
        if isinstance(layer, VirtualBatchNorm):
            raise ValueError(
                f"`policy` holds VirtualBatchNorm at `{name}`, whose statistics episodes do not collect yet; "
                "use LayerNorm or GroupNorm, or `fitness_fn` with `collect_statistics` in it."
            )
