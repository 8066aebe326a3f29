"""F39 to F46 and F49: numbers that are none, and episodes that do not end."""

from functools import partial

import gymnasium as gym
import numpy as np
import pytest
import torch
from harness import ADAM, Faulty, bits, make, until
from helpers import Stepper, evaluator, noise_of, pairs, snapshot, stepper_policy

from torch_es import OpenAIES
from torch_es.envs.rules import EpisodeRules
from torch_es.errors import NonFiniteError
from torch_es.nn import ObservationNorm
from torch_es.nn.moments import Moments
from torch_es.runs import checkpoint
from torch_es.search.shaping import SHAPINGS, centered_ranks
from torch_es.seeding import derive_seed
from torch_es.types import Task

RETURNS = np.array([[3.0, 1.0], [np.nan, 9.0], [2.0, 5.0], [0.0, 4.0]])


class Rewarding(Stepper):
    """Pays `reward` in the environments of one seed, and in all without one."""

    def __init__(self, reward, seed=None, length=5):
        super().__init__(length)
        self.reward, self.only = reward, seed

    def reset(self, *, seed=None, options=None):
        self.seed = seed
        return super().reset(seed=seed, options=options)

    def step(self, action):
        observation, reward, *rest = super().step(action)
        return observation, self.reward if self.only in (None, self.seed) else reward, *rest


PAIR_2 = derive_seed("environment", 0, 0, 2, 0)


def test_F39_a_pair_with_nan_is_dropped_and_the_rest_renormalised():
    ranks = np.array([[3, 1], [2, 5], [0, 4]]) / 5 - 0.5  # by hand: 0 < 1 < 2 < 3 < 4 < 5
    np.testing.assert_allclose(centered_ranks(RETURNS[[0, 2, 3]]), ranks)
    strategy = OpenAIES(torch.zeros(3), partial(torch.optim.SGD, lr=1.0), sigma=0.1, num_pairs=4)
    plan, kept = strategy.plan(RETURNS)
    assert kept.tolist() == [True, False, True, True]
    np.testing.assert_allclose(plan.linear, ranks[:, 0] - ranks[:, 1])
    eps = noise_of(strategy)
    strategy.tell(RETURNS)
    expected = ((ranks[:, 0] - ranks[:, 1]) @ eps[[0, 2, 3]]) / (2 * 3 * 0.1)
    np.testing.assert_allclose(strategy.theta.numpy(), expected, rtol=1e-5)


def test_F39_it_is_counted_or_stops_the_run_by_option():
    seen = []
    make(partial(Rewarding, np.nan, PAIR_2)).learn(10**9, callback=lambda m: seen.append(m) or len(seen) < 2)
    assert [(m["es/dropped_pairs"], m["es/nonfinite_returns"]) for m in seen] == [(1.0, 2.0), (0.0, 0.0)]
    with pytest.raises(NonFiniteError, match=rf"generation 0 member 4 \(environment seed {PAIR_2}\): 1 of 4 pairs"):
        make(partial(Rewarding, np.nan, PAIR_2), non_finite="raise").learn(100)


