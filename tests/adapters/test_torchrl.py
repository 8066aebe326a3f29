"""Real actors of TorchRL, taken as they are and evolved."""

import sys

import gymnasium as gym
import numpy as np
import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import (
    InteractionType,
    NormalParamExtractor,
    TensorDictModule,
    TensorDictSequential,
    set_interaction_type,
)
from torch import nn
from torchrl.modules import (
    MLP,
    DistributionalQValueActor,
    GRUModule,
    LSTMModule,
    MaskedCategorical,
    OneHotCategorical,
    Ordinal,
    ProbabilisticActor,
    QValueActor,
    QValueModule,
    TanhNormal,
)

from torch_es import ES
from torch_es.adapters import from_tensordict
from torch_es.lanes import make_lanes
from torch_es.lanes.modules import TracedLanes
from torch_es.spaces import Layout

SMALL = {"num_pairs": 2, "num_workers": 0, "sigma": 0.5}


def gaussian_actor():
    network = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2), NormalParamExtractor())
    module = TensorDictModule(network, in_keys=["observation"], out_keys=["loc", "scale"])
    options = {"distribution_class": TanhNormal, "distribution_kwargs": {"low": -2.0, "high": 2.0}}
    return ProbabilisticActor(module, in_keys=["loc", "scale"], return_log_prob=True, **options)


def choosing_actor():
    module = TensorDictModule(nn.Linear(4, 2), in_keys=["observation"], out_keys=["logits"])
    return ProbabilisticActor(module, in_keys=["logits"], distribution_class=OneHotCategorical)


def value_actor():
    return QValueActor(nn.Linear(4, 2), in_keys=["observation"], action_space="one-hot")


def index_actor():
    return QValueActor(nn.Linear(4, 2), in_keys=["observation"], action_space="categorical")


def atoms_actor():
    network = MLP(4, (5, 2), depth=1)
    support = torch.arange(5.0)
    return DistributionalQValueActor(network, support, in_keys=["observation"], action_space="categorical")


def ordinal_actor():
    module = TensorDictModule(nn.Linear(4, 2), in_keys=["observation"], out_keys=["scores"])
    return ProbabilisticActor(module, in_keys=["scores"], distribution_class=Ordinal)


def behind(actor):
    """An actor that gets what another layer makes of the observation."""
    trunk = TensorDictModule(nn.Linear(4, 7), in_keys=["observation"], out_keys=["hidden"])
    return TensorDictSequential(trunk, *actor)


def deep_index_actor():
    values = TensorDictModule(nn.Linear(7, 2), in_keys=["hidden"], out_keys=["action_value"])
    return behind([values, QValueModule(action_space="categorical")])


def deep_actor_of_a_name_of_its_own():
    module = TensorDictModule(nn.Linear(7, 2), in_keys=["hidden"], out_keys=["heights"])
    return behind(ProbabilisticActor(module, in_keys={"scores": "heights"}, distribution_class=Ordinal))


def ordinal_actor_by_logits():
    module = TensorDictModule(nn.Linear(4, 2), in_keys=["observation"], out_keys=["logits"])
    return ProbabilisticActor(module, in_keys={"scores": "logits"}, distribution_class=Ordinal)


def masked_actor():
    mask = TensorDictModule(lambda x: torch.stack([x[:, 0] > 0, x[:, 0] < 1], 1), ["observation"], ["mask"])
    module = TensorDictModule(nn.Linear(4, 2), in_keys=["observation"], out_keys=["logits"])
    return ProbabilisticActor(
        TensorDictSequential(mask, module), in_keys=["logits", "mask"], distribution_class=MaskedCategorical
    )


