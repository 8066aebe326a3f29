"""Observation normalisation inside a Stable-Baselines3 policy, so that the policy alone is enough to act."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, FlattenExtractor

from torch_es.nn import ObservationNorm
from torch_es.spaces import Layout


class NormalizedExtractor(BaseFeaturesExtractor):
    """Any features extractor, with an `ObservationNorm` before it.

    Args:
        observation_space: The policy's.
        extractor_class: The extractor that gets the normalised observations.
        extractor_kwargs: Its arguments, besides the space.

    Example:
        >>> NormalizedExtractor(gym.spaces.Box(-1, 1, (3,))).features_dim
        3
    """

    def __init__(
        self,
        observation_space: gym.Space[Any],
        extractor_class: type[BaseFeaturesExtractor] = FlattenExtractor,
        extractor_kwargs: dict[str, Any] | None = None,
    ) -> None:
        extractor = extractor_class(observation_space, **(extractor_kwargs or {}))
        super().__init__(observation_space, extractor.features_dim)
        self.norm = ObservationNorm(observation_space)
        # not saved: it follows from the space, and SB3's tools expect floats alone in a state_dict
        self.norm.register_buffer("measured", self.norm.measured, persistent=False)
        self.extractor = extractor

    def __getattr__(self, name: str) -> Any:
        """Look in the extractor for what is not here: its author expects it to be the policy's extractor."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "extractor":
                raise
            return getattr(self.extractor, name)

    def forward(self, observations: Any) -> Any:
        """Return features `(batch, features_dim)`."""
        return self.extractor(self.norm(observations))


def normalize(policy: ActorCriticPolicy) -> None:
    """Put an `ObservationNorm` before each features extractor of a policy, if there is anything to normalise.

    A policy that already has one keeps it. SB3's `policy.save` and `load` restore it.

    Example:
        >>> from stable_baselines3 import PPO
        >>> policy = PPO("MlpPolicy", "CartPole-v1", device="cpu").policy
        >>> normalize(policy)
        >>> policy.pi_features_extractor.norm
        ObservationNorm(4, limit=5, floor=0.1)
    """
    space = policy.observation_space
    if isinstance(policy.pi_features_extractor, NormalizedExtractor) or not Layout(space).measured.any():
        return
    kind, kwargs = policy.features_extractor_class, policy.features_extractor_kwargs
    made: dict[int, NormalizedExtractor] = {}
    for name in ("features_extractor", "pi_features_extractor", "vf_features_extractor"):
        extractor = getattr(policy, name)
        if id(extractor) not in made:
            made[id(extractor)] = wrapped = NormalizedExtractor(space)
            wrapped.extractor, wrapped._features_dim = extractor, extractor.features_dim
        setattr(policy, name, made[id(extractor)])
    policy.features_extractor_class = NormalizedExtractor
    policy.features_extractor_kwargs = {"extractor_class": kind, "extractor_kwargs": kwargs}
