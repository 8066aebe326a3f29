from functools import partial

import gymnasium as gym
import numpy as np
from helpers import Stepper
from walk import Walk

from torch_es import ES, mlp
from torch_es.nn.moments import Moments
from torch_es.training import trainer
from torch_es.training.trainer import centre_metrics
from torch_es.types import CENTRE, EpisodeResult, Task


def make(num_workers, **options):
    options = {"num_pairs": 4, "sigma": 0.1, "eval_every": 2, **options}
    return ES(mlp(3, 1, (8,)), Stepper, num_workers=num_workers, num_lanes=3, **options)


def test_training_has_the_same_bits_for_any_number_of_workers():
    states = []
    for num_workers in (0, 3):  # and 2 in F30
        with make(num_workers) as es:
            es.learn(200)
            states.append(es)
    for other in states[1:]:
        assert states[0].strategy.theta.equal(other.strategy.theta)
        assert states[0].policy.observation_norm.m2.equal(other.policy.observation_norm.m2)
    assert states[0].policy.observation_norm.count == 200


def test_statistics_are_frozen_while_a_generation_runs():
    es = make(0)
    before = es.trainer.snapshot()
    es.trainer.run_generation(es.evaluator())
    after = es.trainer.snapshot()
    assert (before.statistics[0] == 0).all()
    assert (after.statistics[0] != 0).any()
    assert isinstance(es.policy.observation_norm.moments, Moments)


def test_statistics_are_those_of_all_observations_of_all_generations(monkeypatch):
    monkeypatch.setattr(trainer, "LONG", 0)  # no episode is played again
    seen = []

    class Wandering(gym.Env):
        observation_space = gym.spaces.Box(-np.inf, np.inf, (3,))
        action_space = gym.spaces.Box(-1, 1, (1,))

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.at, self.place = 0, self.np_random.normal(100.0, 5.0, 3)
            return self.place, {}

        def step(self, action):
            seen.append(self.place)  # the last observation of an episode is never acted on
            self.at, self.place = self.at + 1, self.place + self.np_random.normal(float(action[0]), 1.0, 3)
            return self.place, 0.0, self.at == 7, False, {}

    es = ES(mlp(3, 1, (8,), output_scale=1.0), Wandering, num_pairs=4, sigma=0.5, eval_every=0, num_workers=0)
    seen.clear()  # it was tried once
    es.learn(3 * 8 * 7)
    norm = es.policy.observation_norm
    assert (es.strategy.generation, norm.count, len(seen)) == (3, 168, 168)
    np.testing.assert_allclose(norm.mean, np.mean(seen, axis=0), rtol=1e-12)
    np.testing.assert_allclose(norm.m2, np.var(seen, axis=0) * 168, rtol=1e-9)


def test_evaluating_changes_nothing():
    es = make(0)
    es.learn(100)
    before = {k: v.clone() for k, v in es.policy.state_dict().items()}
    assert len(es.evaluate(5)) == 5
    assert [r.return_ for r in es.evaluate(3)] == [r.return_ for r in es.evaluate(3)]
    assert all(v.equal(es.policy.state_dict()[k]) for k, v in before.items())


def test_metrics_hold_no_nan_and_the_centre_only_when_played():
    rows = []
    make(0).learn(160, callback=rows.append)
    assert len(rows) == 4
    assert ["eval/mean_reward" in row for row in rows] == [True, False, True, False]
    assert all(np.isfinite(list(row.values())).all() for row in rows)


def test_a_centre_with_a_return_that_is_no_number_has_no_mean_and_is_not_the_best():
    good, bad = (EpisodeResult(Task(0, CENTRE, 0, 0), value, 3, False, None) for value in (5.0, float("nan")))
    assert centre_metrics([]) == {}
    assert centre_metrics([good, good])["eval/mean_reward"] == 5.0
    assert centre_metrics([good, bad]) == {"eval/nonfinite_returns": 1.0, "eval/mean_ep_length": 3.0}


def test_all_that_was_played_counts_as_speed():
    with ES(mlp(1, 2), partial(Walk, 10), num_pairs=2, num_workers=0, eval_every=1, eval_episodes=3) as es:
        rows = []
        es.learn(1, callback=rows.append)
    assert rows[0]["time/total_timesteps"] == 40
    assert (
        round(rows[0]["time/fps"] * rows[0]["time/time_elapsed"]) == 40 + 30 + 20
    )  # the centre's, and two played again
