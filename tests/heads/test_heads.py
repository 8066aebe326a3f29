"""One contract over every head, noise and action space; heads and noises that are objects of the user's own."""

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple
from helpers import Stepper
from sample_spaces import ACTIONS, BOX3, Random
from torch import nn

from torch_es import ES
from torch_es.heads import make_action_noise, make_head, unbatched
from torch_es.heads.boxes import ClipHead, TanhHead
from torch_es.policies import Policy

BOX = Box(np.array([-0.4, 0.1]), np.array([0.4, 0.7]), dtype=np.float64)
HEADS = {
    **{name: (BOX, name) for name in ("clip", "tanh", "gaussian", "uniform:3", "custom:-1,0.3")},
    "composite": (Dict({"a.b": BOX, "c": Tuple([MultiDiscrete([2, 3], start=[5, 7]), Discrete(2)])}), "tanh"),
}
TYPED = {
    **{f"discrete {kind}": Discrete(4, start=1, dtype=kind) for kind in ("int8", "int32", "int64", "uint16")},
    **{f"multidiscrete {kind}": MultiDiscrete([2, 3], dtype=kind) for kind in ("int8", "int32", "uint8", "uint64")},
    "multibinary": MultiBinary((2, 2)),
    **{f"box {kind}": Box(0, 1, (2,), kind) for kind in ("bool", "uint8", "int16", "uint16", "uint64", "float16")},
    "scalar": Box(-1, 1, ()),
}


@pytest.mark.parametrize("kind", ACTIONS)
def test_every_action_space_gets_actions_of_its_own(kind):
    space, box_head, size = ACTIONS[kind]
    head = make_head(space, box_head)
    assert head.size == size
    outputs = np.random.default_rng(0).normal(scale=2, size=(50, size)).astype(np.float32)
    outputs[-20:] *= 50  # to the bounds
    actions = unbatched(head(outputs), 50)
    assert all(space.contains(action) for action in actions)
    assert len({str(action) for action in actions}) > 1
    assert str(unbatched(head(outputs[7:8]), 1)[0]) == str(actions[7])
    tensors = head(torch.from_numpy(outputs))
    if not isinstance(space, (Dict, Tuple)):
        np.testing.assert_allclose(tensors.numpy(), actions, rtol=1e-5)
        assert tensors.numpy().dtype == actions.dtype
    with ES(nn.Linear(3, size), lambda: Random(BOX3, space), box_head=box_head, num_pairs=3, num_workers=0) as es:
        es.learn(200)
        assert space.contains(es.predict(np.zeros(3, np.float32))[0])


def applies(noise, space, box_head):
    """Whether a noise changes the actions of a space, or of a part of it."""
    if isinstance(space, (Dict, Tuple)):
        parts = space.values() if isinstance(space, Dict) else space
        return any(applies(noise, part, box_head) for part in parts)
    box, bins = isinstance(space, Box), box_head.startswith(("uniform", "custom"))
    return {
        "gaussian:0.5": box, "epsilon:0.3": bins or not box, "sample": bins or not box or box_head == "gaussian",
    }[noise]  # fmt: skip


@pytest.mark.parametrize("given", ["gaussian:0.5", "epsilon:0.3", "sample"])
@pytest.mark.parametrize("kind", ACTIONS)
def test_every_noise_keeps_actions_in_their_space_and_leaves_the_centre_alone(kind, given, tmp_path):
    space, box_head, size = ACTIONS[kind]
    head = make_head(space, box_head)
    if not applies(given, space, box_head):
        with pytest.raises(ValueError, match="does not apply"):
            make_action_noise(space, head, given)
        return
    noise = make_action_noise(space, head, given)
    generator = np.random.default_rng(0)
    outputs = generator.normal(scale=2, size=(50, size)).astype(np.float32)
    draws = np.stack([noise.draw(generator) for _ in range(50)])
    before = outputs.copy(), draws.copy()
    actions, quiet = unbatched(noise(outputs, draws), 50), unbatched(head(outputs), 50)
    np.testing.assert_equal((outputs, draws), before)
    assert all(space.contains(action) for action in actions)
    assert str(actions) != str(quiet)
    assert str(unbatched(noise(outputs, 0 * draws), 50)) == str(quiet)
    assert str(unbatched(noise(outputs[7:8], draws[7:8]), 1)[0]) == str(actions[7])
    env, options = lambda: Random(BOX3, space), {"box_head": box_head, "action_noise": given, "num_workers": 0}
    with ES(nn.Linear(3, size), env, num_pairs=1, **options) as es:
        es.learn(1).save(tmp_path / "saved")
        with ES.load(tmp_path / "saved", nn.Linear(3, size), env, num_workers=0) as loaded:
            assert str(loaded.predict(np.ones(3))[0]) == str(es.predict(np.ones(3))[0])
            assert loaded.play(member=0).return_ == es.play(member=0).return_


