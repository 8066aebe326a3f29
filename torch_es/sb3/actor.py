"""The layers of a Stable-Baselines3 policy that lead to its deterministic action, as a network to evolve."""

from __future__ import annotations

import copy
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import FlattenExtractor, MlpExtractor
from torch import nn

from torch_es.policies import Policy
from torch_es.policies.amplified import amplified
from torch_es.sb3.features import NormalizedExtractor

_PROBES = 8
_REACH = 10.0  # of a network's outputs in the check; a new policy's are almost zero


class Features(nn.Module):
    """A policy's features extractor, as `torch_es` calls a network: choices arrive one-hot, pictures from 0 to 255.

    The extractor is shared with the policy. An `ObservationNorm` before it is left out.
    """

    def __init__(self, policy: ActorCriticPolicy) -> None:
        super().__init__()
        self.extractor = _within(policy.pi_features_extractor)
        space = policy.observation_space
        leaves = space.spaces if isinstance(space, gym.spaces.Dict) else {"": space}
        self._scale = {name: _scale(policy, leaf) for name, leaf in leaves.items()}

    def forward(self, inputs: Any) -> Any:
        """Return features `(batch, features_dim)`."""
        if isinstance(inputs, dict):
            return self.extractor({name: self._scale[name] * leaf for name, leaf in inputs.items()})
        return self.extractor(self._scale[""] * inputs)


def _within(extractor: nn.Module) -> nn.Module:
    return extractor.extractor if isinstance(extractor, NormalizedExtractor) else extractor


def _scale(policy: ActorCriticPolicy, leaf: gym.Space[Any]) -> float:
    return 1 / 255 if policy.normalize_images and is_image_space(leaf) else 1.0


def actor(policy: ActorCriticPolicy) -> nn.Sequential:
    """Return the layers that lead to a policy's deterministic action, without the value network and the deviations.

    They are the policy's own layers, so training them trains the policy. For observations that are vectors they are a
    chain of linear layers and activations, after an `ObservationNorm` if the policy normalises; `torch_es` plays many
    members of such a chain in one batch.

    Args:
        policy: A policy of PPO or A2C, trained or new.

    Raises:
        TypeError: If the policy is of another kind.

    Example:
        >>> from stable_baselines3 import PPO
        >>> len(actor(PPO("MlpPolicy", "CartPole-v1", device="cpu").policy))
        2
    """
    if not isinstance(policy, ActorCriticPolicy) or type(policy.mlp_extractor) is not MlpExtractor:
        raise TypeError(
            "`policy` must be an ActorCriticPolicy with SB3's own MlpExtractor, as PPO and A2C have, got "
            f"{type(policy).__name__}; give torch_es.ES the module that returns means or logits."
        )
    space, extractor = policy.observation_space, policy.pi_features_extractor
    rows = not isinstance(space, gym.spaces.Dict) and len(space.shape or ()) <= 1
    norm = [extractor.norm] if isinstance(extractor, NormalizedExtractor) else []
    plain = rows and type(_within(extractor)) is FlattenExtractor
    before = norm if plain else [*norm, Features(policy)]
    return nn.Sequential(*before, policy.mlp_extractor.policy_net, policy.action_net)


def check_acts_alike(policy: ActorCriticPolicy, acting: Policy) -> None:
    """Check that the network taken out of a policy acts as the policy does, with outputs beyond the actions' bounds.

    Raises:
        ValueError: If it does not, as with a policy that has a state or its own `_predict`.
    """
    space, actions = copy.deepcopy(policy.observation_space), policy.action_space
    space.seed(0)
    observations = [space.sample() for _ in range(_PROBES)]
    bounds = np.stack([actions.low, actions.high]) if isinstance(actions, gym.spaces.Box) else np.ones(1)
    reach = max(_REACH, 2 * float(np.abs(bounds[np.isfinite(bounds)]).max(initial=0)))
    with amplified(policy.action_net, lambda: [acting.act(observation) for observation in observations], reach):
        for observation in observations:
            expected = policy.predict(observation, deterministic=True)[0]
            if not np.allclose(acting.act(observation)[0], expected, rtol=1e-3, atol=1e-4):
                raise ValueError(
                    f"`policy` ({type(policy).__name__}) must act by its features extractor, policy_net and action_net "
                    "alone, and does not; give torch_es.ES the module that returns means or logits."
                )
