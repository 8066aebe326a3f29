"""The exported policy, run by onnxruntime and from a .pt2 file, acts as the policy does."""

import sys

import numpy as np
import onnxruntime
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, Tuple
from modules import Branching, SearchesPath, UsesNumpy
from sample_spaces import ACTIONS, BOX3, OBSERVATIONS, Leafwise
from torch import nn
from torch.utils._pytree import tree_leaves

from torch_es.errors import MissingExtraError
from torch_es.heads import make_head
from torch_es.nn import HardAttention, HebbianLinear, QuantizedWeights, Sign, convert_batch_norm, ternarize
from torch_es.nn.moments import Moments
from torch_es.policies import Policy, RecurrentNetwork, atari_cnn, mlp

EPISODE = 6  # steps
ANY = Box(-np.inf, np.inf, (4,))
PICTURES = Box(0, 255, (4, 44, 44), np.uint8)
EVERY_ACTION = Dict(
    {kind: ACTIONS[kind][0] for kind in ("clip", "discrete", "multidiscrete")},
    more=Tuple([ACTIONS["multibinary"][0], Discrete(2)]),
)
EVERY_OBSERVATION = Dict({kind: OBSERVATIONS[kind] for kind in ("square", "discrete", "multidiscrete", "tuple")})


def recurrent(kind):
    return lambda: RecurrentNetwork(3, 4, kind, hidden=5, output_scale=1.0)


def quantized_attention():
    layers = nn.Linear(3, 8), Sign(), nn.Linear(8, 6), nn.Unflatten(1, (3, 2)), HardAttention(2, 4, 2), nn.Flatten()
    return QuantizedWeights(nn.Sequential(*layers, nn.Linear(6, 4)), ternarize)


NETWORKS = {
    "lstm": recurrent("lstm"),
    "hebbian": lambda: HebbianLinear(3, 4),
    "quantized attention": quantized_attention,
    "float64": lambda: mlp(3, 4, (8,), output_scale=1.0).double(),
}


def trained(network, observations=BOX3, actions=ANY, box_head="clip", **options):
    """A policy with statistics, as after training."""
    policy = Policy(network, observations, actions, box_head=box_head, **options)
    if policy.observation_norm is not None:
        space = policy.layout.space
        space.seed(1)
        rows = np.stack([policy.layout.row(space.sample()) for _ in range(50)])
        policy.observation_norm.update(Moments.of(rows.astype(np.float64)))
    return policy


def assert_acts_alike(policy, folder):
    """One episode after another by the policy and by onnxruntime: the same actions, step by step."""
    session = onnxruntime.InferenceSession(policy.export(folder / "policy.onnx"))
    names = [given.name for given in session.get_inputs()]
    memory = [given for given in session.get_inputs() if given.name.startswith("state")]
    own, seen = None, set()
    held = [
        np.ones([1, *given.shape[1:]], np.float32) for given in memory
    ]  # whatever it is, the start takes no account
    policy.layout.space.seed(0)
    for step in range(2 * EPISODE):
        observation = policy.layout.space.sample()
        start = np.array([step % EPISODE == 0])
        action, own = policy.act(observation, own, start)
        leaves = [np.asarray(leaf)[None] for leaf in tree_leaves(observation)]
        feed = dict(zip(names, [*leaves, *held, *([start] if memory else [])], strict=True))
        answers = session.run(None, feed)
        expected = [np.asarray(leaf) for leaf in tree_leaves(action)]
        for answer, leaf in zip(answers[: len(expected)], expected, strict=True):
            np.testing.assert_allclose(answer[0], leaf, rtol=1e-4, atol=1e-5)
            assert answer.dtype == leaf.dtype
        held = answers[len(expected) :]
        seen.add(str(action))
    assert len(seen) > 1


