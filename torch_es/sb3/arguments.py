"""What a user of Stable-Baselines3 may give that ES cannot follow."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.utils import get_device
from torch import nn


def check_arguments(
    given: nn.Module | None, policy_kwargs: dict[str, Any] | None, device: torch.device | str, options: dict[str, Any]
) -> None:
    """Refuse what `torch_es.sb3.ES` cannot follow, and say what to do instead.

    Args:
        given: The policy, if one is given, not a name or a class.
        policy_kwargs: As given.
        device: As given.
        options: What is left for `torch_es.ES`.

    Raises:
        ValueError: If an argument contradicts another, or names what ES has not.
    """
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
