"""The loop: Algorithm 2 of Salimans et al. 2017, one generation at a time."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from torch_es.checks import check_count
from torch_es.envs.rules import EpisodeRules
from torch_es.errors import NonFiniteError
from torch_es.evaluators import Evaluator
from torch_es.nn import ObservationNorm
from torch_es.nn.moments import Moments
from torch_es.search import Strategy, unperturbed
from torch_es.training.generation import Generation, Quota
from torch_es.types import EpisodeResult, Snapshot, Task

LONG = 1000  # steps of an episode that is not played twice to see whether it is the same

_log = logging.getLogger(__name__)


class Trainer:
    """Ask, evaluate, tell; merge the statistics; report.

    Args:
        strategy: Holds the centre.
        observation_norm: Its statistics are frozen while a generation runs, then merged in member order.
        quota: When a generation is complete.
        eval_every: Evaluate the centre every so many generations, in the pool of the next one; 0 is never.
        eval_episodes: Episodes of such an evaluation.
        rules: Of the episodes.
        frames_per_step: Steps of the simulator that an action holds for; above 1, `time/total_frames` is reported too.
    """

    def __init__(
        self,
        strategy: Strategy,
        observation_norm: ObservationNorm | None,
        quota: Quota,
        eval_every: int = 10,
        eval_episodes: int = 4,
        rules: EpisodeRules = EpisodeRules(),
        frames_per_step: int = 1,
    ) -> None:
        self.strategy = strategy
        self.rules = rules
        self.max_steps = rules.first_cap
        self.observation_norm = observation_norm
        self.quota = quota
        self.eval_every = check_count("eval_every", eval_every, minimum=0)
        self.eval_episodes = check_count("eval_episodes", eval_episodes)
        self.total_timesteps = 0
        self.total_episodes = 0
        self.seconds = 0.0
        self.frames_per_step = frames_per_step
        self.played: Generation | None = None  # the last one
        self._warned = False  # of a NaN observation
        self.best: dict[str, Any] | None = None  # the centre that was best when evaluated

    def snapshot(self) -> Snapshot:
        """Return what this generation's evaluations depend on."""
        norm = self.observation_norm
        theta = self.strategy.centre.theta
        if norm is None:
            return Snapshot(theta, self.strategy.sigma, max_steps=self.max_steps)
        return Snapshot(theta, self.strategy.sigma, *norm.scale, self.max_steps)

    def run_generation(self, evaluator: Evaluator) -> dict[str, float]:
        """Play one generation and move the centre; returns its metrics."""
        start = time.perf_counter()
        population = self.strategy.ask()
        evaluate = self.eval_every and population.generation % self.eval_every == 0
        generation = Generation(population.generation, self.quota, self.eval_episodes if evaluate else 0, self.rules)
        snapshot = self.snapshot()
        for result in evaluator.evaluate(snapshot, generation.next_tasks):
            generation.add(result)
        again = self._ask_twice(evaluator, generation)
        metrics = self._tell(generation, evaluator)
        self._remember(generation, snapshot)
        self._merge(generation)
        self.played = generation
        episodes = generation.episodes
        steps = sum(result.length for result in episodes)
        self.total_timesteps += steps
        self.total_episodes += len(episodes)
        elapsed = time.perf_counter() - start
        self.seconds += elapsed
        played = steps + sum(result.length for result in [*generation.centre, *again])
        restarts = {"es/worker_restarts": float(evaluator.restarts)} if evaluator.restarts else {}
        metrics = {**self._report(generation, steps, played / elapsed), **metrics, **restarts}
        self.max_steps = self.rules.next_cap(self.max_steps, episodes)
        return metrics

    def evaluate_centre(self, evaluator: Evaluator, episodes: int) -> list[EpisodeResult]:
        """Play noise-free episodes of the centre; training is not affected."""
        number = self.strategy.centre.generation
        return self.play(evaluator, [Task(number, -1, 0, i) for i in range(check_count("episodes", episodes))])

    def play(self, evaluator: Evaluator, tasks: Sequence[Task]) -> list[EpisodeResult]:
        """Play tasks of the generation that is next, and return their results in that order; nothing is trained."""
        waiting = deque(tasks)
        results = {
            result.task: result
            for result in evaluator.evaluate(self.snapshot(), lambda: (waiting.popleft(),) if waiting else None)
        }
        return [results[task] for task in tasks]

    def _ask_twice(self, evaluator: Evaluator, generation: Generation) -> list[EpisodeResult]:
        """Play two episodes of the first generation again, and warn if they are others; returns them.

        A fitness function, which is a single step, may be random; a long episode would cost what this is not worth.
        """
        if self.played is not None:
            return []
        first = [r for r in generation.episodes[:2] if math.isfinite(r.return_) and 1 < r.length <= LONG]
        again = self.play(evaluator, [result.task for result in first])
        for one, other in zip(first, again, strict=True):
            if _bits(one) != _bits(other):
                _log.warning(
                    "%s gave %.6g in %d steps, and %.6g in %d steps when it was played again: the environment does not "
                    "follow from its seed, so neither will the run. `torch-es check-env` says where it differs.",
                    self.rules.task_name(self.strategy.centre.seed, one.task),
                    one.return_, one.length, other.return_, other.length,
                )  # fmt: skip
                break
        return again

    def _merge(self, generation: Generation) -> None:
        """Merge what the members saw into the statistics, in member order, so that the bits follow from the seed."""
        norm = self.observation_norm
        if norm is None:
            return
        origin = norm.moments.mean
        seen = Moments.zero(origin.size)
        for result in generation.episodes:
            if result.moments is None:
                continue
            if np.isfinite(result.moments).all():
                seen = seen.merge(Moments.from_sums(result.length, result.moments, origin))
            elif not self._warned:
                self._warned = True
                elements = np.flatnonzero(~np.isfinite(result.moments[: origin.size]))
                _log.warning(
                    "Element %s of an observation was NaN or infinite, first in generation %d pair %d sign %+d; the "
                    "statistics leave out such episodes.", ", ".join(map(str, elements)), *result.task[:3],
                )  # fmt: skip
        norm.update(seen)

    def _report(self, generation: Generation, steps: int, fps: float) -> dict[str, float]:
        returns, episodes = generation.returns, generation.episodes
        truncated = float(sum(result.truncated for result in episodes))
        finite = returns[np.isfinite(returns)]
        with np.errstate(over="ignore"):  # of returns near the largest number there is
            spread = float(finite.std())
        sigma, frames = self.strategy.sigma, self.frames_per_step * self.total_timesteps
        metrics = {
            "global_step": float(self.total_timesteps),
            "time/iterations": float(generation.number + 1),
            "time/total_timesteps": float(self.total_timesteps),
            "time/total_episodes": float(self.total_episodes),
            "time/time_elapsed": self.seconds,
            "time/fps": fps,
            "rollout/ep_rew_mean": float(finite.mean()),
            "rollout/ep_rew_std": spread,
            "rollout/ep_rew_min": float(finite.min()),
            "rollout/ep_rew_max": float(finite.max()),
            "rollout/ep_len_mean": steps / len(episodes),
            "rollout/terminated": len(episodes) - truncated,
            "rollout/truncated": truncated,
            **({} if self.frames_per_step == 1 else {"time/total_frames": float(frames)}),
            **({} if self.max_steps is None else {"rollout/max_ep_length": float(self.max_steps)}),
            "es/num_pairs": float(len(returns)),
            "es/nonfinite_returns": float(returns.size - finite.size),
            "es/dropped_pairs": float((~np.isfinite(returns).all(axis=1)).sum()),
            "train/sigma": float(sigma if isinstance(sigma, float) else sigma.mean()),
        }
        return {**metrics, **centre_metrics(generation.centre)}

    def _tell(self, generation: Generation, evaluator: Evaluator) -> dict[str, float]:
        """Move the centre; where returns are to blame that it cannot be, name the first."""
        try:
            noise_sum = generation.score_sum if self.searches_actions else evaluator.noise_sum
            return self.strategy.tell(generation.fitness, noise_sum)
        except NonFiniteError as error:
            bad = next((r.task for r in generation.episodes if not math.isfinite(r.return_)), None)
            if bad is None:
                raise
            raise NonFiniteError(f"{self.rules.task_name(self.strategy.centre.seed, bad)}: {error}") from error

    @property
    def searches_actions(self) -> bool:
        """Whether members differ by their action noise alone, so that a step depends on more than their returns."""
        return unperturbed(self.strategy.sigma)

    def _remember(self, generation: Generation, snapshot: Snapshot) -> None:
        """Keep the centre that was just evaluated if it is the best so far."""
        mean = centre_metrics(generation.centre).get("eval/mean_reward")
        if mean is None or (self.best is not None and mean <= self.best["mean_reward"]):
            return
        statistics = self.progress_dict()["observation_norm"]
        self.best = {"generation": generation.number, "mean_reward": mean, "theta": snapshot.theta}
        self.best["observation_norm"] = statistics and {name: value.clone() for name, value in statistics.items()}

    def restore_best(self) -> None:
        """Take the theta and the statistics of the best centre evaluated so far, to act, not to train on.

        Raises:
            ValueError: If none was evaluated.
        """
        if self.best is None:
            raise ValueError(
                "No centre was evaluated yet, so there is no best one; use the last, or lower `eval_every`."
            )
        self.strategy.centre.move(self.best["theta"])
        if self.observation_norm is not None:
            self.observation_norm.load_state_dict(self.best["observation_norm"])

    def state_dict(self) -> dict[str, Any]:
        """Return all that the next generation depends on, the counters, and the best centre."""
        generation = self.strategy.centre.generation
        return {
            "generation": generation,
            "strategy": self.strategy.state_dict(),
            "best": self.best,
            **self.progress_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        self.strategy.load_state_dict(state["strategy"])
        self.best = state["best"]
        self.load_progress_dict(state)

    def progress_dict(self) -> dict[str, Any]:
        """Return what a generation leaves behind besides the strategy's step: statistics and counters, all small."""
        norm = self.observation_norm
        return {
            "observation_norm": dict(norm.state_dict()) if norm is not None else None,
            "total_timesteps": self.total_timesteps,
            "total_episodes": self.total_episodes,
            "max_steps": self.max_steps,
            "seconds": self.seconds,
        }

    def load_progress_dict(self, progress: dict[str, Any]) -> None:
        """Continue from `progress_dict()`."""
        if self.observation_norm is not None:
            self.observation_norm.load_state_dict(progress["observation_norm"])
        self.total_timesteps = progress["total_timesteps"]
        self.total_episodes = progress["total_episodes"]
        self.max_steps = progress["max_steps"]
        self.seconds = progress["seconds"]


def _bits(result: EpisodeResult) -> tuple[float, int, bytes]:
    """Return all that an episode tells of itself, to be compared."""
    return result.return_, result.length, b"" if result.moments is None else result.moments.tobytes()


def centre_metrics(episodes: list[EpisodeResult]) -> dict[str, float]:
    """Return the metrics of the centre's episodes; none where there are none, never NaN."""
    finite = [result for result in episodes if np.isfinite(result.return_)]
    if not finite:
        return {}
    returns = [result.return_ for result in finite]
    return {
        "eval/mean_reward": float(np.mean(returns)),
        "eval/std_reward": float(np.std(returns)),
        "eval/mean_ep_length": float(np.mean([result.length for result in finite])),
    }
