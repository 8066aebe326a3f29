"""Training beside bare `env.step` on the very actions that training took, and two workers beside one.

Training is a pure function of its seed, so a recording pass (serial, not timed) plays the same generations first and
keeps every action; the timed training then takes those same actions again, bit for bit, and the bare side replays them
without a policy: whole episodes one after another in as many processes as training has workers, on the environment with
its wrappers taken off. Timed training is all that a run does: episodes, statistics, gradient, step, metrics on disk.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from pairs import Row, Side, Team, alternate

from torch_es import ES, mlp
from torch_es.envs import bare, env_factory
from torch_es.loggers import JsonlLogger

WORKERS = 2


class Case(NamedTuple):
    """A task of the benchmark; `generations` of `num_pairs` pairs are timed at a time."""

    env: str
    hidden: tuple[int, ...]
    num_pairs: int
    generations: int
    target: float
    rank: int | None = None  # of the noise


CASES = (
    Case("HalfCheetah-v5", (64, 64), 64, 1, 0.88),
    Case("Hopper-v5", (64, 64), 256, 1, 0.88),
    Case("Humanoid-v5", (256, 256), 256, 2, 0.93),
    Case("InvertedPendulum-v5", (64, 64), 256, 1, 0.60),
)


class Recorder(gym.Wrapper[Any, Any, Any, Any]):
    """Keeps the seed and the actions of every episode, by seed."""

    def __init__(self, env: gym.Env[Any, Any], episodes: list[tuple[int, list[Any]]]) -> None:
        super().__init__(env)
        self.episodes = episodes

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.actions: list[Any] = []
        self.episodes.append((seed or 0, self.actions))
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> Any:
        self.actions.append(np.array(action))
        return self.env.step(action)


def trainer(case: Case, env: Any, num_workers: int) -> ES:
    """Return the trainer of a case."""
    probe = gym.make(case.env)
    inputs, outputs = probe.observation_space.shape[0], probe.action_space.shape[0]
    policy = mlp(inputs, outputs, hidden=case.hidden, seed=0)
    options = {"num_pairs": case.num_pairs, "sigma": 0.02, "rank": case.rank, "eval_every": 0}
    return ES(policy, env, num_workers=num_workers, **options)


def train(es: ES, generations: int, log: JsonlLogger | None) -> tuple[int, float]:
    """Play generations; return the steps and the seconds, all included."""
    steps, start = es.trainer.total_timesteps, time.perf_counter()
    for _ in range(generations):
        metrics = es.trainer.run_generation(es.evaluator())
        if log is not None:
            log.log(metrics)
    return es.trainer.total_timesteps - steps, time.perf_counter() - start


def replay(env_id: str, episodes: list[tuple[int, Any]]) -> Callable[[], None]:
    """Return a function that steps a bare environment through recorded episodes."""
    env = bare(gym.make(env_id))[0]

    def play() -> None:
        for seed, actions in episodes:
            env.reset(seed=seed)
            for action in actions:
                env.step(action)

    return play


class BareReplay:
    """The bare side: processes that replay one span of generations."""

    def __init__(self, env_id: str, episodes: list[tuple[int, list[Any]]]) -> None:
        self.steps = sum(len(actions) for _, actions in episodes)
        shares: list[list[tuple[int, Any]]] = [[] for _ in range(WORKERS)]
        for seed, actions in sorted(episodes, key=lambda e: -len(e[1])):  # the longest first to the least loaded
            min(shares, key=lambda s: sum(len(a) for _, a in s)).append((seed, np.stack(actions)))
        self.team = Team([partial(replay, env_id, share) for share in shares])

    def __call__(self) -> float:
        """Return steps/s."""
        return self.steps / self.team.seconds()


def recorded(case: Case, spans: int) -> list[list[tuple[int, list[Any]]]]:
    """Return the episodes of a warm-up span, and of `spans` spans of generations."""
    episodes: list[tuple[int, list[Any]]] = []
    found = []
    with trainer(case, lambda: Recorder(gym.make(case.env), episodes), 0) as es:
        for generations in [case.generations] * (spans + 1):
            first = len(episodes)
            train(es, generations, None)
            found.append(episodes[first:])
    return found


def rows(pairs: int) -> Iterator[Row]:
    """Yield the share of the physics for each case."""
    for case in CASES:
        yield share(case, pairs)


def share(case: Case, pairs: int) -> Row:
    """Return training beside the replay of its actions."""
    with trainer(case, case.env, WORKERS) as es, tempfile.TemporaryDirectory() as folder:
        log = JsonlLogger()
        log.start({}, Path(folder))

        def sides() -> Iterator[tuple[Side, Side]]:
            for i, episodes in enumerate(recorded(case, pairs)):
                bare_side = BareReplay(case.env, episodes)

                # in the warm-up the recording also holds the episodes that the trainer asks for twice
                def training(expected: int = bare_side.steps if i else 0) -> float:
                    steps, seconds = train(es, case.generations, log)
                    if expected and steps != expected:
                        raise RuntimeError(f"training took {steps} steps, the recording {expected}")
                    return steps / seconds

                if i == 0:  # start-up and first touch of both
                    training(), bare_side()
                else:
                    yield training, bare_side
                bare_side.team.close()

        noise = "" if case.rank is None else f"/rank {case.rank}"
        name = f"physics/{case.env}/{'-'.join(map(str, case.hidden))}{noise}/{WORKERS} workers"
        return alternate(name, sides(), "steps/s", f">= {case.target}")


def step_rows(pairs: int) -> Iterator[Row]:
    """Yield the tasks that step in less Python, beside gymnasium's own, in one process and without a policy."""
    for env_id in ("Hopper-v5", "HalfCheetah-v5", "Walker2d-v5", "Ant-v5", "Humanoid-v5"):
        sides: tuple[Side, Side] = (stepping(env_factory(env_id)()), stepping(gym.make(env_id)))
        yield alternate(f"steps/{env_id}", [sides] * pairs, "steps/s", "")


def stepping(env: gym.Env[Any, Any]) -> Side:
    """Return what plays episodes of 50 random steps, and says how many steps a second."""
    own, space = bare(env)[0], env.action_space
    actions = list(np.random.default_rng(0).uniform(space.low, space.high, (50, *space.shape)).astype(np.float32))

    def rate() -> float:
        start = time.perf_counter()
        for seed in range(200):
            own.reset(seed=seed)
            for action in actions:
                own.step(action)
        return 200 * len(actions) / (time.perf_counter() - start)

    return rate


def scaling_rows(pairs: int) -> Iterator[Row]:
    """Yield two workers beside one."""
    case = CASES[0]
    with trainer(case, case.env, 2) as two, trainer(case, case.env, 1) as one:

        def rate(es: ES) -> float:
            steps, seconds = train(es, 1, None)
            return steps / seconds

        rate(two), rate(one)  # start-up
        sides = [(partial(rate, two), partial(rate, one))] * pairs
        yield alternate(f"scaling/{case.env}/2 workers over 1", sides, "steps/s", ">= 1.9")