def test_a_pt2_file_takes_any_batch_as_onnx_does(tmp_path):
    policy = trained(mlp(3, 4, (8,), output_scale=2.0))
    program = torch.export.load(policy.export(tmp_path / "policy.pt2")).module()
    session = onnxruntime.InferenceSession(policy.export(tmp_path / "policy.onnx"))
    for size in (1, 7):
        batch = np.random.default_rng(0).normal(size=(size, 3)).astype(np.float32)
        actions = policy.act(batch)[0]
        np.testing.assert_allclose(program(torch.from_numpy(batch)), actions, rtol=1e-5)
        np.testing.assert_allclose(session.run(None, {"observation": batch})[0], actions, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("box_head", ["clip", "tanh", "gaussian", "uniform:3", "custom:-1,0.5"])
def test_every_head(box_head, tmp_path):
    size = make_head(EVERY_ACTION, box_head).size
    assert_acts_alike(trained(mlp(3, size, (8,), output_scale=2.0), BOX3, EVERY_ACTION, box_head), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ACTIONS)
def test_every_action_space_alone(kind, tmp_path):
    space, box_head, size = ACTIONS[kind]
    assert_acts_alike(trained(mlp(3, size, (8,), output_scale=9.0), BOX3, space, box_head), tmp_path)


def test_every_observation(tmp_path):
    assert_acts_alike(trained(Leafwise(EVERY_OBSERVATION, 4), EVERY_OBSERVATION), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", OBSERVATIONS)
def test_every_observation_space_alone(kind, tmp_path):
    assert_acts_alike(trained(Leafwise(OBSERVATIONS[kind], 4), OBSERVATIONS[kind]), tmp_path)


@pytest.mark.parametrize("kind", NETWORKS)
def test_networks(kind, tmp_path):
    assert_acts_alike(trained(NETWORKS[kind]()), tmp_path)


@pytest.mark.parametrize("form", ["2017", "2016"])
def test_virtual_batch_norm_has_its_statistics_inside(form, tmp_path):
    network = convert_batch_norm(nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4)), form)
    reference = torch.randn(20, 3, dtype=torch.float64) * 4
    assert_acts_alike(trained(network, reference=reference), tmp_path)


def test_the_network_for_atari(tmp_path):
    reference = torch.from_numpy(np.stack([PICTURES.sample().ravel() for _ in range(8)]))
    assert_acts_alike(trained(atari_cnn(PICTURES.shape, 4, output_scale=1.0), PICTURES, reference=reference), tmp_path)


class FixesTheBatch(nn.Module):
    def forward(self, x):
        return x.reshape(len(x), 4)[:, :2]


class Drifting(nn.Module):
    """Counts its calls where torch does not see it."""

    calls = 0

    def forward(self, x):
        self.calls += 1
        return x[:, :2] + self.calls


BOX4 = Box(-1, 1, (4,))
REFUSED = {
    "control flow": (Branching, BOX4, "torch.export says: Could not guard on data-dependent"),
    "numpy": (UsesNumpy, BOX4, "torch.export says: "),
    "networkx": (SearchesPath, BOX4, "torch.export says: "),
    "batch": (FixesTheBatch, BOX4, "its forward fixes the size of the batch"),
    "a state of its own": (Drifting, BOX3, "actions differ from the policy's by up to "),
}


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("form", ["onnx", "pt2"])
def test_what_cannot_be_exported_is_told_and_nothing_is_written(kind, form, tmp_path):
    make, space, message = REFUSED[kind]
    policy = Policy(make(), space, Discrete(2) if make is not Drifting else Box(-9, 99, (2,)))
    with pytest.raises(ValueError, match=f"`policy` cannot be exported.*{message}"):
        policy.export(tmp_path / "policy", form)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("form", "dtype"), [("onnx", torch.float16), ("pt2", torch.bfloat16)])
def test_a_network_of_low_precision_agrees_to_its_own_rounding(form, dtype, tmp_path):
    for seed in range(5):
        torch.manual_seed(seed)
        policy = trained(mlp(3, 4, (64,), output_scale=1.0).to(dtype))
        assert policy.export(tmp_path / f"{seed}.{form}").is_file()


def test_a_dtype_that_onnx_runtime_cannot_run_is_told(tmp_path):
    with pytest.raises(ValueError, match=r"`policy` cannot be run as ONNX, onnxruntime says: .*; pt2 runs in PyTorch"):
        trained(mlp(3, 4, (8,)).to(torch.bfloat16)).export(tmp_path / "policy.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("form", ["onnx", "pt2"])
def test_a_space_that_is_bounded_by_the_largest_number_is_tried_with_moderate_ones(form, tmp_path):
    largest = np.full(3, np.finfo(np.float32).max)
    network = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))
    policy = Policy(network, Box(-largest, largest), ANY)
    assert policy.export(tmp_path / f"policy.{form}").is_file()


def test_the_policy_stays_as_it_is(tmp_path):
    policy = trained(mlp(3, 4, (8,))).train()
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    policy.export(tmp_path / "deep" / "policy.pt2")
    assert policy.training
    assert all(p.requires_grad for p in policy.parameters())
    assert all(value.equal(policy.state_dict()[name]) for name, value in before.items())


def test_a_missing_package_and_an_unknown_format_are_told(tmp_path, monkeypatch):
    policy = trained(mlp(3, 4, (8,)))
    with pytest.raises(ValueError, match="`form` must be one of onnx, pt2; got 'pth'"):
        policy.export(tmp_path / "policy.pth")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MissingExtraError, match="`onnxscript` is not installed; it comes with the extra `onnx`"):
        policy.export(tmp_path / "policy.onnx")
