import itertools

import gymnasium as gym
import numpy as np
import pytest
import torch
from helpers import Stepper

from torch_es import ES, EpisodeRules, mlp
from torch_es.envs import ActionRepeat
from torch_es.seeding import derive_seed
from torch_es.types import Task


class Walk(gym.Env):
    """Pays 1 a step; ends by itself after `length` steps, or after so many as the seed says, or never."""

    observation_space = gym.spaces.Box(-1, 1, (2,))
    action_space = gym.spaces.Box(-1, 1, (1,))

    def __init__(self, length=None, end="terminated"):
        self._length, self._end = length, end

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._left = self.np_random.integers(1, 21) if self._length == "drawn" else self._length or 10**9
        return np.array([0.5, self._left / 20]).clip(-1, 1), {}

    def step(self, action):
        self._left -= 1
        over = self._left == 0
        last = over and self._end == "terminated", over and self._end == "truncated"
        return np.array([0.5, min(1, self._left / 20)]), 1.0, *last, {}


def drawn():
    return Walk("drawn")


def trainer(env, rules=EpisodeRules(), num_workers=0, **options):  # noqa: B008 - frozen
    options = {"num_pairs": 4, "eval_every": 0, "seed": 3, **options}
    return ES(mlp(2, 1, (4,), output_scale=1.0), env, rules=rules, num_workers=num_workers, **options)


def generation(es):
    return es.trainer.run_generation(es.evaluator())


@pytest.mark.parametrize("num_workers", [0, 1])
def test_fifty_episodes_of_three_steps_are_fifty_of_three_steps(num_workers):
    """F45: no mode of resetting eats or adds a step."""
    with trainer(lambda: Walk(3), num_workers=num_workers, num_pairs=25, num_lanes=4) as es:
        metrics = generation(es)
    assert metrics["rollout/ep_rew_min"] == metrics["rollout/ep_rew_max"] == 3.0
    assert metrics["rollout/ep_len_mean"] == 3.0
    assert metrics["global_step"] == 150
    assert (metrics["rollout/terminated"], metrics["rollout/truncated"]) == (50, 0)


@pytest.mark.parametrize(
    ("env", "cap", "length", "terminated"),
    [
        (lambda: Walk(), 7, 7, False),  # never ends
        (lambda: Walk(5, "truncated"), 7, 5, False),
        (lambda: Walk(5, "terminated"), 7, 5, True),
        (lambda: Walk(7, "terminated"), 7, 7, True),  # ends by itself in the last step that it has
        (lambda: gym.wrappers.TimeLimit(Walk(), 4), 7, 4, False),
    ],
)
def test_what_ended_an_episode_is_counted_apart(env, cap, length, terminated):
    """F46."""
    with trainer(env, EpisodeRules(max_steps=cap)) as es:
        metrics = generation(es)
        (result, *_) = es.evaluate(2)
    assert metrics["rollout/ep_len_mean"] == length
    assert metrics["global_step"] == 8 * length
    assert (metrics["rollout/terminated"], metrics["rollout/truncated"]) == ((8, 0) if terminated else (0, 8))
    assert (result.length, result.truncated) == (length, not terminated)  # a number caps the centre too


def test_steps_of_random_lengths_are_counted_exactly():
    with trainer(drawn, EpisodeRules(max_steps=12), num_pairs=200) as es:
        metrics = generation(es)
    law = np.random.default_rng
    lengths = [
        law(derive_seed("environment", 3, 0, pair, 0)).integers(1, 21) for pair in range(200) for _ in (1, -1)
    ]  # gymnasium's generator is numpy's default
    assert metrics["global_step"] == sum(min(12, length) for length in lengths)
    assert metrics["rollout/truncated"] == sum(length > 12 for length in lengths)
    assert metrics["rollout/terminated"] == sum(length <= 12 for length in lengths)


def episodes(*lengths, capped=()):
    return np.array(lengths), np.isin(np.arange(len(lengths)), capped)


def test_the_cap_at_a_multiple_of_the_mean_length():
    rules = EpisodeRules(max_steps="mean:2")
    assert rules.first_cap is None
    assert rules.next_cap(None, *episodes(10, 20, 60)) == 60
    assert rules.next_cap(60, *episodes(60, 60, 30)) == 100
    assert EpisodeRules(max_steps="mean:1.5").next_cap(None, *episodes(1, 2)) == 2


