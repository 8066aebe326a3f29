"""Wrappers of a `VecEnv`, as workers have them: the same observations, step by step."""

from functools import partial

import ale_py
import cloudpickle
import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict
from helpers import Stepper
from sb3_helpers import SMALL, Own
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
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


def test_a_picture_with_channels_last_in_a_dict():
    space = Dict(eye=Box(0, 255, (36, 40, 3), np.uint8), arm=Box(-1, 1, (2,)))
    model = ES("MultiInputPolicy", env := Own(space), **SMALL).learn(1)
    assert model.observation_space["eye"].shape == (3, 36, 40)
    last, first = env.observation_space.sample(), model.get_env().reset()
    assert model.predict(last)[0].shape == ()
    assert model.predict(first)[0].shape == (1,)
    assert model.es.objective.factory().reset(seed=0)[0]["eye"].shape == (3, 36, 40)


EYE = Dict(eye=Box(0, 255, (36, 40, 1), np.uint8), arm=Box(-1, 1, (2,)))


@pytest.mark.parametrize(
    ("env", "wrap"),
    [
        (lambda: gym.make("Pendulum-v1"), lambda venv: VecFrameStack(venv, 3)),
        (lambda: gym.make("Pendulum-v1"), lambda venv: VecFrameStack(VecCheckNan(VecMonitor(venv)), 3, "first")),
        (partial(Own, Box(5, 9, (2,))), lambda venv: VecFrameStack(venv, 3)),
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


def test_channels_stay_where_a_wrapper_leaves_them():
    venv = VecTransposeImage(DummyVecEnv([partial(Own, Box(0, 255, (40, 50, 41), np.uint8))]), skip=True)
    assert playable(venv)[0]().observation_space.shape == (40, 50, 41)


def test_pictures_that_vec_normalize_has_made_numbers_stay_as_they_are():
    venv = VecNormalize(DummyVecEnv([partial(Own, Box(0, 255, (36, 40, 3), np.uint8))]))
    assert playable(venv)[0]().observation_space.shape == venv.observation_space.shape


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
