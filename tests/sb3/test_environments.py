"""Whatever Stable-Baselines3 calls an environment, made again by workers."""

import contextlib
import re
from functools import partial

import cloudpickle
import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete
from helpers import Stepper
from sb3_helpers import SMALL, Own, make
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    SubprocVecEnv,
)

from torch_es.sb3 import ES
from torch_es.sb3.environments import playable


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


def test_a_monitor_with_a_file_inside_other_wrappers_is_left_out_of_copies(tmp_path):
    env = gym.wrappers.TransformReward(Monitor(Stepper(), str(tmp_path / "run")), abs)
    model = ES("MlpPolicy", env, **SMALL).learn(10)
    assert model.es.trainer.played.returns.min() >= 0
    env.close()


class Paying(Monitor):
    """A monitor that does more than count."""

    def step(self, action):
        observation, reward, *rest = super().step(action)
        return observation, reward + 100.0, *rest


@pytest.mark.parametrize(
    "made",
    [
        lambda: Paying(gym.make("CartPole-v1")),
        lambda: gym.wrappers.TimeLimit(Paying(gym.make("CartPole-v1")), 9),
        lambda: DummyVecEnv([lambda: Paying(Stepper())]),
    ],
    ids=["outermost", "wrapped", "vectorised"],
)
def test_a_subclass_of_monitor_stays_since_it_may_change_rewards(made):
    model = ES("MlpPolicy", made(), **SMALL).learn(10)
    assert model.es.trainer.played.returns.min() > 100


@pytest.mark.parametrize(
    ("made", "env_id"),
    [
        (lambda: gym.make("CartPole-v1", render_mode="rgb_array"), "CartPole-v1"),
        (lambda: gym.make("CartPole-v1", max_episode_steps=7), None),
        (lambda: gym.wrappers.TimeLimit(Stepper(), 3), None),
        (lambda: gym.make("Locked-v0", length=4, disable_env_checker=True), None),
        (lambda: DummyVecEnv([lambda: Monitor(Stepper())]), None),
        (lambda: SubprocVecEnv([partial(gym.make, "CartPole-v1")]), "CartPole-v1"),
        (lambda: SubprocVecEnv([Stepper]), None),
        (lambda: SubprocVecEnv([lambda: Monitor(Stepper(3))]), None),
        (lambda: lambda: Stepper(3), None),
    ],
    ids=[
        "id",
        "kwargs",
        "no spec",
        "cannot be copied",
        "dummy",
        "process",
        "process bare",
        "process monitor",
        "function",
    ],
)
def test_every_kind_of_environment_can_be_made_by_workers(made, env_id):
    env = made()
    model = ES("MlpPolicy", env, **SMALL).learn(10)
    assert model._env_id == env_id
    limits = [int(n) for n in re.findall(r"max_episode_steps=(\d)\b", str(getattr(env, "spec", "")))]
    assert [model.es.trainer.played.lengths.max()] * len(limits) == limits
    cloudpickle.loads(cloudpickle.dumps(model.es.objective.factory))().reset(seed=0)  # as a worker makes it
    model.get_env().close()


def test_set_env_changes_what_is_played_and_nothing_else():
    model = make().learn(50)
    theta = model.es.strategy.theta
    model.set_env(gym.make("CartPole-v1", max_episode_steps=6))
    assert torch.equal(model.es.strategy.theta, theta)
    model.learn(20)
    assert model.es.trainer.played.lengths.max() <= 6
    model.set_env(make_vec_env("CartPole-v1", 3))
    assert model.n_envs == 3
    with pytest.raises(ValueError, match="Observation spaces do not match"):
        model.set_env("Acrobot-v1")


def test_environments_of_other_processes_that_cannot_be_made_again_are_refused():
    venv = SubprocVecEnv([lambda: gym.wrappers.TransformReward(Stepper(), abs)])
    with pytest.raises(ValueError, match="`env` is a SubprocVecEnv, whose environments cannot be made again; give an"):
        playable(venv)
    venv.close()


def test_a_vector_environment_of_gymnasium_is_refused_by_name():
    venv = gym.make_vec("CartPole-v1", 2)
    with pytest.raises(TypeError, match="`env` must be"):
        playable(venv)
    venv.close()


@pytest.mark.parametrize("kind", [DummyVecEnv, SubprocVecEnv])
def test_environments_of_several_tasks_are_refused(kind):
    message = r"alike, .* got Pendulum-v1 with .*'g': 9.* and Pendulum-v1 with .*'g': 3"
    for gravities in ((9, 9), (9, 3)):
        with contextlib.closing(kind([partial(gym.make, "Pendulum-v1", g=g) for g in gravities])) as env:
            if gravities == (9, 9):
                assert playable(env)[1] is env
                continue
            with pytest.raises(ValueError, match=message):
                playable(env)
