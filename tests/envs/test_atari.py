import copy
import pickle
import re

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation
from helpers import pairs, snapshot

from torch_es import ES
from torch_es.cli import config
from torch_es.envs import env_factory
from torch_es.envs.atari import Atari
from torch_es.envs.rules import EpisodeRules
from torch_es.errors import MissingExtraError
from torch_es.evaluators import SerialEvaluator
from torch_es.policies import Policy, atari_cnn
from torch_es.rollout import EnvObjective

GAMES = re.findall(r"env\.id=(ALE/\S+)", (config.conf_dir() / "env" / "atari.yaml").read_text())


def plain_path(env_id, no_ops, frame_skip=4):
    """The same game by gymnasium's wrappers, having waited `no_ops` frames."""
    game = gym.make(env_id, frameskip=1, repeat_action_probability=0.0, disable_env_checker=True)
    env = FrameStackObservation(AtariPreprocessing(game, noop_max=0, frame_skip=frame_skip), 4, padding_type="zero")
    env.reset(seed=0)
    for _ in range(no_ops):
        game.unwrapped.ale.act(0)
    return env


def trace(env, actions):
    """Observations and rewards of an episode that takes these actions."""
    seen = []
    for action in actions:
        observation, reward, *over, _ = env.step(action)
        seen.append((observation.tobytes(), reward, tuple(over)))
        if any(over):
            break
    return seen


def actions_of(env, number, seed=0):
    return np.random.default_rng(seed).integers(env.action_space.n, size=number)


def test_it_is_an_environment_as_gymnasium_wants_it():
    check_env(Atari("ALE/Breakout-v5", render_mode="rgb_array"), skip_render_check=True)
    assert Atari("ALE/Pong-v5", frame_skip=2).metadata["render_fps"] == 30


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_a_copy_plays_the_same_game(copied):
    env = Atari("ALE/Breakout-v5", 2, 3, 42, 12, 0.25, True, 900, "rgb_array")
    copy_of = copied(env)
    starts = [
        (made.reset(seed=3), made.observation_space, made.action_space, made.render_mode) for made in (env, copy_of)
    ]
    np.testing.assert_equal(*starts)
    assert trace(env, actions_of(env, 300)) == trace(copy_of, actions_of(env, 300))


@pytest.mark.parametrize("frame_skip", [1, 2, 4])
def test_pictures_and_rewards_are_those_of_gymnasiums_wrappers(frame_skip):
    env = Atari("ALE/Seaquest-v5", frame_skip=frame_skip)
    no_ops = env.reset(seed=5)[1]["episode_frame_number"]
    actions = actions_of(env, 400)
    ours, plain = trace(env, actions), trace(plain_path("ALE/Seaquest-v5", no_ops, frame_skip), actions)
    assert len(ours) == 400
    assert ours[4:] == plain[4:]  # gymnasium's first picture was taken before the no-ops
    assert [step[1:] for step in ours] == [step[1:] for step in plain]


def test_pictures_and_rewards_are_those_of_ale_pys_vector_environment():
    from ale_py.vector_env import AtariVectorEnv

    env = Atari("ALE/Seaquest-v5")
    first, info = env.reset(seed=5)
    vector = AtariVectorEnv("seaquest", 1, num_threads=1, noop_max=31, use_fire_reset=False, reward_clipping=False)
    _, theirs = vector.reset(seed=0)
    while theirs["episode_frame_number"][0] != info["episode_frame_number"]:  # as many no-ops
        observation, theirs = vector.reset()
    assert np.array_equal(first, observation[0])
    rewards = set()
    for action in actions_of(env, 400):
        observation, reward, _, _, _ = vector.step(np.array([action]))
        ours = env.step(action)
        assert np.array_equal(ours[0], observation[0])
        assert ours[1] == reward[0]
        rewards.add(ours[1])
    assert max(rewards) > 1  # else clipping would not show


def test_F47_fitness_is_the_sum_of_the_unclipped_rewards_of_the_plain_path():
    played = []

    class Recorded(gym.Wrapper):
        def reset(self, **options):
            observation, info = self.env.reset(**options)
            played.append((info["episode_frame_number"], []))
            return observation, info

        def step(self, action):
            played[-1][1].append(int(action))
            return self.env.step(action)

    def make():
        return Recorded(Atari("ALE/Seaquest-v5"))

    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4 * 84 * 84, 18, bias=False))
    space = make()
    policy = Policy(network, space.observation_space, space.action_space)
    player = SerialEvaluator(EnvObjective(policy, make, 0, EpisodeRules(max_steps=300), num_lanes=1))
    results = list(player.evaluate(snapshot(policy), pairs(2)))
    for result, (no_ops, actions) in zip(results, played, strict=True):
        rewards = [step[1] for step in trace(plain_path("ALE/Seaquest-v5", no_ops), actions)]
        assert result.return_ == sum(rewards)
        assert result.length == len(rewards)
    assert max(result.return_ for result in results) >= 20  # one diver: a clipped reward would be 1


