"""Observation statistics from and to Stable-Baselines3's `VecNormalize`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces.utils import flatdim
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecNormalize

from torch_es.nn import ObservationNorm
from torch_es.nn.moments import Moments


def norm_of(vec: VecNormalize, space: gym.Space[Any]) -> ObservationNorm:
    """Return a layer that normalises as a `VecNormalize` does, and begins with its statistics.

    Example:
        >>> from stable_baselines3.common.env_util import make_vec_env
        >>> norm_of(vec := VecNormalize(make_vec_env("CartPole-v1"), clip_obs=3), vec.observation_space)
        ObservationNorm(4, limit=3, floor=0.0001)
    """
    norm = ObservationNorm(space, vec.clip_obs, math.sqrt(vec.epsilon), measured=np.zeros(flatdim(space), bool))
    for _, where in _parts(norm, vec):
        norm.measured[where] = True
    adopt(norm, vec)
    return norm


def adopt(norm: ObservationNorm, vec: VecNormalize) -> None:
    """Give a layer the statistics of a `VecNormalize` in place of its own."""
    theirs, own = _theirs(norm, vec), _own(norm)
    if all(map(np.array_equal, theirs, own)):
        return  # `publish` gave them; computed back, their last bits would differ
    norm.count.zero_()
    norm.m2.zero_()
    if not _is_new(vec):  # a new one divides by one, as does a layer that has seen nothing
        mean, var, count = theirs
        norm.update(Moments(float(count), mean, var * count))


def publish(norm: ObservationNorm, vec: VecNormalize) -> None:
    """Give a `VecNormalize` the statistics, so that it, and what is synchronised with it, normalises by them."""
    mean, var, count = _own(norm)
    if count:
        for rms, where in _parts(norm, vec):
            rms.mean, rms.var = mean[where].reshape(rms.mean.shape), var[where].reshape(rms.var.shape)
            rms.count = float(count)


def settle(norm: ObservationNorm, vec: VecNormalize) -> None:
    """Make a saved model's layer and a `VecNormalize` agree: by the latter, unless it is new and in training."""
    (publish if _is_new(vec) and vec.training else adopt)(norm, vec)


def of_observations(vec: VecNormalize | None) -> VecNormalize | None:
    """Return a `VecNormalize` if it normalises observations, not rewards alone."""
    return vec if vec is not None and vec.norm_obs else None


def describe(vec: VecNormalize | None) -> dict[str, Any] | None:
    """Return what a `VecNormalize` is made with, as plain data."""
    if vec is None:
        return None
    return {"clip_obs": float(vec.clip_obs), "epsilon": float(vec.epsilon), "norm_obs_keys": vec.norm_obs_keys}


def check_alike(normalized: bool, vec: VecNormalize | None) -> None:
    """Refuse an environment that normalises where a model acts on raw observations, or the other way round.

    Raises:
        ValueError: In that case.
    """
    if normalized and vec is None:
        raise ValueError("`env` must be a VecNormalize: the model was made with one and acts on what it normalises.")
    if vec is not None and not normalized:
        raise ValueError("`env` must not be a VecNormalize: the model acts on raw observations; use `norm_obs=False`.")


def _kept(vec: VecNormalize) -> dict[str, RunningMeanStd]:
    return vec.obs_rms if isinstance(vec.obs_rms, dict) else {"": vec.obs_rms}


def _is_new(vec: VecNormalize) -> bool:
    return all(rms.count < 1 for rms in _kept(vec).values())


def _theirs(norm: ObservationNorm, vec: VecNormalize) -> tuple[Any, Any, float]:
    """Return a `VecNormalize`'s mean and variance, `(size,)` each, and its count."""
    mean, var, counts = np.zeros(norm.size), np.zeros(norm.size), [0.0]
    for rms, where in _parts(norm, vec):
        mean[where], var[where] = rms.mean.ravel(), rms.var.ravel()
        counts.append(float(rms.count))
    return mean, var, max(counts)


def _own(norm: ObservationNorm) -> tuple[Any, Any, float]:
    """Return the same of a layer."""
    moments = norm.moments
    return moments.mean, np.where(norm.measured, moments.m2 / max(moments.count, 1.0), 0.0), moments.count


def _parts(norm: ObservationNorm, vec: VecNormalize) -> Iterator[tuple[RunningMeanStd, slice]]:
    """Yield the statistics that a `VecNormalize` keeps, and where they stand in a flat observation."""
    assert norm.layout is not None  # `norm_of` makes it of a space
    space = norm.layout.space
    leaves = space.spaces if isinstance(space, gym.spaces.Dict) else {"": space}
    kept, at = _kept(vec), 0
    for name, leaf in leaves.items():
        size = flatdim(leaf)
        if name in kept:
            yield kept[name], slice(at, at + size)
        at += size
