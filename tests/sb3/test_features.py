"""Normalisation inside the policy: whatever one keeps of a model acts on raw observations as the model did."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict
from sb3_helpers import RAW, SMALL, Own, make, trained_ppo
from stable_baselines3.common.torch_layers import FlattenExtractor

from torch_es.lanes import make_lanes
from torch_es.lanes.matmul import MatmulLanes
from torch_es.sb3 import ES

KEPT = """
import sys, numpy as np
from stable_baselines3.common.policies import ActorCriticPolicy
from torch_es.sb3 import ES
raw, folder = np.load(sys.argv[1] + "/raw.npy"), sys.argv[1]
model = ES.load(folder + "/model")
for kept in (model, model.policy, ActorCriticPolicy.load(folder + "/policy.pt")):
    print(*kept.predict(raw, deterministic=True)[0])
"""


def test_what_is_kept_acts_in_another_process_as_the_model_did(tmp_path):
    model = make(learning_rate=0.05).learn(3000)
    assert model.observation_norm.count == model.num_timesteps
    expected = " ".join(map(str, model.es.predict(RAW)[0]))
    assert expected == " ".join(map(str, model.policy.predict(RAW, deterministic=True)[0]))
    assert expected != " ".join(map(str, make().predict(RAW)[0]))
    np.save(tmp_path / "raw.npy", RAW)
    model.save(tmp_path / "model")
    model.policy.save(tmp_path / "policy.pt")
    command = [sys.executable, "-W", "ignore", "-c", KEPT, str(tmp_path)]
    answers = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout.splitlines()
    assert answers == [expected] * 3


def test_a_policy_normalises_where_it_is_asked_to(tmp_path):
    plain = make(normalize_observations=False)
    assert plain.observation_norm is None
    plain.save(tmp_path / "m")
    assert ES.load(tmp_path / "m").observation_norm is None
    ppo = trained_ppo("CartPole-v1")
    assert ES(ppo.policy, "CartPole-v1", **SMALL).observation_norm is None
    model = ES(ppo.policy, "CartPole-v1", normalize_observations=True, **SMALL).learn(100)
    np.testing.assert_array_equal(ppo.predict(RAW, deterministic=True)[0], model.es.predict(RAW)[0])
    assert ES(model.policy, "CartPole-v1", **SMALL).observation_norm is model.observation_norm
    assert isinstance(make_lanes(model.es.network, 4, model.es.policy.layout), MatmulLanes)


def test_extractors_of_their_own_for_actor_and_critic_are_normalised_apart():
    model = make(policy_kwargs={"share_features_extractor": False}).learn(50)
    actor, critic = model.policy.pi_features_extractor, model.policy.vf_features_extractor
    assert actor is model.policy.features_extractor
    assert (actor.norm.count, critic.norm.count) == (model.num_timesteps, 0)


def test_measurements_beside_a_picture_are_normalised_and_the_picture_is_not():
    space = Dict(eye=Box(0, 255, (3, 36, 36), np.uint8), arm=Box(0, 1000, (2,)))
    model = ES("MultiInputPolicy", Own(space), **SMALL).learn(10)
    observation = space.sample()
    shown = model.observation_norm({name: torch.from_numpy(value)[None] for name, value in observation.items()})
    np.testing.assert_array_equal(shown["eye"][0], observation["eye"])
    assert shown["arm"].abs().max() < 5
    assert ES("CnnPolicy", Own(space["eye"]), **SMALL).observation_norm is None


class Scaled(FlattenExtractor):
    factor = 2.0

    def forward(self, observations):
        return self.factor * super().forward(observations)


def test_what_a_user_keeps_in_an_extractor_is_still_found_there():
    model = make(policy_kwargs={"features_extractor_class": Scaled})
    assert model.policy.features_extractor.factor == 2
    with pytest.raises(AttributeError, match="no attribute 'colour'"):
        model.policy.features_extractor.colour  # noqa: B018
