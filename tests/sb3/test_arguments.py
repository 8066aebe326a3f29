"""What ES cannot follow is refused, with the way out."""

import pytest
import torch
from sb3_helpers import make
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import nn

from torch_es.sb3 import ES


class Doubting(ActorCriticPolicy):
    """Acts by its network, and then otherwise."""

    def _predict(self, observation, deterministic=False):
        return 1 - super()._predict(observation, deterministic)


class Split(ActorCriticPolicy):
    def _build_mlp_extractor(self):
        super()._build_mlp_extractor()
        self.mlp_extractor.__class__ = type("Mine", (type(self.mlp_extractor),), {})


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (("MlpPolicy", "Cartpoll-v1"), {}, ValueError, "Did you mean `CartPole-v1`"),
        (("LstmPolicy", "CartPole-v1"), {}, ValueError, "Policy LstmPolicy unknown"),
        (("MlpPolicy", "CartPole-v1"), {"n_steps": 2048}, ValueError, "`n_steps` is an argument of PPO that means"),
        (("MlpPolicy", "CartPole-v1"), {"optimizer": torch.optim.SGD}, ValueError, "`optimizer` is given as in Stable"),
        (("MlpPolicy", "CartPole-v1"), {"device": "meta"}, ValueError, "`device` must be cpu or auto, got meta"),
        ((nn.Linear(4, 2), "CartPole-v1"), {}, TypeError, "must be an ActorCriticPolicy .* got Linear"),
        ((Doubting, "CartPole-v1"), {}, ValueError, r"`policy` \(Doubting\) must act by its features extractor"),
        ((Split, "CartPole-v1"), {}, TypeError, "with SB3's own MlpExtractor"),
    ],
)  # fmt: skip
def test_bad_arguments_are_refused(arguments, options, error, message):
    policy, env = arguments
    with pytest.raises(error, match=message):
        ES(policy, env() if callable(env) else env, **options)


def test_what_contradicts_itself_is_refused():
    with pytest.raises(ValueError, match="`policy_kwargs` is for a policy that is made"):
        ES(make().policy, "CartPole-v1", policy_kwargs={"net_arch": [4]})
    with pytest.raises(ValueError, match=r"`policy` must be on the CPU, got meta; load its model with"):
        ES(make().policy.to("meta"), "CartPole-v1")
