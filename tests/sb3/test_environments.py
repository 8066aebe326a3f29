"""Whatever Stable-Baselines3 calls an environment, made again by workers."""

import re
from functools import partial

import ale_py
import cloudpickle
import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete
from helpers import Stepper
from sb3_helpers import SMALL, Own, make
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_atari_env, make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    SubprocVecEnv,
    VecCheckNan,
    VecExtractDictObs,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
    VecTransposeImage,
)

from torch_es import EpisodeRules
from torch_es.sb3 import ES
from torch_es.sb3.environments import playable


def test_monitors_hold_what_workers_played(tmp_path):
    env = Monitor(gym.make("CartPole-v1"), str(tmp_path / "run"))
    model = ES("MlpPolicy", env, **{**SMALL, "num_workers": 1}).learn(200)
    model.es.close()
    env.close()
    played = model.es.trainer
    assert len(env.get_episode_rewards()) == played.total_episodes
    assert env.get_total_steps() == played.total_timesteps
    lines = (tmp_path / "run.monitor.csv").read_text().splitlines()
    assert lines[1] == "r,l,t"
    assert len(lines) == 2 + played.total_episodes


def test_dicts_and_pictures_with_channels_last():
    space = Dict(eye=Box(0, 255, (3, 36, 36), np.uint8), arm=Box(-1, 1, (2,)), gear=Discrete(3))
    ppo = PPO("MultiInputPolicy", Own(space), n_steps=8, batch_size=8, device="cpu")
    model = ES(ppo.policy, ppo.get_env(), **SMALL).learn(1)
    assert evaluate_policy(model, model.get_env(), 2)[0] == 4
    picture = Own(Box(0, 255, (36, 40, 3), np.uint8))
    model = ES("CnnPolicy", picture, **SMALL).learn(1)
    assert model.observation_space.shape == (3, 36, 40)
    last, first = picture.observation_space.sample(), model.get_env().reset()
    assert model.predict(last)[0] == model.policy.predict(last, deterministic=True)[0]
    assert model.predict(first)[0].shape == (1,)


def test_a_picture_with_channels_last_in_a_dict():
    space = Dict(eye=Box(0, 255, (36, 40, 3), np.uint8), arm=Box(-1, 1, (2,)))
    model = ES("MultiInputPolicy", env := Own(space), **SMALL).learn(1)
    assert model.observation_space["eye"].shape == (3, 36, 40)
    last, first = env.observation_space.sample(), model.get_env().reset()
    assert model.predict(last)[0].shape == ()
    assert model.predict(first)[0].shape == (1,)
    assert model.es._factory().reset(seed=0)[0]["eye"].shape == (3, 36, 40)


EYE = Dict(eye=Box(0, 255, (36, 40, 1), np.uint8), arm=Box(-1, 1, (2,)))


@pytest.mark.parametrize(
    ("env", "wrap"),
    [
        (lambda: gym.make("Pendulum-v1"), lambda venv: VecFrameStack(venv, 3)),
        (lambda: gym.make("Pendulum-v1"), lambda venv: VecFrameStack(VecCheckNan(VecMonitor(venv)), 3, "first")),
        (partial(Own, EYE["eye"]), lambda venv: VecTransposeImage(VecFrameStack(venv, 4))),
        (partial(Own, EYE["eye"]), lambda venv: VecFrameStack(VecTransposeImage(venv), 4)),
        (partial(Own, EYE), lambda venv: VecFrameStack(venv, 2, {"eye": "last", "arm": "first"})),
        (partial(Own, EYE), lambda venv: VecTransposeImage(VecExtractDictObs(venv, "eye"))),
    ],
)
def test_workers_see_what_wrappers_of_a_vec_env_show(env, wrap):
    venv = wrap(DummyVecEnv([env, env]))
    source, given = playable(venv)
    assert given is venv
    worker = cloudpickle.loads(cloudpickle.dumps(source))()
    last = isinstance(venv.observation_space, Dict)  # SB3 transposes it later, on its own
    shown = VecTransposeImage(venv) if last else venv
    assert worker.observation_space == shown.observation_space
    for seed in (0, 1):  # nothing of an episode is left in the next
        shown.seed(seed)
        action = np.zeros_like(shown.action_space.sample())
        rows = [shown.reset(), *(shown.step([action, action])[0] for _ in range(3))]
        seen = [worker.reset(seed=seed)[0], *(worker.step(action)[0] for _ in range(3))]
        for row, observation in zip(rows, seen, strict=True):
            for key in EYE if last else [...]:
                np.testing.assert_array_equal(observation[key], row[key][0] if last else row[0])


