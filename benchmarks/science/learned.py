"""Models of Stable-Baselines3 and sb3-contrib as learners."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from sb3_contrib import ARS, TRPO
from stable_baselines3 import A2C, PPO, SAC
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import VecNormalize, sync_envs_normalization

from science.baselines import Baseline
from science.environments import played

ALGORITHMS = {"trpo": TRPO, "ppo": PPO, "a2c": A2C, "sac": SAC, "ars": ARS}


class Learned:
    """A model that learns one stretch at a time.

    Args:
        work: What is to be learned, and how.
        seed: Of the network, the environments and the algorithm.
    """

    def __init__(self, work: Baseline, seed: int) -> None:
        given = dict(work.hyperparameters)
        normalized, number = given.pop("normalize", None), given.pop("n_envs", 1)
        factory = played(work.env, work.repeat, work.delayed)
        self.seed, self.envs = seed, make_vec_env(factory, number, seed=seed)
        self.judges = make_vec_env(factory, 1, seed=10_000 + seed)
        if normalized is not None:  # returns are discounted as the algorithm does it
            self.envs = VecNormalize(self.envs, gamma=given.get("gamma", 0.99), **normalized)
            self.judges = VecNormalize(self.judges, training=False, norm_reward=False)
        if "activation_fn" in (network := dict(given.pop("policy_kwargs", {}))):
            network["activation_fn"] = getattr(torch.nn, network["activation_fn"])
        policy, kind = given.pop("policy"), ALGORITHMS[work.algorithm]
        self._take(kind(policy, self.envs, seed=seed, device="cpu", policy_kwargs=network, **given))

    def _take(self, model: Any) -> None:
        self.model = model
        model.set_logger(Logger(folder=None, output_formats=[]))  # else each stretch leaves a folder in /tmp

    @property
    def steps(self) -> int:
        """Environment steps so far."""
        return int(self.model.num_timesteps)

    def advance(self, steps: int) -> None:
        """Learn until there were at least so many steps; a rollout is finished."""
        self.model.learn(steps - self.steps, reset_num_timesteps=False, log_interval=None)

    def evaluate(self, episodes: int) -> float:
        """Return the mean return of the deterministic policy, with the statistics of training."""
        sync_envs_normalization(self.envs, self.judges)
        mean: Any = evaluate_policy(self.model, self.judges, episodes, deterministic=True)[0]
        return float(mean)

    def save(self, folder: Path) -> None:
        """Write model, normalisation and replay buffer."""
        self.model.save(folder / "model.zip")
        if isinstance(self.envs, VecNormalize):
            self.envs.save(str(folder / "normalization.pkl"))
        if hasattr(self.model, "replay_buffer"):
            self.model.save_replay_buffer(folder / "replay_buffer.pkl")

    def load(self, folder: Path) -> None:
        """Continue from what was saved, with new episodes and random numbers of their own."""
        if isinstance(self.envs, VecNormalize):
            self.envs = VecNormalize.load(str(folder / "normalization.pkl"), self.envs.venv)
        self._take(type(self.model).load(folder / "model.zip", env=self.envs, device="cpu"))
        if hasattr(self.model, "replay_buffer"):
            self.model.load_replay_buffer(folder / "replay_buffer.pkl")
        self.model.set_random_seed(self.seed + self.steps)
