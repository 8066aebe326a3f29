"""`VecNormalize` as with PPO: where training begins, what follows it, and what stays as it is."""

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete
from sb3_helpers import RAW, SMALL, Own, make, normalized, trained_ppo
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from torch_es.sb3 import ES


def cartpole(num_envs=1, **options):
    return normalized(make_vec_env("CartPole-v1", num_envs, seed=0), **options)


def told(vec):
    return vec.obs_rms.mean.copy(), vec.obs_rms.var.copy(), vec.obs_rms.count


def assert_told(vec, then):
    for own, expected in zip(told(vec), then, strict=True):
        np.testing.assert_array_equal(own, expected)


def test_a_trained_policy_and_its_statistics_are_where_training_begins():
    vec = cartpole(2, clip_obs=3.0)
    ppo = trained_ppo(vec)
    model = ES(ppo.policy, vec, **SMALL)
    expected = ppo.predict(vec.normalize_obs(RAW), deterministic=True)[0]
    np.testing.assert_array_equal(model.predict(vec.normalize_obs(RAW))[0], expected)
    np.testing.assert_array_equal(model.es.predict(RAW)[0], expected)
    for rows in (RAW, 9 * RAW):  # the second beyond where observations are cut
        ours = model.observation_norm(torch.from_numpy(rows)).numpy()
        np.testing.assert_allclose(ours, vec.normalize_obs(rows), rtol=1e-3, atol=1e-5)


def test_the_statistics_of_training_reach_whoever_evaluates():
    vec = cartpole(2)
    model = ES("MlpPolicy", vec, **SMALL)
    evaluation = EvalCallback(cartpole(training=False), eval_freq=1, verbose=0)
    model.learn(300, evaluation)
    assert vec.obs_rms.count == model.num_timesteps
    assert_told(evaluation.eval_env, told(vec))
    np.testing.assert_array_equal(model.predict(vec.normalize_obs(RAW))[0], model.es.predict(RAW)[0])
    vec.training = vec.norm_reward = False
    inside = np.mean([episode.return_ for episode in model.es.evaluate(20)])
    assert evaluate_policy(model, vec, 20)[0] == pytest.approx(inside, rel=0.5)


def test_statistics_that_are_not_in_training_stay_as_they_are():
    vec = cartpole(training=False)
    vec.obs_rms.mean[:], vec.obs_rms.var[:], vec.obs_rms.count = [1, 2, 3, 4], 9.0, 1000.0
    before = told(vec)
    model = ES("MlpPolicy", vec, **SMALL).learn(200)
    assert_told(vec, before)
    np.testing.assert_allclose(model.observation_norm.scale[0], before[0])
    vec.training = True
    model.learn(200)
    assert vec.obs_rms.count == 1000 + model.num_timesteps
    vec.training = False  # as before an evaluation
    before = told(vec)
    model.learn(200)
    assert_told(vec, before)
    np.testing.assert_allclose(model.observation_norm.scale[0], before[0])


def test_another_vec_normalize_keeps_its_statistics():
    model = ES("MlpPolicy", cartpole(), **SMALL).learn(100)
    other = cartpole()
    other.obs_rms.mean[:], other.obs_rms.count = 7.0, 500.0
    before = told(other)
    model.set_env(other)
    assert_told(other, before)
    np.testing.assert_allclose(model.observation_norm.scale[0], 7)
    np.testing.assert_array_equal(model.predict(other.normalize_obs(RAW))[0], model.es.predict(RAW)[0])
    with pytest.raises(ValueError, match="`env` must be a VecNormalize: the model was made with one"):
        model.set_env("CartPole-v1")
    with pytest.raises(ValueError, match="`env` must not be a VecNormalize: the model acts on raw"):
        make().set_env(cartpole())


def test_a_saved_model_has_its_statistics_and_goes_on_to_the_bit(tmp_path):
    vec = cartpole()
    model = ES("MlpPolicy", vec, **SMALL).learn(200)
    model.save(tmp_path / "m")
    vec.save(tmp_path / "vec.pkl")
    before = told(vec)
    straight = model.learn(200, reset_num_timesteps=False).es.strategy.theta
    kept = VecNormalize.load(tmp_path / "vec.pkl", make_vec_env("CartPole-v1", seed=0))
    for given in (None, cartpole(), kept):
        loaded = ES.load(tmp_path / "m", given, num_workers=0)
        again = loaded.get_vec_normalize_env()
        assert_told(again, before)
        np.testing.assert_array_equal(loaded.predict(again.normalize_obs(RAW))[0], loaded.es.predict(RAW)[0])
        if given is not None:
            loaded.learn(200, reset_num_timesteps=False)
            assert torch.equal(loaded.es.strategy.theta, straight)
    with pytest.raises(ValueError, match="`env` must be a VecNormalize: the model was made with one"):
        ES.load(tmp_path / "m", "CartPole-v1")


def test_the_keys_of_a_dict_are_normalised_as_vec_normalize_says(tmp_path):
    space = Dict(far=Box(0, 1000, (2,)), left=Box(-1, 1, (3,)), gear=Discrete(3))
    vec = VecNormalize(DummyVecEnv([lambda: Own(space)]), norm_obs_keys=["far"], norm_reward=False)
    model = ES("MultiInputPolicy", vec, **SMALL).learn(20)
    assert vec.obs_rms["far"].mean.min() > 100
    batch = [space.sample() for _ in range(8)]
    rows = {key: np.stack([one[key] for one in batch]) for key in space}
    np.testing.assert_array_equal(model.predict(vec.normalize_obs(rows))[0], model.es.predict(rows)[0])
    model.save(tmp_path / "m")
    again = ES.load(tmp_path / "m").get_vec_normalize_env()
    np.testing.assert_array_equal(again.obs_rms["far"].var, vec.obs_rms["far"].var)


def test_pictures_are_normalised_as_vec_normalize_does_it():
    vec = normalized(DummyVecEnv([lambda: Own(Box(0, 255, (3, 36, 36), np.uint8))]))
    model = ES("CnnPolicy", vec, policy_kwargs={"normalize_images": False}, **SMALL).learn(1)
    assert vec.obs_rms.mean.min() > 50
    raw = np.stack([Box(0, 255, (3, 36, 36), np.uint8).sample() for _ in range(4)])
    np.testing.assert_array_equal(model.predict(vec.normalize_obs(raw))[0], model.es.predict(raw)[0])
