"""What one update costs: ES beside PPO, with the same network and environment, on one thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import torch
import update as memory

from science.environments import played
from science.jobs import Job, Place, Result
from torch_es import ES, mlp

ENV, SIZES = "HalfCheetah-v5", (17, 6)
PAIRS = 16


@dataclass(frozen=True)
class Update:
    """Generations of ES, or rollouts of PPO, timed.

    Args:
        algorithm: es or ppo, each with the default settings of its library.
        hidden: Sizes of the policy's hidden layers; PPO has a value function of the same sizes besides.
        rounds: How often, after a first one.
    """

    algorithm: str
    hidden: tuple[int, ...]
    rounds: int = 5

    def settings(self) -> dict[str, Any]:
        """Return everything that the result depends on besides the seed."""
        return {"algorithm": self.algorithm, "env": ENV, "hidden": list(self.hidden), "rounds": self.rounds}

    def run(self, job: Job, place: Place) -> Result:
        """Measure."""
        measured = es if self.algorithm == "es" else ppo
        return measured(self.hidden, self.rounds, job.seed)

    def enough(self, job: Job, result: Result, place: Place) -> bool:
        """Return whether it was measured."""
        return True

    def tiny(self) -> Update:
        """Return the same, once."""
        return replace(self, rounds=1)


def es(hidden: tuple[int, ...], rounds: int, seed: int) -> Result:
    """Return the figures of ES."""
    network = mlp(*SIZES, hidden=hidden, seed=seed)
    with ES(network, played(ENV), num_pairs=PAIRS, num_workers=0, eval_every=0, seed=seed) as trainer:
        clock = Clock(trainer.strategy, "tell")

        def generation() -> int:
            before = trainer.trainer.total_timesteps
            trainer.trainer.run_generation(trainer.evaluator())
            return trainer.trainer.total_timesteps - before

        generation()
        stored = sum(array.nbytes for array in vars(trainer.trainer.played)["_known"].values())
        return figures(generation, clock, rounds, stored)


def ppo(hidden: tuple[int, ...], rounds: int, seed: int) -> Result:
    """Return the figures of PPO."""
    from stable_baselines3 import PPO  # the page is written without it
    from stable_baselines3.common.env_util import make_vec_env

    network = {"net_arch": list(hidden), "activation_fn": torch.nn.Tanh}
    model: Any = PPO("MlpPolicy", make_vec_env(played(ENV), seed=seed), policy_kwargs=network, seed=seed, device="cpu")
    clock = Clock(model, "train")

    def rollout() -> int:
        before = model.num_timesteps
        model.learn(1, reset_num_timesteps=False, log_interval=None)
        return model.num_timesteps - before

    rollout()
    stored = sum(value.nbytes for value in vars(model.rollout_buffer).values() if hasattr(value, "nbytes"))
    return figures(rollout, clock, rounds, stored)


class Clock:
    """Sums the core-seconds that a method of an object takes."""

    def __init__(self, owner: Any, method: str) -> None:
        self.seconds, self._timed = 0.0, getattr(owner, method)
        setattr(owner, method, self)

    def __call__(self, *given: Any) -> Any:
        start = time.process_time()
        result = self._timed(*given)
        self.seconds += time.process_time() - start
        return result


def figures(work: Callable[[], int], clock: Clock, rounds: int, stored: int) -> Result:
    """Return steps a core-second, the update's milliseconds for 1,000 steps, its peak of memory, and what is stored."""
    work()  # first touch
    rates, updates, peaks = [], [], []
    for _ in range(rounds):
        clock.seconds, start, steps = 0.0, time.process_time(), 0

        def round_() -> None:
            nonlocal steps
            steps = work()

        peaks.append(memory.peak(round_, []) / 2**20)
        rates.append(steps / (time.process_time() - start))
        updates.append(1e6 * clock.seconds / steps)
    return {
        "steps_per_core_second": median(rates), "update_ms": median(updates), "peak_mib": max(peaks),
        "stored_bytes": stored,
    }  # fmt: skip
