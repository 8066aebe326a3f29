"""Observation statistics from and to Stable-Baselines3's `VecNormalize`."""

from __future__ import annotations

import math

from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecNormalize

from torch_es.nn import ObservationNorm
from torch_es.nn.moments import Moments


def adopt(norm: ObservationNorm, vec: VecNormalize) -> None:
    """Normalise as a `VecNormalize` does, from its statistics on.

    Raises:
        ValueError: If it normalises a Dict, whose statistics are kept by key.
    """
    if not isinstance(vec.obs_rms, RunningMeanStd):
        raise ValueError("`env` is a VecNormalize of a Dict, which cannot be taken over; use `norm_obs=False`.")
    scale_as(norm, vec.clip_obs, math.sqrt(vec.epsilon))
    rms = vec.obs_rms
    norm.update(Moments(float(rms.count), rms.mean.ravel(), rms.var.ravel() * rms.count))


def scale_as(norm: ObservationNorm, limit: float, floor: float) -> None:
    """Cut normalised observations to [-limit, limit], and deviations to at least `floor`."""
    norm.limit, norm.floor = limit, floor


def publish(norm: ObservationNorm, vec: VecNormalize) -> None:
    """Give a `VecNormalize` the statistics, so that it, and what is synchronised with it, normalises by them."""
    moments, rms = norm.moments, vec.obs_rms
    if moments.count and isinstance(rms, RunningMeanStd):
        rms.mean = moments.mean.reshape(rms.mean.shape)
        rms.var = (moments.m2 / moments.count).reshape(rms.var.shape)
        rms.count = moments.count
