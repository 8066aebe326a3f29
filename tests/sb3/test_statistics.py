"""`VecNormalize`: its statistics are where training begins, and follow it."""

import numpy as np
import pytest
import torch
from sb3_helpers import SMALL, normalized, trained_ppo
from stable_baselines3.common.callbacks import (
    EvalCallback,
)
from stable_baselines3.common.env_util import make_vec_env

from torch_es.sb3 import ES


def test_vec_normalize_is_taken_over_and_kept_up_to_date(tmp_path):
    vec = normalized(make_vec_env("CartPole-v1", 2, seed=0), clip_obs=3.0)
    ppo = trained_ppo(vec)
    model = ES(ppo.policy, vec, **SMALL)
    raw = np.random.default_rng(0).normal(size=(64, 4)) * [1, 2, 0.01, 2]
    expected = ppo.predict(vec.normalize_obs(raw), deterministic=True)[0]
    np.testing.assert_array_equal(model.predict(vec.normalize_obs(raw))[0], expected)
    np.testing.assert_array_equal(model.es.predict(raw)[0], expected)
    np.testing.assert_allclose(
        model.es.policy.observation_norm(torch.from_numpy(raw)).numpy(), vec.normalize_obs(raw), rtol=1e-3, atol=1e-5
    )
    evaluation = EvalCallback(normalized(make_vec_env("CartPole-v1"), training=False), eval_freq=1, verbose=0)
    count = vec.obs_rms.count
    model.learn(300, evaluation)
    assert vec.obs_rms.count == pytest.approx(count + model.num_timesteps)
    np.testing.assert_array_equal(evaluation.eval_env.obs_rms.mean, vec.obs_rms.mean)
    np.testing.assert_array_equal(model.predict(vec.normalize_obs(raw))[0], model.es.predict(raw)[0])
    model.save(tmp_path / "m")
    plain = ES.load(tmp_path / "m")
    far = torch.from_numpy(9 * raw)  # beyond where observations are cut
    assert torch.equal(plain.es.policy.observation_norm(far), model.es.policy.observation_norm(far))
    np.testing.assert_array_equal(plain.predict(raw)[0], model.es.predict(raw)[0])
    other = normalized(make_vec_env("CartPole-v1"))
    np.testing.assert_array_equal(
        ES.load(tmp_path / "m", other).predict(other.normalize_obs(raw))[0], model.es.predict(raw)[0]
    )