@pytest.mark.filterwarnings("ignore:deterministic_sample wasn't found")  # in TorchRL's Ordinal
@pytest.mark.parametrize(
    ("make", "env_id"),
    [
        (gaussian_actor, "Pendulum-v1"),
        *((make, "CartPole-v1") for make in (choosing_actor, value_actor, index_actor, atoms_actor, ordinal_actor,
          deep_index_actor, deep_actor_of_a_name_of_its_own, ordinal_actor_by_logits, masked_actor)),
    ],
)  # fmt: skip
def test_an_actor_of_torchrl_acts_as_it_does_and_is_evolved_in_place(make, env_id):
    actor = make()
    es = ES(from_tensordict(actor), env_id, **SMALL)
    x = torch.randn(16, es.policy.layout.size)
    with torch.no_grad(), set_interaction_type(InteractionType.DETERMINISTIC):
        action = actor(TensorDict(observation=x, batch_size=[16]))["action"]
    expected = action.long().argmax(1) if action.ndim > 1 and env_id == "CartPole-v1" else action
    np.testing.assert_allclose(es.predict(x.numpy())[0], expected.numpy(), rtol=1e-5)
    before = [p.clone() for p in actor.parameters()]
    es.learn(50)
    assert not all(map(torch.equal, before, actor.parameters()))


def test_an_actor_of_torchrl_is_batched_over_lanes():
    lanes = make_lanes(from_tensordict(gaussian_actor()), 2, Layout(gym.spaces.Box(-1, 1, (3,))))
    assert isinstance(lanes, TracedLanes)


@pytest.mark.parametrize("kind", [LSTMModule, GRUModule])
def test_an_actor_with_a_memory_keeps_it_from_step_to_step(kind):
    body = TensorDictModule(nn.Linear(4, 8), in_keys=["observation"], out_keys=["embed"])
    memory = kind(input_size=8, hidden_size=5, num_layers=2, in_key="embed", out_key="embed")
    actor = TensorDictSequential(body, memory, TensorDictModule(nn.Linear(5, 2), ["embed"], ["logits"]))
    es = ES(from_tensordict(actor), "CartPole-v1", **SMALL)
    state, theirs = None, TensorDict(is_init=torch.ones(3, 1, dtype=torch.bool), batch_size=[3])
    for x in torch.randn(5, 3, 4):
        action, state = es.predict(x.numpy(), state)
        with torch.no_grad():
            written = actor(theirs.set("observation", x))
        np.testing.assert_array_equal(action, written["logits"].argmax(1).numpy())
        theirs = written["next"].set("is_init", torch.zeros(3, 1, dtype=torch.bool))
    before = [p.clone() for p in memory.parameters()]
    es.learn(20)
    assert not any(map(torch.equal, before, memory.parameters()))


class Joint(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, arm, gear):
        return self.linear(torch.cat([arm, gear], 1))


def test_an_actor_of_several_keys_reads_the_leaves_of_a_dict():
    actor = TensorDictModule(Joint(), in_keys=["arm", "gear"], out_keys=["logits"])
    output = from_tensordict(actor)({"arm": torch.ones(5, 1), "gear": torch.zeros(5, 2)})
    torch.testing.assert_close(output, actor(torch.ones(5, 1), torch.zeros(5, 2)))


def test_modules_without_an_action_are_refused(monkeypatch):
    with pytest.raises(TypeError, match="`actor` must be a TensorDictModule, got Linear"):
        from_tensordict(nn.Linear(1, 1))
    with pytest.raises(TypeError, match="`actor` must write `logits` or `action`, but writes value"):
        from_tensordict(TensorDictModule(nn.Linear(3, 1), in_keys=["observation"], out_keys=["value"]))
    counting = TensorDictModule(nn.Bilinear(4, 3, 3), in_keys=["x", "h"], out_keys=[("next", "h")])
    choosing = TensorDictModule(nn.Linear(3, 2), in_keys=[("next", "h")], out_keys=["logits"])
    with pytest.raises(ValueError, match="`actor` reads its state h, whose shape is unknown"):
        from_tensordict(TensorDictSequential(counting, choosing))
    index = from_tensordict(TensorDictModule(lambda x: x.argmax(1), in_keys=["x"], out_keys=["action"]))
    with pytest.raises(ValueError, match="`actor` writes the index of a choice as `action`, and nothing that tells"):
        index(torch.zeros(5, 2))
    monkeypatch.setitem(sys.modules, "tensordict.nn", None)
    with pytest.raises(ImportError, match=r"extra `torchrl`: pip install 'torch-evolution\[torchrl\]'"):
        from_tensordict(nn.Linear(1, 1))
