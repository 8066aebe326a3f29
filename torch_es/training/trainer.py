"""Algorithm 2 of Salimans et al. 2017, one generation at a time."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from torch_es.checks import check_count
from torch_es.errors import NonFiniteError
from torch_es.evaluators import Evaluator
from torch_es.rollout import Objective, Snapshot
from torch_es.search import Population, Strategy
from torch_es.training.generation import Generation
from torch_es.types import CENTRE, EpisodeResult, Task

LONG = 1000  # longest episode, in steps, that is played twice to see whether it is the same

_COUNTERS = ("total_timesteps", "total_episodes", "max_steps", "seconds")
_log = logging.getLogger(__name__)


class Trainer:
    """Ask, evaluate, tell; merge the statistics; report.

    Args:
        strategy: Holds the centre.
        objective: What is evaluated. Its statistics are frozen while a generation runs, then merged in member order.
        min_episodes: Of a generation.
        min_timesteps: Of a generation.
        eval_every: Evaluate the centre once in this many generations, among the next one's episodes; 0 never does.
        eval_episodes: Episodes in each of these evaluations.
    """

    def __init__(
        self,
        strategy: Strategy,
        objective: Objective,
        min_episodes: int = 0,
        min_timesteps: int = 0,
        eval_every: int = 10,
        eval_episodes: int = 4,
    ) -> None:
        self.strategy = strategy
        self.objective = objective
        self.rules = objective.rules
        self.max_steps = self.rules.first_cap
        self.min_episodes = check_count("min_episodes", min_episodes, minimum=0)
        self.min_timesteps = check_count("min_timesteps", min_timesteps, minimum=0)
        self.eval_every = check_count("eval_every", eval_every, minimum=0)
        self.eval_episodes = check_count("eval_episodes", eval_episodes)
        self.total_timesteps = 0
        self.total_episodes = 0
        self.seconds = 0.0
        self.played: Generation | None = None  # the last one
        self._warned = False  # of a NaN observation
        self.best: dict[str, Any] | None = None  # the centre that was best when evaluated

    def run_generation(self, evaluator: Evaluator) -> dict[str, float]:
        """Play one generation and move the centre; returns its metrics."""
        start = time.perf_counter()
        population = self.strategy.ask()
        snapshot = self.snapshot(population)
        generation = Generation(
            population, self.rules, self.min_episodes, self.min_timesteps, self._evaluations(),
            self.objective.fitness, self.objective.members_per_call,
        )  # fmt: skip
        for result in evaluator.evaluate(snapshot, generation.next_tasks):
            generation.add(result)
        again = self._check_repeatable(evaluator, generation)  # F48a
        self._remember(generation, snapshot)  # before theta changes: that of a large module changes in place
        step = self._tell(generation, generation.score_sum if snapshot.searches_actions else evaluator.noise_sum)
        self._merge(generation)
        elapsed = time.perf_counter() - start
        self.played = generation  # F23
        self.total_timesteps += generation.steps
        self.total_episodes += generation.truncated.size
        self.seconds += elapsed
        metrics = self._report(generation, again, elapsed)
        self.max_steps = self.rules.next_cap(self.max_steps, generation.lengths, generation.truncated)
        return {**metrics, **step, **evaluator.metrics}

    def snapshot(self, population: Population | None = None) -> Snapshot:
        """Return what evaluations of the next generation depend on."""
        perturbation = (population or self.strategy.ask()).perturbation
        norm = self.objective.statistics
        statistics = None if norm is None else norm.scale
        return Snapshot(self.strategy.theta, perturbation, statistics, self.max_steps)

    def task(self, member: int, episode: int = 0) -> Task:
        """Return the task of a member, or of the centre, in the next generation."""
        size = self.strategy.ask().unit_size
        world = 0 if member == CENTRE else self.rules.world(member // size, member)
        return Task(self.strategy.generation, member, episode, world)

    def evaluate_centre(self, evaluator: Evaluator, episodes: int) -> list[EpisodeResult]:
        """Play noise-free episodes of the centre; training is not affected."""
        return self.play(evaluator, [self.task(CENTRE, i) for i in range(check_count("episodes", episodes))])

    def play(self, evaluator: Evaluator, tasks: Sequence[Task]) -> list[EpisodeResult]:
        """Play tasks of the next generation and return their results in that order; nothing is trained."""
        waiting = deque(tasks)
        results = {
            result.task: result
            for result in evaluator.evaluate(self.snapshot(), lambda: (waiting.popleft(),) if waiting else None)
        }
        return [results[task] for task in tasks]

    def _evaluations(self) -> int:
        due = self.eval_every and self.strategy.generation % self.eval_every == 0
        return self.eval_episodes if due else 0

    def _check_repeatable(self, evaluator: Evaluator, generation: Generation) -> int:
        """Play two episodes of the first generation again, and warn if they differ; return the steps that this took.

        A fitness function (a single step) may be random, and a long episode would cost more than the check is worth.
        """
        if self.played is not None:
            return 0
        first = [generation.result(number) for number in range(min(2, generation.returns.size))]
        first = [result for result in first if math.isfinite(result.return_) and 1 < result.length <= LONG]
        again = self.play(evaluator, [result.task for result in first])
        for one, other in zip(first, again, strict=True):
            if _bits(one) != _bits(other):
                _log.warning(
                    "%s gave %.6g in %d steps, and %.6g in %d steps when it was played again: the environment does not "
                    "follow from its seed, so neither will the run. `torch-es check-env` says where it differs.",
                    self.objective.task_name(one.task), one.return_, one.length, other.return_, other.length,
                )  # fmt: skip
                break
        return sum(result.length for result in again)

    def _tell(self, generation: Generation, summation: Callable[..., Any]) -> dict[str, float]:
        """Move the centre; if returns make that impossible, name the first of them."""
        try:
            return self.strategy.tell(generation.outcome, summation)
        except NonFiniteError as error:
            bad = np.flatnonzero(~np.isfinite(generation.returns))
            if not len(bad):
                raise
            raise NonFiniteError(f"{self.objective.task_name(generation.task(bad[0]))}: {error}") from error

    def _merge(self, generation: Generation) -> None:
        """Merge what the members saw into the statistics."""
        norm = self.objective.statistics
        if norm is None:
            return
        seen, bad = generation.seen(norm.moments.mean, norm.measured.numpy())
        if len(bad) and not self._warned:
            self._warned = True
            sums = generation.result(bad[0]).moments
            assert sums is not None
            elements = np.flatnonzero(~np.isfinite(sums[: len(sums) // 2]) & norm.measured.numpy())
            _log.warning(
                "Element %s of an observation was NaN or infinite, first in %s; the statistics leave such episodes "
                "out. Clip it in the environment, or give ObservationNorm a `measured` that is False for it.",
                ", ".join(map(str, elements)), self.objective.task_name(generation.task(bad[0])),
            )  # fmt: skip
        norm.update(seen)

    def _report(self, generation: Generation, again: int, seconds: float) -> dict[str, float]:
        returns, episodes = np.mean(generation.returns, axis=1), generation.returns.size
        finite = returns[np.isfinite(returns)]
        played = generation.steps + again + sum(result.length for result in generation.centre)
        with np.errstate(over="ignore"):  # returns may be near the largest number there is
            spread = float(finite.std())
        truncated, frames = float(generation.truncated.sum()), self.objective.frames_per_step * self.total_timesteps
        metrics = {
            "global_step": float(self.total_timesteps),
            "time/iterations": float(generation.number + 1),
            "time/total_timesteps": float(self.total_timesteps),
            "time/total_episodes": float(self.total_episodes),
            "time/time_elapsed": self.seconds,
            "time/fps": played / seconds,
            "rollout/ep_rew_mean": float(finite.mean()),
            "rollout/ep_rew_std": spread,
            "rollout/ep_rew_min": float(finite.min()),
            "rollout/ep_rew_max": float(finite.max()),
            "rollout/ep_len_mean": generation.steps / episodes,
            "rollout/terminated": episodes - truncated,
            "rollout/truncated": truncated,
            **({} if self.objective.frames_per_step == 1 else {"time/total_frames": float(frames)}),
            **({} if self.max_steps is None else {"rollout/max_ep_length": float(self.max_steps)}),
            "es/num_pairs": float(len(returns) / generation.unit_size),
            "es/nonfinite_returns": float(returns.size - finite.size),
            "es/dropped_pairs": float((~np.isfinite(returns.reshape(-1, generation.unit_size)).all(axis=1)).sum()),
        }
        return {**metrics, **centre_metrics(generation.centre)}

    def _remember(self, generation: Generation, snapshot: Snapshot) -> None:
        """Keep the centre that was just evaluated if it is the best so far."""
        mean = centre_metrics(generation.centre).get("eval/mean_reward")
        if mean is None or (self.best is not None and mean <= self.best["mean_reward"]):
            return
        statistics = self.progress_dict()["observation_norm"]
        self.best = {"generation": generation.number, "mean_reward": mean, "theta": snapshot.theta.clone()}
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
        self.strategy.move(self.best["theta"])
        if self.objective.statistics is not None:
            self.objective.statistics.load_state_dict(self.best["observation_norm"])

    def state_dict(self) -> dict[str, Any]:
        """Return all that the next generation depends on, the counters, and the best centre."""
        own = {"generation": self.strategy.generation, "strategy": self.strategy.state_dict(), "best": self.best}
        return {**own, **self.progress_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        self.strategy.load_state_dict(state["strategy"])
        self.best = state["best"]
        self.load_progress_dict(state)

    def progress_dict(self) -> dict[str, Any]:
        """Return what a generation changes besides the strategy: statistics and counters, all small."""
        norm = self.objective.statistics
        statistics = dict(norm.state_dict()) if norm is not None else None
        return {"observation_norm": statistics, **{name: getattr(self, name) for name in _COUNTERS}}

    def load_progress_dict(self, progress: dict[str, Any]) -> None:
        """Continue from `progress_dict()`."""
        if self.objective.statistics is not None:
            self.objective.statistics.load_state_dict(progress["observation_norm"])  # F29c
        for name in _COUNTERS:
            setattr(self, name, progress[name])


def _bits(result: EpisodeResult) -> tuple[float, int, bytes]:
    """Return everything that an episode reports, for comparison."""
    return result.return_, result.length, b"" if result.moments is None else result.moments.tobytes()


def centre_metrics(episodes: list[EpisodeResult]) -> dict[str, float]:
    """Return the metrics of the centre's episodes; none if there are no episodes, never NaN.

    A return that is not finite leaves no mean: that of the other episodes would say that all is well.
    """
    if not episodes:
        return {}
    returns = np.array([result.return_ for result in episodes])
    bad, length = np.count_nonzero(~np.isfinite(returns)), np.mean([result.length for result in episodes])
    if bad:
        return {"eval/nonfinite_returns": float(bad), "eval/mean_ep_length": float(length)}
    return {
        "eval/mean_reward": float(returns.mean()),
        "eval/std_reward": float(returns.std()),
        "eval/mean_ep_length": float(length),
    }
