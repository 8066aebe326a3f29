"""A saved model: what comes back, what must be given again, and that nothing in the file runs."""

import zipfile

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from helpers import Stepper
from sb3_helpers import SMALL, Counting, Own, make, trained_ppo
from stable_baselines3.common.callbacks import CheckpointCallback
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule, LinearSchedule
from torch import nn

from torch_es.sb3 import ES


def test_checkpoints_go_on_bit_for_bit(tmp_path):
    straight = make().learn(10**9, Counting(last=6))
    make().learn(10**9, [CheckpointCallback(1, tmp_path, verbose=0), Counting(last=4)])
    files = sorted(tmp_path.iterdir(), key=lambda path: int(path.name.split("_")[2]))
    assert [path.name[:9] for path in files] == ["rl_model_"] * 4
    with zipfile.ZipFile(files[-1]) as archive:
        assert sorted(archive.namelist()) == ["MANIFEST.json", "state.json", "tensors.safetensors"]
    loaded = ES.load(files[-1], num_workers=0)
    assert loaded.num_timesteps == int(files[-1].name.split("_")[2])
    loaded.learn(10**9, Counting(last=2))
    assert torch.equal(loaded.es.strategy.theta, straight.es.strategy.theta)
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    np.testing.assert_array_equal(loaded.predict(x)[0], straight.predict(x)[0])


class OwnExtractor(FlattenExtractor):
    pass


def own_shaping(returns):
    return returns - returns.mean()


def test_what_a_file_cannot_hold_must_be_given_again(tmp_path, caplog):
    model = ES(
        "MlpPolicy",
        Stepper,
        lambda left: 0.02 * left,
        policy_kwargs={"features_extractor_class": OwnExtractor},
        shaping=own_shaping,
        **SMALL,
    )
    model.save(tmp_path / "m.zip")
    with pytest.raises(ValueError, match=r"`shaping` \(it was `own_shaping`\) must be given again"):
        ES.load(tmp_path / "m", Stepper)
    with pytest.raises(ValueError, match="must be given with features_extractor_class"):
        ES.load(tmp_path / "m", Stepper, shaping=own_shaping)
    own = {"policy_kwargs": {"features_extractor_class": OwnExtractor}, "shaping": own_shaping}
    loaded = ES.load(tmp_path / "m", Stepper, custom_objects=own, num_workers=0, sigma=0.3)
    assert loaded.es.strategy.sigma == 0.3
    assert loaded.es.strategy.rule.keywords["shaping"].args == (own_shaping,)
    assert "`learning_rate` was a function of your own, which is not saved; it is now 0.02" in caplog.text
    x = np.zeros(3, np.float32)
    np.testing.assert_array_equal(loaded.predict(x)[0], model.predict(x)[0])


@pytest.mark.parametrize(("low", "size", "name"), [(-2, 3, "Observation"), (-1, 4, "Observation"), (-1, 3, "Action")])
def test_an_environment_of_other_spaces_is_refused(low, size, name, tmp_path):
    ES("MlpPolicy", Own(Box(-1, 1, (3,)), Box(-1, 1, (1,))), **SMALL).save(tmp_path / "m")
    assert ES.load(tmp_path / "m", Own(Box(-1, 1, (3,)), Box(-1, 1, (1,)))).env is not None
    with pytest.raises(ValueError, match=f"{name} spaces do not match"):
        ES.load(tmp_path / "m", Own(Box(low, 1, (size,)), Box(-1, 5, (1,))))