def test_the_cap_of_the_released_code():
    # golden: openai/evolution-strategies-starter es.py, tslimit = int(ratio * tslimit) once the share is reached
    rules = EpisodeRules(max_steps="adaptive:50,0.5,1.5")
    assert rules.first_cap == 50
    assert rules.next_cap(50, *episodes(50, 20, 30, 40, capped=[0])) == 50
    assert rules.next_cap(50, *episodes(50, 50, 30, 40, capped=[0, 1])) == 75
    assert rules.next_cap(50, *episodes(50, 50, 30, 40)) == 50  # ended by themselves, in the very last step
    assert EpisodeRules(max_steps="adaptive:2,0.5,1.1").next_cap(2, *episodes(2, capped=[0])) == 3


def test_a_cap_of_the_members_alone():
    rules = EpisodeRules(max_steps="members:20")
    assert (rules.first_cap, rules.fixed_cap) == (20, None)
    assert rules.next_cap(20, *episodes(20, 20, capped=[0, 1])) == 20
    with trainer(lambda: Walk(100), rules) as es:
        assert es.evaluate(1)[0].length == 100
        assert [generation(es)["rollout/ep_len_mean"] for _ in range(2)] == [20, 20]


def test_a_cap_holds_for_members_not_for_the_centre_and_follows_the_rule():
    with trainer(lambda: Walk(100), EpisodeRules(max_steps="adaptive:10,0.5,2")) as es:
        assert es.evaluate(1)[0].length == 100
        rows = [generation(es) for _ in range(5)]
    assert [row["rollout/ep_len_mean"] for row in rows] == [10, 20, 40, 80, 100]
    assert [row["rollout/max_ep_length"] for row in rows] == [10, 20, 40, 80, 160]
    assert [row["rollout/truncated"] for row in rows] == [8, 8, 8, 8, 0]


@pytest.mark.parametrize("max_steps", ["mean:1.2", "adaptive:3,0.2,1.5"])
def test_caps_follow_from_the_seed_whatever_the_workers_and_after_loading(max_steps, tmp_path):
    options = {"rules": EpisodeRules(max_steps=max_steps), "sigma": 0.1}

    def played(es, generations):
        return [(es.trainer.max_steps, generation(es)["global_step"]) for _ in range(generations)]

    with trainer(drawn, num_workers=0, **options) as straight:
        known, theta = played(straight, 6), straight.strategy.theta.clone()
    assert len({cap for cap, _ in known}) > 2
    with trainer(drawn, num_workers=1, num_lanes=2, **options) as first:
        assert played(first, 3) == known[:3]
        first.save(tmp_path / "half")
    with ES.load(tmp_path / "half", mlp(2, 1, (4,)), drawn, num_workers=0) as second:
        assert second.trainer.rules == options["rules"]
        assert played(second, 3) == known[3:]
        assert torch.equal(second.strategy.theta, theta)


def test_the_strategy_is_not_paid_for_staying_alive():
    with trainer(drawn, EpisodeRules(reward_shift=1.0, seeds="independent")) as es:
        theta = es.strategy.theta.clone()
        metrics = generation(es)
        assert torch.equal(es.strategy.theta, theta)  # every fitness is 0, and ties move nothing
    assert metrics["rollout/ep_rew_mean"] == metrics["rollout/ep_len_mean"] > 1
    with trainer(drawn, EpisodeRules(seeds="independent")) as es:
        generation(es)
        assert not torch.equal(es.strategy.theta, theta)