def test_sb3s_usual_atari_set_up_trains():
    gym.register_envs(ale_py)
    env = VecFrameStack(make_atari_env("ALE/Pong-v5", 2, seed=0), 4)
    model = ES("CnnPolicy", env, rules=EpisodeRules(max_steps=8), **{**SMALL, "num_pairs": 1}).learn(1)
    assert model.observation_space == Box(0, 255, (4, 84, 84), np.uint8)
    assert model.predict(model.get_env().reset())[0].shape == (2,)


class Own2(VecFrameStack):
    pass


@pytest.mark.parametrize(
    ("wrap", "message"),
    [
        (lambda venv: Own2(venv, 2), "wrapped in Own2, which works on a VecEnv as a whole"),
        (lambda venv: VecFrameStack(VecNormalize(venv), 2), "VecNormalize inside other wrappers; put it outside"),
    ],
)
def test_wrappers_that_no_worker_could_have_are_refused(wrap, message):
    with pytest.raises(ValueError, match=message):
        playable(wrap(DummyVecEnv([Stepper])))


def test_a_monitor_with_a_file_inside_other_wrappers_is_left_out_of_copies(tmp_path):
    env = gym.wrappers.TransformReward(Monitor(Stepper(), str(tmp_path / "run")), abs)
    model = ES("MlpPolicy", env, **SMALL).learn(10)
    assert model.es.trainer.played.returns.min() >= 0
    env.close()


@pytest.mark.parametrize(
    ("made", "env_id"),
    [
        (lambda: gym.make("CartPole-v1", render_mode="rgb_array"), "CartPole-v1"),
        (lambda: gym.make("CartPole-v1", max_episode_steps=7), None),
        (lambda: gym.wrappers.TimeLimit(Stepper(), 3), None),
        (lambda: gym.make("Locked-v0", length=4, disable_env_checker=True), None),
        (lambda: DummyVecEnv([lambda: Monitor(Stepper())]), None),
        (lambda: SubprocVecEnv([partial(gym.make, "CartPole-v1")]), "CartPole-v1"),
        (lambda: lambda: Stepper(3), None),
    ],
    ids=["id", "kwargs", "no spec", "cannot be copied", "dummy", "subprocess", "function"],
)
def test_every_kind_of_environment_can_be_made_by_workers(made, env_id):
    env = made()
    model = ES("MlpPolicy", env, **SMALL).learn(10)
    assert model._env_id == env_id
    limits = [int(n) for n in re.findall(r"max_episode_steps=(\d)\b", str(getattr(env, "spec", "")))]
    assert [max(e.length for e in model.es.trainer.played.episodes)] * len(limits) == limits
    cloudpickle.loads(cloudpickle.dumps(model.es._factory))().reset(seed=0)  # as a worker makes it
    model.get_env().close()


def test_set_env_changes_what_is_played_and_nothing_else():
    model = make().learn(50)
    theta = model.es.strategy.centre.theta
    model.set_env(gym.make("CartPole-v1", max_episode_steps=6))
    assert torch.equal(model.es.strategy.centre.theta, theta)
    model.learn(20)
    assert max(e.length for e in model.es.trainer.played.episodes) <= 6
    model.set_env(make_vec_env("CartPole-v1", 3))
    assert model.n_envs == 3
    with pytest.raises(ValueError, match="Observation spaces do not match"):
        model.set_env("Acrobot-v1")
