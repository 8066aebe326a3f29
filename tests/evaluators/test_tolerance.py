"""Slow is not hung, and what never ends is named."""

import time
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
from helpers import Stepper
from walk import Walk

from torch_es import ES, mlp
from torch_es.evaluators import FaultTolerance, tolerance


class Slow(Stepper):
    """Every step answers, but an episode takes longer than the deadline."""

    def step(self, action):
        time.sleep(0.02)
        return super().step(action)


def test_a_slow_simulator_is_not_taken_for_one_that_hangs():
    with ES(mlp(3, 1), partial(Slow, 40), num_workers=1, num_lanes=4, tolerance=FaultTolerance(task_timeout=1.5)) as es:
        started = time.monotonic()
        assert len(es.evaluate(4)) == 4
        assert time.monotonic() - started > 2
        assert es.evaluator().restarts == 0


class Endless(gym.Env):
    observation_space = gym.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.zeros(1, np.float32), 1.0, False, False, {}


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_episode_that_never_ends_is_told_once_and_time_is_heeded(num_workers, monkeypatch, caplog, tmp_path):
    monkeypatch.setattr(tolerance, "ENDLESS", 500)
    with ES(mlp(1, 2), Endless, num_pairs=2, num_workers=num_workers, num_lanes=2) as es:
        es.evaluator()
        started = time.monotonic()
        es.learn(10, max_seconds=3.0, folder=tmp_path / "run")
        assert 3 <= time.monotonic() - started < 9
        assert es.strategy.generation == 0
        es.set_env(lambda: gym.wrappers.TimeLimit(Endless(), 5))
        assert es.learn(10, folder=tmp_path / "run", resume=True).strategy.generation == 1
    endless, over, equal = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert "steps without the end of an episode" in endless
    assert "EpisodeRules(max_steps=...)" in endless
    assert "`max_seconds` was over before a generation was whole" in over
    assert equal == "All members returned 5: this generation teaches nothing."


def test_a_generation_cut_off_by_time_is_left_out_and_played_again(tmp_path):
    def learn(seconds, steps, resume=False):
        with ES(mlp(3, 1, seed=0), Slow, num_pairs=2, num_workers=0, num_lanes=2, eval_every=0) as es:
            return es.learn(steps, max_seconds=seconds, folder=tmp_path / "run", resume=resume)

    cut = learn(2.5, 10**6)
    generations = cut.strategy.generation
    assert generations >= 1
    assert cut.trainer.total_timesteps == 20 * generations
    resumed = learn(60, 20 * generations + 1, resume=True)
    assert resumed.strategy.generation == generations + 1


def test_many_short_episodes_are_not_endless(monkeypatch, caplog):
    monkeypatch.setattr(tolerance, "ENDLESS", 50)
    with ES(mlp(1, 2), partial(Walk, 10), num_pairs=10, num_workers=0, num_lanes=1, eval_every=0) as es:
        es.learn(200)
    assert "without the end of an episode" not in caplog.text