@pytest.mark.parametrize(
    ("seeds", "shared"),
    [
        ("pair", lambda a, b: (a[0], a[1] // 2) == (b[0], b[1] // 2)),
        ("generation", lambda a, b: a[0] == b[0]),
        ("fixed", lambda a, b: True),
        ("independent", lambda a, b: a == b),
    ],
)
def test_who_plays_in_the_same_world(seeds, shared):
    rules = EpisodeRules(seeds=seeds)
    members = list(itertools.product(range(3), range(6)))
    tasks = [Task(g, m, episode, rules.world(m // 2, m)) for g, m in members for episode in range(2)]
    for a, b in itertools.combinations(tasks, 2):
        same = rules.environment_seed(5, a) == rules.environment_seed(5, b)
        assert same == (shared(a[:2], b[:2]) and a.episode == b.episode)
    centre = {rules.environment_seed(5, Task(g, -1, e)) for g in range(3) for e in range(3)}
    assert len(centre) == 9
    assert not centre & {rules.environment_seed(5, task) for task in tasks}
    assert rules.environment_seed(6, tasks[0]) != rules.environment_seed(5, tasks[0])


def test_members_play_several_episodes_and_are_worth_their_mean():
    rules = EpisodeRules(per_member=3)
    with trainer(drawn, rules, num_pairs=5, min_episodes=40) as es:
        metrics = generation(es)
    lengths = np.array(
        [
            [np.random.default_rng(rules.environment_seed(3, Task(0, 2 * p, e, p))).integers(1, 21) for e in range(3)]
            for p in range(7)
        ]
    )
    assert metrics["es/num_pairs"] == 7  # 2 * 3 * 7 is the first to reach 40
    assert metrics["time/total_episodes"] == 42
    assert metrics["global_step"] == 2 * lengths.sum()
    assert metrics["rollout/ep_rew_max"] == lengths.mean(1).max()
    assert metrics["rollout/ep_rew_min"] == lengths.mean(1).min()


def test_actions_are_repeated_and_rewards_summed_until_the_end():
    with trainer(lambda: ActionRepeat(Walk(10), 4)) as es:
        metrics = generation(es)
    assert metrics["rollout/ep_rew_mean"] == 10
    assert metrics["rollout/ep_len_mean"] == 3
    with trainer(lambda: ActionRepeat(gym.wrappers.TimeLimit(Walk(), 10), 4)) as es:
        assert generation(es)["rollout/truncated"] == 8


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"max_steps": 0}, ValueError, "`max_steps` must be at least 1, got 0"),
        ({"max_steps": 2.5}, TypeError, "`max_steps` must be a whole number"),
        ({"max_steps": "mean:1"}, ValueError, "mean:R with R above 1, .*; got 'mean:1'"),
        ({"max_steps": "mean"}, ValueError, "got 'mean'"),
        ({"max_steps": "adaptive:10,2,2"}, ValueError, r"a threshold in \(0, 1\] .* got 'adaptive:10,2,2'"),
        ({"max_steps": "adaptive:10"}, ValueError, "got 'adaptive:10'"),
        ({"max_steps": "members:0"}, ValueError, "got 'members:0'"),
        ({"reward_shift": float("nan")}, ValueError, "`reward_shift` must be a finite number, got nan"),
        ({"reward_shift": "1"}, TypeError, "`reward_shift` must be a number, got a str"),
        ({"max_steps": "mean:inf"}, ValueError, "`max_steps` must be a number, members:N, mean:R"),
        ({"max_steps": "adaptive:5,0.1,inf"}, ValueError, "`max_steps` must be a number, members:N, mean:R"),
        ({"seeds": "pairs"}, ValueError, "`seeds` must be one of .*; got 'pairs'. Did you mean `pair`"),
        ({"per_member": 0}, ValueError, "`per_member` must be at least 1, got 0"),
    ],
)
def test_bad_rules_are_refused(options, kind, message):
    with pytest.raises(kind, match=message):
        EpisodeRules(**options)


def test_bad_repeats_are_refused():
    with pytest.raises(ValueError, match="`times` must be at least 1, got 0"):
        ActionRepeat(Walk(), 0)


def test_a_whole_float_is_a_count_of_episodes():
    assert EpisodeRules(per_member=2.0) == EpisodeRules(per_member=2)
    assert isinstance(EpisodeRules(per_member=2.0).per_member, int)


@pytest.mark.parametrize("times", [1, 2, 4])
def test_the_bonus_for_staying_alive_is_taken_from_every_step_of_a_repeated_action(times):
    class Alive(Stepper):
        def step(self, action):
            observation, _, terminated, truncated, info = super().step(action)
            return observation, 1.0, terminated, truncated, info

    rules = EpisodeRules(reward_shift=1)
    es = ES(mlp(3, 1, (4,)), lambda: ActionRepeat(Alive(length=8), times), rules=rules, num_pairs=2, num_workers=0)
    generation(es)
    assert not es.trainer.played.outcome.fitness.any()
