"""Training beside evotorch's GymNE and sb3-contrib's ARS: same environment, network, population and two processes.

Each from its own package as its documentation says to use it, with observation normalisation on. One generation of
each at a time; steps/s are the environment steps that each side counts itself.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

from pairs import Row, Side, alternate
from physics import WORKERS, Case, train, trainer

from torch_es import mlp

NUM_PAIRS = 64
SIGMA = 0.02
SIZES = {"HalfCheetah-v5": (17, 6), "Hopper-v5": (11, 3)}


def rows(pairs: int) -> Iterator[Row]:
    """Yield training beside each peer."""
    yield beside("evotorch GymNE", evotorch_mlp, "HalfCheetah-v5", pairs, 4.0)
    yield beside("evotorch GymNE", evotorch_mlp, "Hopper-v5", pairs, 3.0)
    yield beside("sb3-contrib ARS AsyncEval", ars_side, "HalfCheetah-v5", pairs, 2.5)


def beside(peer: str, make: Any, env: str, pairs: int, target: float) -> Row:
    """Return one comparison."""
    case = Case(env, (64, 64), NUM_PAIRS, 1, target)
    other, close = make(env)
    try:
        with trainer(case, env, WORKERS) as es:

            def ours() -> float:
                steps, seconds = train(es, 1, None)
                return steps / seconds

            ours(), other()  # start-up
            sides: list[tuple[Side, Side]] = [(ours, other)] * pairs
            return alternate(f"peers/{peer}/{env}/{WORKERS} workers", sides, "steps/s", f">= {target}")
    finally:
        close()


def evotorch_mlp(env: str) -> tuple[Side, Any]:
    """The same network on a MuJoCo task."""
    # GymNE normalises by itself; torch_es takes its layer out of the network, and normalises all lanes at once
    network = partial(mlp, *SIZES[env], hidden=(64, 64), seed=0, normalize_observations=False)
    return evotorch_side(env, network, observation_normalization=True)


def evotorch_side(env: Any, network: Any, num_pairs: int = NUM_PAIRS, **options: Any) -> tuple[Side, Any]:
    """One `step()` of PGPE with fixed sigma, mirrored and rank-shaped, on two Ray actors.

    Args:
        env: An id or what makes the environment.
        network: What makes the network.
        num_pairs: Half the population.
        options: For `GymNE`.
    """
    import ray
    from evotorch.algorithms import PGPE
    from evotorch.neuroevolution import GymNE

    logging.getLogger("evotorch").setLevel(logging.ERROR)
    problem = GymNE(env, network, num_actors=WORKERS, **options)
    searcher = PGPE(
        problem,
        popsize=2 * num_pairs,
        center_learning_rate=0.01,
        stdev_learning_rate=0.0,
        stdev_init=SIGMA,
        optimizer="adam",
        ranking_method="centered",
    )

    def side() -> float:
        before = searcher.status.get("total_interaction_count", 0) if searcher.step_count else 0
        start = time.perf_counter()
        searcher.step()
        return (searcher.status["total_interaction_count"] - before) / (time.perf_counter() - start)

    return side, ray.shutdown


def ars_side(env: str) -> tuple[Side, Any]:
    """One update of ARS, 64 directions, as sb3-contrib's documentation runs it with AsyncEval."""
    import torch
    from sb3_contrib import ARS
    from sb3_contrib.common.vec_env import AsyncEval
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import VecNormalize

    def make() -> Any:
        torch.set_num_threads(1)  # in the worker: two threads each would halve its speed on two cores
        return VecNormalize(make_vec_env(env, n_envs=1))

    model = ARS(
        "MlpPolicy",
        make(),
        n_delta=NUM_PAIRS,
        delta_std=SIGMA,
        zero_policy=False,
        policy_kwargs={"net_arch": [64, 64], "activation_fn": torch.nn.Tanh},
    )
    evaluator = AsyncEval([make] * WORKERS, model.policy)

    def side() -> float:
        before, start = model.num_timesteps, time.perf_counter()
        evaluator.closed = True  # else learn() ends the workers when it returns
        model.learn(1, async_eval=evaluator, reset_num_timesteps=False, log_interval=None)
        evaluator.closed = False
        return (model.num_timesteps - before) / (time.perf_counter() - start)

    return side, evaluator.close