def test_the_network_cannot_be_changed_while_it_is_loaded(tmp_path):
    make(policy_kwargs={"net_arch": [8]}).save(tmp_path / "m")
    same = {"net_arch": [8], "activation_fn": nn.Tanh}
    assert ES.load(tmp_path / "m", policy_kwargs=same).policy.activation_fn is nn.Tanh
    with pytest.raises(ValueError, match=r"must be those of the saved policy, got activation_fn=.*ReLU.* of .*Tanh"):
        ES.load(tmp_path / "m", policy_kwargs={"activation_fn": nn.ReLU})
    with pytest.raises(ValueError, match=r"got features_extractor_class=.*OwnExtractor.* instead of .*Flatten"):
        ES.load(tmp_path / "m", custom_objects={"policy_kwargs": {"features_extractor_class": OwnExtractor}})


def test_a_pickled_model_of_sb3_is_not_opened(tmp_path):
    trained_ppo("CartPole-v1").save(tmp_path / "ppo")
    with pytest.raises(ValueError, match=r"was not saved by torch_es: it holds data.*give `ES` its `policy`"):
        ES.load(tmp_path / "ppo")


def test_a_model_acts_without_its_environment_and_trains_when_it_has_one(tmp_path):
    picture = Own(Box(0, 255, (36, 40, 3), np.uint8), Discrete(3))
    model = ES("CnnPolicy", picture, **SMALL).learn(1)
    model.save(tmp_path / "m")
    loaded = ES.load(tmp_path / "m", num_workers=0)
    assert loaded.get_env() is None
    assert (loaded.observation_space, loaded.action_space) == (model.observation_space, model.action_space)
    x = picture.observation_space.sample()
    np.testing.assert_array_equal(loaded.predict(x)[0], model.predict(x)[0])
    with pytest.raises(ValueError, match=r"`learn` needs an environment: use `set_env\(env\)`, or `load"):
        loaded.learn(1)
    with pytest.raises(ValueError, match=r"`env` must be given to `load`, or by `set_env`"):
        loaded.es.evaluate(1)
    loaded.set_env(picture)
    loaded.learn(1, reset_num_timesteps=False)
    model.learn(1, reset_num_timesteps=False)
    assert torch.equal(loaded.es.strategy.theta, model.es.strategy.theta)


def test_an_id_in_the_file_imports_nothing(tmp_path):
    model = make()
    model._env_id = "payload:CartPole-v1"
    model.save(tmp_path / "m")
    assert ES.load(tmp_path / "m").get_env() is None


def falling(left):
    return 0.1 * left


@pytest.mark.parametrize("rate", [LinearSchedule(0.1, 0.02, 0.5), FloatSchedule(ConstantSchedule(0.3)), falling])
def test_a_schedule_is_clamped_at_its_end_and_comes_back(tmp_path, rate):
    model = make(learning_rate=rate).learn(100)
    last = model.es.strategy.optimizer.param_groups[0]["lr"]
    assert last == model.lr_schedule(0) >= 0  # not below, although `total_timesteps` was passed
    model.save(tmp_path / "m")
    loaded = ES.load(tmp_path / "m", num_workers=0)
    kept = (1,) if rate is falling else (1, 0.75, 0)
    assert [loaded.lr_schedule(left) for left in kept] == [model.lr_schedule(left) for left in kept]
    loaded.learn(100)


def test_a_compiled_policy_is_saved_as_what_it_was_compiled_from(tmp_path):
    model = make()
    model.policy = torch.compile(model.policy)
    model.save(tmp_path / "m")
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    np.testing.assert_array_equal(ES.load(tmp_path / "m").predict(x)[0], make().predict(x)[0])


def test_names_that_sb3_takes_for_attributes(tmp_path, caplog):
    model = make(verbose=2)
    model.save(tmp_path / "m", exclude=["verbose", "env"])
    assert ES.load(tmp_path / "m").verbose == 0
    model.save(tmp_path / "m", exclude=["verbose"], include=["verbose"])
    loaded = ES.load(tmp_path / "m", custom_objects={"learning_rate": 2e-5, "clip_range": 0.2})
    assert (loaded.verbose, loaded.learning_rate) == (2, 2e-5)
    assert "`custom_objects` names clip_range, which is not in the file" in caplog.text
