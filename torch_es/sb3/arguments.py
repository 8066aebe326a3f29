"""What a user of Stable-Baselines3 may give and ES cannot use."""

from __future__ import annotations

import inspect
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.utils import get_device
from torch import nn

from torch_es.envs import MASKS
from torch_es.search import strategy_options


def check_arguments(
    policy: Any, policy_kwargs: dict[str, Any] | None, device: torch.device | str, options: dict[str, Any]
) -> None:
    """Refuse what `torch_es.sb3.ES` cannot use, and say what to do instead.

    Raises:
        TypeError: If the policy is none, or of a kind that acts by more than its observation, or if the noise on
            actions is of SB3.
        ValueError: If an argument contradicts another, or has no meaning for ES.
    """
    if isinstance(policy, BaseAlgorithm):
        raise TypeError(f"`policy` must be a policy, got a model, {type(policy).__name__}; give its `policy`.")
    if "sb3_contrib.common.maskable" in str(getattr(policy, "__module__", "")):
        raise TypeError(f"`policy` must act by its observation alone, got {type(policy).__name__}: {MASKS}")
    if hasattr(policy, "lstm_actor"):
        raise TypeError(
            f"`policy` must have no memory, got {type(policy).__name__}; give torch_es.ES a network with "
            "`initial_state`, such as torch_es.policies.RecurrentNetwork."
        )
    given = policy if isinstance(policy, nn.Module) else None
    if given is not None and policy_kwargs:
        raise ValueError("`policy_kwargs` is for a new policy; the given one stays as it is.")
    if isinstance(given, ActorCriticPolicy) and given.device.type != "cpu":
        raise ValueError(f"`policy` must be on the CPU, got {given.device}; load its model with `device='cpu'`.")
    if str(device) != "auto" and get_device(device).type != "cpu":
        raise ValueError(f"`device` must be cpu or auto, got {device}: members play on the CPU, in workers.")
    if foreign := sorted(set(options) & set(inspect.signature(PPO).parameters)):
        raise ValueError(f"`{foreign[0]}` is an argument of PPO that means nothing to ES; leave it out.")
    if isinstance(options.get("action_noise"), ActionNoise):
        kind = type(options["action_noise"]).__name__
        raise TypeError(f"`action_noise` must be one of torch_es, as 'gaussian:0.1', got a {kind} of SB3.")
    if "optimizer" in options:
        raise ValueError(
            "`optimizer` is given as in Stable-Baselines3: `learning_rate`, and "
            "`policy_kwargs=dict(optimizer_class=..., optimizer_kwargs=...)`."
        )


def check_action_space(space: gym.Space[Any]) -> None:
    """Refuse actions that a policy of Stable-Baselines3 does not choose as the space has them.

    Raises:
        ValueError: If choices do not start at 0, or a Box holds integers.
    """
    if np.any(getattr(space, "start", 0)):
        rule = "have choices that start at 0"
    elif isinstance(space, gym.spaces.Box) and not np.issubdtype(space.dtype, np.floating):
        rule = "have a Box of floating-point numbers for actions"
    else:
        return
    raise ValueError(
        f"`env` must {rule}, as the policies of Stable-Baselines3 act, got {space}; wrap it in "
        "gymnasium.wrappers.TransformAction, or use torch_es.ES, which acts as the space says."
    )


def with_defaults(
    policy: Any, policy_kwargs: dict[str, Any] | None, learning_rate: Any, strategy: Any
) -> tuple[dict[str, Any], Any]:
    """Return `policy_kwargs` and the learning rate; an optimiser that nobody chose is the strategy's own.

    A given policy has an optimiser. One that is not the strategy's own takes the rate of openai_es by default, since
    that of SNES is 1.

    Example:
        >>> with_defaults("MlpPolicy", None, None, "snes")
        ({'optimizer_class': <class 'torch.optim.sgd.SGD'>, 'optimizer_kwargs': {}}, 1.0)
    """
    usual = strategy_options("openai_es")["optimizer"]
    own = strategy_options(strategy)["optimizer"] if isinstance(strategy, str) else usual
    kwargs = dict(policy_kwargs or {})
    if not isinstance(policy, nn.Module):
        kwargs = {"optimizer_class": own.func, "optimizer_kwargs": {}, **kwargs}  # else SB3 adds an eps
    if learning_rate is None:
        kind = kwargs.get("optimizer_class", getattr(policy, "optimizer_class", None))
        learning_rate = (own if kind is own.func else usual).keywords["lr"]
    return kwargs, learning_rate