@pytest.mark.parametrize("reward", [np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("shaping", SHAPINGS)
def test_F40_huge_returns_leave_finite_parameters(reward, shaping):
    es = make(partial(Rewarding, reward, PAIR_2), shaping=shaping)
    before = es.strategy.theta.clone()
    try:
        es.learn(10**9, callback=until(1))
    except NonFiniteError:  # the plain estimator on 1e300 has no finite step
        assert shaping == "identity"
        assert torch.equal(es.strategy.theta, before)
    assert torch.isfinite(es.strategy.theta).all()


def test_F40_a_generation_of_nan_changes_nothing():
    es = make(partial(Rewarding, np.nan))
    before = bits(es)
    with pytest.raises(NonFiniteError, match="4 of 4 pairs have a non-finite return"):
        es.learn(100)
    assert bits(es) == before


def test_F41_a_nan_observation_leaves_the_statistics_alone_and_is_told_once(caplog):
    es = make(partial(Faulty, "nan_observation", seed=PAIR_2), num_pairs=5).learn(10**9, callback=until(2))
    assert es.policy.observation_norm.count == (8 + 10) * 5  # all but the first generation's pair 2
    assert torch.isfinite(es.policy.observation_norm.m2).all()
    (record,) = caplog.records
    assert "Element 2 of an observation was NaN or infinite, first in generation 0 member 4" in record.message


@pytest.mark.parametrize("optimizer", [ADAM, partial(torch.optim.SGD, lr=1e38)])
def test_F42_an_absurd_step_is_not_taken(optimizer, tmp_path):
    absurd = partial(optimizer, lr=1e38)
    es = make(optimizer=absurd)
    before = es.strategy.theta.clone()
    weight = es.network[1].weight.detach().clone()
    with pytest.raises(NonFiniteError, match="lower the learning rate"):
        es.learn(10**9, callback=until(3), folder=tmp_path)
    assert torch.equal(es.strategy.theta, before)
    assert torch.equal(es.network[1].weight, weight)
    assert not es.strategy.state_dict()["optimizer"]["state"]  # the optimiser is where it was, too
    assert checkpoint.newest(tmp_path / "checkpoints")["generation"] == 0


def test_F42_what_is_not_finite_is_not_saved(tmp_path):
    es = make()
    es.save(tmp_path / "c")
    es.strategy.theta[3] = np.inf
    with pytest.raises(NonFiniteError, match="`strategy/theta` holds NaN or infinity and is not saved"):
        es.save(tmp_path / "c")
    assert torch.isfinite(checkpoint.load(tmp_path / "c")["strategy"]["theta"]).all()


@pytest.mark.parametrize("shaping", [name for name in SHAPINGS if name != "identity"])
def test_F43_equal_returns_move_nothing(shaping):
    es = make(partial(Rewarding, 1.0), shaping=shaping, optimizer=partial(torch.optim.SGD, lr=1.0))
    before = es.strategy.theta.clone()
    es.learn(10**9, callback=until(2))
    assert torch.equal(es.strategy.theta, before)


def test_F43_ties_share_their_mean_rank():
    np.testing.assert_array_equal(
        centered_ranks(np.array([[1.0, 2.0], [2.0, 5.0]])), np.array([[0, 1.5], [1.5, 3]]) / 3 - 0.5
    )


def test_F44_statistics_of_a_billion_observations_still_move():
    norm = ObservationNorm(3, limit=5.0, floor=0.1)
    mean = np.array([100.0, -3.0, 7.0])
    norm.update(Moments(1e9, mean, np.array([1e9, 1e-15, 0.0])))
    norm.update(Moments.of(np.array([[200.0, -3.0, 7.0]])))
    assert norm.mean[0] > 100.0
    assert abs(float(norm.mean[0]) - (100 + 100 / (1e9 + 1))) < 1e-12
    out = norm(torch.tensor([1e9, -3.0, 7.0]))
    assert out.tolist() == [5.0, 0.0, 0.0]


class Three(gym.Env):
    """Three steps, a reward of one each."""

    observation_space, action_space = Stepper.observation_space, Stepper.action_space

    def reset(self, *, seed=None, options=None):
        self.at = 0
        return np.zeros(3), {}

    def step(self, action):
        self.at += 1
        return np.full(3, self.at), 1.0, self.at == 3, False, {}


@pytest.mark.parametrize(("num_workers", "num_lanes"), [(0, 1), (0, 4), (0, 16), (1, 5)])
def test_F45_every_episode_is_whole(num_workers, num_lanes, tried):
    policy = stepper_policy()
    running = evaluator(policy, Three, num_workers, num_lanes)
    results = list(running.evaluate(snapshot(policy), pairs(25)))
    running.close()
    assert [(r.return_, r.length, r.truncated) for r in results] == [(3.0, 3, False)] * 50
    tried(50)


class Endless(Three):
    def __init__(self, truncates_at=None):
        self.limit = truncates_at

    def step(self, action):
        self.at += 1
        return np.zeros(3), 1.0, False, self.limit is not None and self.at >= self.limit, {}


def test_F46_episodes_without_an_end_are_capped_and_counted(tried):
    seen = []
    for factory, length, truncated in (
        (partial(Endless, None), 7, 8),  # our cap
        (partial(Endless, 4), 4, 8),  # its own
        (lambda: gym.wrappers.TimeLimit(Endless(), 5), 5, 8),
        (Three, 3, 0),
    ):
        es = make(factory, rules=EpisodeRules(7), eval_every=0).learn(1, callback=seen.append)
        assert seen[-1]["rollout/ep_len_mean"] == length
        assert (seen[-1]["rollout/truncated"], seen[-1]["rollout/terminated"]) == (truncated, 8 - truncated)
        assert es.trainer.total_timesteps == 8 * length
        tried()


@pytest.mark.parametrize("seed", [0, 2**32 - 1, 2**32])
def test_F49_every_seed_is_a_seed(seed):
    first, again = (bits(make(seed=seed).learn(10**9, callback=until(2))) for _ in range(2))
    assert first == again
    other = bits(make(seed=seed + 1).learn(10**9, callback=until(2)))
    assert first["/strategy/theta"] != other["/strategy/theta"]
    assert EpisodeRules().environment_seed(seed, Task(0, 0)) != EpisodeRules().environment_seed(seed + 1, Task(0, 0))