@pytest.mark.parametrize("name", HEADS)
def test_a_head_follows_the_policy_to_another_device_and_keeps_its_digits(name):
    space, box_head = HEADS[name]
    head = make_head(space, box_head)
    outputs = torch.randn(5, head.size, generator=torch.Generator().manual_seed(0)) * 3
    before = str(head(outputs))
    policy = nn.ModuleDict({"head": head}).half()
    assert str(head(outputs)) == before
    policy.to("meta")
    assert {b.device.type for b in head.buffers()} <= {"meta"}
    actions = head(outputs.to("meta"))
    while isinstance(actions, (dict, tuple)):
        actions = next(iter(actions.values() if isinstance(actions, dict) else actions))
    assert actions.device.type == "meta"


@pytest.mark.parametrize("name", TYPED)
def test_actions_lie_in_their_space_whatever_its_dtype(name):
    space = TYPED[name]
    head = make_head(space)
    outputs = np.random.default_rng(0).normal(scale=2, size=(40, head.size)).astype(np.float32)
    actions = unbatched(head(outputs), 40)
    for action in actions:
        assert space.contains(action), repr(action)
    assert str(head(torch.from_numpy(outputs)).numpy()) == str(np.asarray(actions))
    assert head(torch.from_numpy(outputs)).numpy().dtype == space.dtype
    action, _ = Policy(nn.Linear(3, head.size), Box(-1, 1, (3,)), space).act(np.ones(3))
    assert space.contains(action), repr(action)


class Halved:
    """A head that is no module."""

    size = 1

    def __call__(self, output):
        return output / 2


@pytest.mark.parametrize("given", [Halved(), lambda space: Halved(), TanhHead, ClipHead(Stepper.action_space)])
def test_a_head_may_be_an_object_or_what_makes_one(given):
    with ES(nn.Linear(3, 1), Stepper, box_head=given, num_pairs=2, num_workers=0) as es:
        action, _ = es.learn(20).predict(np.ones(3))
    output = es.network(torch.ones(1, 3)).detach().numpy()[0]
    expected = output / 2 if isinstance(es.policy.head, Halved) else es.policy.head(output)
    np.testing.assert_allclose(action, expected, rtol=1e-6)


def test_heads_of_ones_own_stand_in_a_dict_too():
    space = Dict(a=Stepper.action_space, b=Discrete(2))
    head = make_head(space, lambda part: Halved())
    assert head.size == 3
    assert head(np.array([1.0, 0.0, 5.0]))["a"] == 0.5


def test_action_noise_may_be_an_object_or_what_makes_one():
    space = Stepper.action_space
    head = make_head(space)
    noise = make_action_noise(space, head, "gaussian:0.3")
    assert make_action_noise(space, head, noise) is noise
    runs = []
    for given in (noise, "gaussian:0.3", lambda space, head: make_action_noise(space, head, "gaussian:0.3")):
        with ES(Linear(), Stepper, action_noise=given, num_pairs=2, num_workers=0) as es:
            runs.append(es.learn(20).strategy.theta.tolist())
    assert runs[0] == runs[1] == runs[2]


class Linear(nn.Linear):
    def __init__(self):
        super().__init__(3, 1)
        with torch.no_grad():
            self.weight.fill_(0.1)
            self.bias.zero_()


def test_what_an_object_was_must_be_given_again(tmp_path):
    with ES(nn.Linear(3, 1), Stepper, box_head=TanhHead, num_pairs=2, num_workers=0) as es:
        es.save(tmp_path / "saved")
    with pytest.raises(ValueError, match=r"`box_head` \(it was `TanhHead`\) must be given again"):
        ES.load(tmp_path / "saved", nn.Linear(3, 1), Stepper)
    ES.load(tmp_path / "saved", nn.Linear(3, 1), Stepper, box_head=TanhHead).close()


@pytest.mark.parametrize("space", [Box(0, 1, (0,)), Dict(), Tuple([])])
def test_an_action_space_of_nothing_is_refused(space):
    with pytest.raises(ValueError, match="`action_space` must have at least one element"):
        make_head(space)
