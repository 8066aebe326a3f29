"""What a user of Stable-Baselines3 may give that ES cannot follow."""

from __future__ import annotations

import inspect
import logging
from typing import Any

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.utils import get_device
from stable_baselines3.common.vec_env import VecEnv
from torch import nn

from torch_es.envs import Env

_log = logging.getLogger(__name__)

_MASKS = (
    "action masks are not asked for; put the mask into the observation, a Dict, and give torch_es.ES a network that "
    "sets the scores of masked actions to -inf."
)


def check_masks(env: Env | VecEnv | None, given: Any = None) -> None:
    """Say that MaskablePPO's masks have no effect: a warning of an environment's, an error of those that are given.

    Raises:
        TypeError: If masks are given.
    """
    if given is not None:
        raise TypeError(f"`action_masks` cannot be given: {_MASKS}")
    if env is not None and (env.has_attr if isinstance(env, VecEnv) else env.has_wrapper_attr)("action_masks"):
        _log.warning("`env` has `action_masks`, but %s", _MASKS)


def check_arguments(
    policy: Any, policy_kwargs: dict[str, Any] | None, device: torch.device | str, options: dict[str, Any]
) -> None:
    """Refuse what `torch_es.sb3.ES` cannot follow, and say what to do instead.

    Args:
        policy: As given.
        policy_kwargs: As given.
        device: As given.
        options: What is left for `torch_es.ES`.

    Raises:
        TypeError: If the policy is none, or of a kind that acts by more than its observation.
        ValueError: If an argument contradicts another, or names what ES has not.
    """
    if isinstance(policy, BaseAlgorithm):
        raise TypeError(f"`policy` must be a policy, got a model, {type(policy).__name__}; give its `policy`.")
    if "sb3_contrib.common.maskable" in str(getattr(policy, "__module__", "")):
        raise TypeError(f"`policy` must act by its observation alone, got {type(policy).__name__}: {_MASKS}")
    if hasattr(policy, "lstm_actor"):
        raise TypeError(
            f"`policy` must have no memory, got {type(policy).__name__}; give torch_es.ES a network with "
            "`initial_state`, such as torch_es.policies.RecurrentNetwork."
        )
    given = policy if isinstance(policy, nn.Module) else None
    if given is not None and policy_kwargs:
        raise ValueError("`policy_kwargs` is for a policy that is made; the one given is taken as it is.")
    if isinstance(given, ActorCriticPolicy) and given.device.type != "cpu":
        raise ValueError(f"`policy` must be on the CPU, got {given.device}; load its model with `device='cpu'`.")
    if str(device) != "auto" and get_device(device).type != "cpu":
        raise ValueError(f"`device` must be cpu or auto, got {device}: members play on the CPU, in workers.")
    if foreign := sorted(set(options) & set(inspect.signature(PPO).parameters)):
        raise ValueError(f"`{foreign[0]}` is an argument of PPO that means nothing to ES; leave it out.")
    if "optimizer" in options:
        raise ValueError(
            "`optimizer` is given as in Stable-Baselines3: `learning_rate`, and "
            "`policy_kwargs=dict(optimizer_class=..., optimizer_kwargs=...)`."
        )