@pytest.mark.parametrize("stickiness", [0.0, 0.25])
def test_an_episode_follows_from_its_seed_whatever_was_played_before(stickiness):
    def episode(env, seed):
        return env.reset(seed=seed)[0].tobytes(), trace(env, actions_of(env, 150))

    env = Atari("ALE/Qbert-v5", repeat_action_probability=stickiness)
    known = {seed: episode(env, seed) for seed in (0, 1, 2, 2**32 - 1)}
    assert len({str(answer) for answer in known.values()}) > 1
    other = Atari("ALE/Qbert-v5", repeat_action_probability=stickiness)
    for seed in (2**32 - 1, 0, 2, 1):
        assert episode(other, seed) == known[seed]


def test_starts_differ_by_seed_and_seed_zero_is_a_seed():
    env = Atari("ALE/Pong-v5")

    def no_ops(seed):
        return env.reset(seed=seed)[1]["episode_frame_number"]

    starts = [no_ops(seed) for seed in range(200)]
    assert set(starts) == set(range(3, 31))
    assert {no_ops(0) for _ in range(5)} == {starts[0]}
    assert len({no_ops(None) for _ in range(30)}) > 5


def test_sticky_actions_follow_their_law():
    env = Atari("ALE/Breakout-v5", repeat_action_probability=0.25)
    taken = []

    class Spy:
        def __init__(self, ale):
            self._ale = ale

        def __getattr__(self, name):
            return getattr(self._ale, name)

        def act(self, action):
            taken.append(action)
            return self._ale.act(action)

    env.reset(seed=0)
    env._ale = Spy(env._ale)
    for number in range(1000):
        env.step(2 + number % 2)  # right and left in turn; without a ball the game goes on
    wanted = [env._actions[2 + frame // 4 % 2] for frame in range(len(taken))]
    changes = [frame for frame in range(1, len(taken)) if taken[frame - 1] != wanted[frame]]
    assert all(taken[frame] in (wanted[frame], taken[frame - 1]) for frame in range(1, len(taken)))
    assert len(taken) == 4000
    assert abs(np.mean([taken[frame] != wanted[frame] for frame in changes]) - 0.25) < 0.04


def test_half_an_hour_ends_an_episode_by_truncation():
    env = Atari("ALE/Pong-v5", max_frames=60)
    env.reset(seed=0)
    *_, last = trace(env, actions_of(env, 100))
    assert last[2] == (False, True)
    env = Atari("ALE/Breakout-v5")
    env.reset(seed=0)
    *_, last = trace(env, actions_of(env, 2000))
    assert last[2] == (True, False)


def test_every_game_of_the_paper_is_there():
    assert len(set(GAMES)) == 51
    for game in GAMES:
        env = env_factory(game)()
        assert env._actions[0].name == "NOOP"
        assert env.reset(seed=0)[0].any()


@pytest.mark.slow
@pytest.mark.parametrize("game", GAMES)
def test_every_game_starts_the_same_whatever_was_played_before(game):
    first, second = Atari(game), Atari(game)
    for env in (first, second):
        env.reset(seed=3)
    known = trace(first, actions_of(first, 200))
    for length in (5, 50, 333):
        trace(second, actions_of(second, length, seed=9))
        second.reset(seed=3)
        assert trace(second, actions_of(second, 200)) == known


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"env_id": "ALE/Pnog-v5"}, "`env` 'ALE/Pnog-v5' is not registered. Did you mean `ALE/Pong-v5`"),
        ({"frame_skip": 0}, "`frame_skip` must be at least 1, got 0"),
        ({"noop_max": 2}, "`noop_max` must be at least 3, got 2"),
        ({"repeat_action_probability": 1.0}, "`repeat_action_probability` must be at least 0 and below 1, got 1.0"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        Atari(**{"env_id": "ALE/Pong-v5", **options})


@pytest.mark.parametrize("module", ["ale_py", "cv2"])
def test_a_missing_package_is_named_with_its_extra(module, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(MissingExtraError, match=r"torch-evolution\[atari\]"):
        env_factory("ALE/Pong-v5")()


def test_the_papers_network_is_trained_on_a_game():
    network = atari_cnn((4, 84, 84), 6, seed=0)
    rules = EpisodeRules(max_steps="members:60")
    with ES(network, "ALE/DemonAttack-v5", rules=rules, num_pairs=2, num_workers=1, eval_every=0) as es:
        before = es.strategy.theta.clone()
        es.learn(1)
        assert es.trainer.total_timesteps == 240
        assert not torch.equal(es.strategy.theta, before)
        screen = np.random.default_rng(0).integers(0, 255, (4, 84, 84), np.uint8)
        assert es.predict(screen)[0] in range(6)
