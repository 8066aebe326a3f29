"""Batched lanes answer as the plain module does, for all kinds of module."""

import copy
import pickle
import weakref

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete
from helpers import Stepper, boxed, stepper_policy
from modules import Branching, Counting, SearchesPath, UsesNumpy
from sample_spaces import OBSERVATIONS, Leafwise
from torch import nn

from torch_es import ES, mlp
from torch_es.lanes import LaneChoice, choose_lanes, default_num_lanes, make_lanes
from torch_es.lanes import choice as choice_module
from torch_es.lanes.matmul import MatmulLanes
from torch_es.lanes.modules import CopiedLanes, TracedLanes
from torch_es.nn import (
    HardAttention,
    ObservationNorm,
    QuantizedWeights,
    Sign,
    Step,
    binarize,
    ternarize,
)
from torch_es.policies import Concatenate
from torch_es.rollout import Rollout
from torch_es.search.parameters import FlatParameters
from torch_es.spaces import Layout


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.out = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.out(x + torch.tanh(self.inner(x)))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.b(torch.relu(self.a(x)))


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = nn.Linear(4, 4)

    def forward(self, x):
        return self.block(torch.tanh(self.block(x)))


class Reassigning(Counting):
    """The same by assignment."""

    def forward(self, x):
        self.calls = self.calls + x.sum()
        return self.linear(x) + self.calls


class Embedding(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.out = nn.Embedding(3, 5), nn.Linear(5, 2)

    def forward(self, x):
        return self.out(self.table(x[:, 0].abs().long().clamp(max=2)))


class Scaled(nn.Module):
    """A parameter without dimensions, and one that is frozen."""

    def __init__(self):
        super().__init__()
        self.linear, self.scale = nn.Linear(4, 2), nn.Parameter(torch.tensor(1.5))
        self.linear.bias.requires_grad_(False)

    def forward(self, x):
        return self.scale * self.linear(x)


class Looks(nn.Module):
    """Attention over two positions of two numbers."""

    def __init__(self):
        super().__init__()
        self.attention = HardAttention(2, 3, 1)

    def forward(self, x):
        return self.attention(x.reshape(-1, 2, 2))[..., 0]


class Whole(nn.Module):
    def forward(self, x):
        return x.long()


def half_frozen_binary():
    network = Tied()
    network.a.bias.requires_grad_(False)
    frozen = nn.Linear(2, 2)
    return QuantizedWeights(nn.Sequential(network, Sign(), nn.Linear(4, 2), frozen.requires_grad_(False)), binarize)


def conv():
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 4 * 4, 2))


MODULES = {
    "mlp": (lambda: nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)), (4,), MatmulLanes),
    "nested": (
        lambda: nn.Sequential(nn.Sequential(nn.Linear(4, 8), nn.ReLU()), nn.Linear(8, 2, bias=False)),
        (4,),
        MatmulLanes,
    ),
    "layer_norm": (
        lambda: nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 2)),
        (4,),
        TracedLanes,
    ),
    "conv": (conv, (2, 6, 6), TracedLanes),
    "residual": (Residual, (4,), TracedLanes),
    "tied": (Tied, (4,), TracedLanes),
    "shared": (Shared, (4,), TracedLanes),
    "buffer_in_place": (Counting, (4,), TracedLanes),
    "buffer_reassigned": (Reassigning, (4,), TracedLanes),
    "dropout": (lambda: nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 2)), (4,), TracedLanes),
    "embedding": (Embedding, (4,), TracedLanes),
    "frozen_and_scalar": (Scaled, (4,), TracedLanes),
    "steps": (lambda: nn.Sequential(nn.Linear(4, 8), Step(), nn.Linear(8, 2), Sign()), (4,), MatmulLanes),
    "binary": (
        lambda: QuantizedWeights(nn.Sequential(nn.Linear(4, 8), Sign(), nn.Linear(8, 2)), binarize),
        (4,),
        TracedLanes,
    ),
    "binary_tied_frozen": (half_frozen_binary, (4,), TracedLanes),
    "ternary_conv": (lambda: QuantizedWeights(conv(), ternarize), (2, 6, 6), TracedLanes),
    "hard_attention": (Looks, (4,), TracedLanes),
    "bfloat16": (lambda: nn.Linear(4, 2).to(torch.bfloat16), (4,), TracedLanes),
    "branching": (Branching, (4,), CopiedLanes),
    "numpy": (UsesNumpy, (4,), CopiedLanes),
    "shortest_path": (SearchesPath, (4,), CopiedLanes),
}


@pytest.mark.parametrize("name", MODULES)
@torch.no_grad()
def test_lanes_answer_as_the_plain_module(name):
    make, shape, kind = MODULES[name]
    torch.manual_seed(1)
    module = make()
    lanes = make_lanes(module, 5, boxed(*shape))
    assert type(lanes) is kind
    rng = np.random.default_rng(2)
    plain = [copy.deepcopy(module).eval() for _ in range(5)]
    for lane, own in enumerate(plain):
        parameters = FlatParameters(own)
        theta = parameters.read_masters() + torch.from_numpy(rng.standard_normal(parameters.dim, dtype=np.float32))
        parameters.write_module(theta)
        lanes.write(lane, theta)
    for _ in range(3):  # several calls, so that state would show
        x = rng.standard_normal((5, *shape), dtype=np.float32)
        rows = x.reshape(5, -1)
        dtype = next(module.parameters()).dtype
        expected = torch.cat([own(torch.from_numpy(x[i : i + 1]).to(dtype)) for i, own in enumerate(plain)])
        near = 1e-4 if dtype is torch.float32 else 0.02  # bfloat16 has 8 bits
        np.testing.assert_allclose(lanes.forward(rows, range(5)), expected.float().numpy(), rtol=near, atol=near)


class FarRule(nn.Module):
    """A rule in Python for observations that normal numbers never are."""

    def __init__(self, read):
        super().__init__()
        self.linear, self.read = nn.Linear(3, 2), read

    def forward(self, x):
        return self.linear(x) * (2 if self.read(x) > 50 else 1)


READINGS = {
    "numpy": lambda x: x.numpy()[0, 0],
    "asarray": lambda x: np.asarray(x)[0, 0],
    "dlpack": lambda x: np.from_dlpack(x)[0, 0],
    "tolist": lambda x: x[0].tolist()[0],
    "item": lambda x: x[0, 0].item(),
    "text": lambda x: float(str(x).strip("tensor([)]").split(",")[0]),
}


@pytest.mark.parametrize("read", READINGS.values(), ids=READINGS)
@pytest.mark.parametrize("bound", [1, 200])
def test_a_forward_that_reads_values_is_not_traced_whatever_the_trial_sees(read, bound):
    assert choose_lanes(FarRule(read), 2, Layout(Box(0, bound, (3,)))).kind == "copied"


def test_the_trial_plays_observations_of_the_space():
    cells = nn.Sequential(Whole(), nn.Embedding(10, 2), nn.Flatten(), nn.Linear(8, 2))
    assert choose_lanes(cells, 2, Layout(Box(0, 9, (4,), np.uint8))).kind == "traced"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rounding_does_not_change_the_choice(dtype):
    """A resumed run chooses again, for other weights."""
    choices = {choose_lanes(mlp(4, 2, (8,), seed=seed).to(dtype), 3, boxed(4)) for seed in range(8)}
    assert choices == {LaneChoice("traced", normalized=True)}


@pytest.mark.parametrize("name", ["mlp", "layer_norm", "conv", "buffer_in_place", "binary"])
def test_a_lane_has_the_same_bits_whatever_stands_in_the_others(name):
    make, shape, _ = MODULES[name]
    module = make()
    dim = FlatParameters(module).dim
    rng = np.random.default_rng(0)
    own_theta = torch.from_numpy(rng.standard_normal(dim, dtype=np.float32))
    own_x = rng.standard_normal(shape, dtype=np.float32)
    answers = []
    for slot in (0, 3, 6):
        lanes = make_lanes(module, 7, boxed(*shape))
        for lane in range(7):
            lanes.write(lane, torch.from_numpy(rng.standard_normal(dim, dtype=np.float32)))
        lanes.write(slot, own_theta)
        x = rng.standard_normal((7, *shape), dtype=np.float32)
        x[slot] = own_x
        answers.append(lanes.forward(x.reshape(7, -1), range(7))[slot].tobytes())
    assert len(set(answers)) == 1


def test_a_network_too_large_to_be_batched_runs_as_it_is_with_any_number_of_lanes():
    large = nn.Sequential(nn.Linear(4, 200_000), nn.LayerNorm(200_000), nn.Linear(200_000, 1))
    assert default_num_lanes(FlatParameters(large).dim) == 1
    assert all(isinstance(make_lanes(large, number, boxed(4)), CopiedLanes) for number in (1, 2))


def test_lanes_for_rows_and_for_trees():
    assert isinstance(make_lanes(nn.Linear(3, 2), 2, boxed(3)), MatmulLanes)
    space = OBSERVATIONS["dict"]
    assert isinstance(make_lanes(Leafwise(space, 2), 2, Layout(space)), TracedLanes)


def test_the_choice_is_made_once_logged_and_readable(caplog):
    caplog.set_level("DEBUG", "torch_es.lanes")
    with ES(Branching(), "CartPole-v1", num_pairs=2, num_workers=0, num_lanes=3) as es:
        es.learn(1)
        assert es.lanes == LaneChoice("copied", normalized=False)
    told = [record.getMessage() for record in caplog.records if record.name.startswith("torch_es.lanes.")]
    assert [text for text in told if text.startswith("Lanes: ")] == [
        "Lanes: 3 in each worker, 20 parameters each, run as copied."
    ]
    assert any(text.startswith("Lanes are not matmul: NotImplementedError: ") for text in told)
    assert any(text.startswith("Lanes are not traced: ") for text in told)


def test_workers_are_told_the_choice(monkeypatch):
    policy = stepper_policy()
    choice = LaneChoice("copied", normalized=False)
    monkeypatch.setattr(choice_module, "choose_lanes", lambda *_: pytest.fail("a worker chose"))
    player = Rollout(policy, Stepper, 7, 2, lanes=pickle.loads(pickle.dumps(choice)))
    assert type(player._lanes) is CopiedLanes


@pytest.mark.parametrize("error", [MemoryError("no room"), KeyboardInterrupt()])
def test_what_says_nothing_about_the_module_is_not_swallowed(error, monkeypatch):
    monkeypatch.setattr(choice_module._KINDS["traced"], "__init__", lambda *_: (_ for _ in ()).throw(error))
    with pytest.raises(type(error)):
        choose_lanes(nn.Sequential(nn.Linear(4, 2), nn.LayerNorm(2)), 2, boxed(4))


def test_a_batch_norm_in_eval_mode_is_a_constant_that_members_share():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    network(torch.randn(64, 4) * 3 + 1)  # statistics of its own
    network.eval()
    mean = network[1].running_mean.clone()
    x = torch.randn(5, 4)
    with ES(network, "CartPole-v1", num_pairs=2, num_workers=0) as es:
        assert es.predict(x.numpy())[0].tolist() == network(x).argmax(1).tolist()
        es.learn(1)
        assert es.lanes.kind == "traced"
    assert torch.equal(network[1].running_mean, mean)
    with pytest.raises(ValueError, match=r"BatchNorm1d in train mode at `1`.*call `policy.eval\(\)`"):
        ES(network.train(), "CartPole-v1")


def test_observations_have_the_dtype_of_the_first_real_parameter_in_training_and_in_predict():
    class Quantized(nn.Module):
        def __init__(self):
            super().__init__()
            self.q = nn.Parameter(torch.randint(-9, 9, (4, 8), dtype=torch.int8), requires_grad=False)
            self.out = nn.Linear(8, 2)

        def forward(self, x):
            SEEN.add(x.dtype)  # shared by the copies
            return self.out(torch.tanh(x @ (self.q.float() / 9)))

    with ES(Quantized(), "CartPole-v1", num_pairs=2, num_workers=0) as es:
        es.learn(1).predict(np.ones(4))
    assert {torch.float32} == SEEN


SEEN = set()


class Pressing(nn.Module):
    """Uses its observation, in pascal, beside its norm: in bar."""

    def __init__(self):
        super().__init__()
        self.norm, self.out = ObservationNorm(1), nn.Linear(2, 2)

    def forward(self, x):
        return self.out(torch.cat([self.norm(x), x / 1e5], 1))


def test_what_a_network_makes_of_large_numbers_beside_its_norm_is_seen():
    layout = Layout(Box(0, 2e5, (1,)))
    assert not choose_lanes(Pressing(), 4, layout).normalized
    assert choose_lanes(nn.Sequential(ObservationNorm(1), nn.Linear(1, 2)), 4, layout).normalized
    space = Dict(force=Box(0, 2e5, (2,)), gear=Discrete(3))
    network = nn.Sequential(ObservationNorm(space), Concatenate(), nn.Linear(5, 2))
    assert choose_lanes(network, 4, Layout(space)).normalized


@pytest.mark.parametrize("register", ["register_forward_hook", "register_forward_pre_hook"])
@pytest.mark.parametrize("place", [lambda network: network, lambda network: network[0]], ids=["whole", "layer"])
def test_a_chain_with_a_hook_is_run_with_it(place, register):
    network = nn.Sequential(nn.Linear(1, 2), nn.Tanh())
    assert choose_lanes(network, 4, Layout(Box(-1, 1, (1,)))).kind == "matmul"
    getattr(place(network), register)(lambda module, *given: given[-1].clamp(-1e6, 1e6) if given[1:] else None)
    assert choose_lanes(network, 4, Layout(Box(-1, 1, (1,)))).kind == "traced"


class Clock(gym.Env):
    """Shows the time since 1970; it pays to act from the tenth step on."""

    observation_space, action_space = Box(0, 2e9, (1,), np.float64), Discrete(2)

    def reset(self, *, seed=None, options=None):
        self.step_number = 0
        return np.array([1.7e9]), {}

    def step(self, action):
        paid = float(action == (self.step_number >= 10))
        self.step_number += 1
        return np.array([1.7e9 + self.step_number]), paid, self.step_number == 20, False, {}


def test_a_network_of_float64_gets_the_whole_number_in_training_too():
    class Waiting(nn.Module):
        def __init__(self):
            super().__init__()
            self.until = nn.Parameter(torch.tensor(9.5, dtype=torch.float64))

        def forward(self, x):
            left = x - 1.7e9 - self.until
            return torch.cat([-left, left], 1)

    es = ES(Waiting(), Clock, num_pairs=2, num_workers=0)
    assert es.evaluate(1)[0].return_ == 20


def _hooked():
    network = nn.Linear(4, 2)
    network.gain = nn.Parameter(torch.ones(1))
    network.register_forward_hook(lambda module, given, answer: answer * network.gain)
    return network


def _lambda():
    network = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    network.forward = lambda x: network[1](torch.relu(network[0](x)))
    return network


def _weak():
    network = nn.Sequential(nn.Linear(4, 2), nn.Identity())
    parent = weakref.ref(network)
    network[1].forward = lambda x: x * parent()[0].bias
    return network


@pytest.mark.parametrize(("make", "used"), [(_hooked, "gain"), (_lambda, "0.weight"), (_weak, "0.bias")])
def test_a_network_whose_copies_use_its_own_weights_is_refused(make, used):
    with pytest.raises(ValueError, match=rf"a copy used {used}.* of the original: a hook, a lambda"):
        choose_lanes(make(), 2, boxed(4))


def test_a_copy_may_share_what_nobody_perturbs():
    class Shares(nn.Module):
        def __init__(self):
            super().__init__()
            self.out, self.large = nn.Linear(3, 2), nn.Linear(4, 3).requires_grad_(False)

        def __deepcopy__(self, memo):
            new = Shares()
            new.large = self.large
            return new

        def forward(self, x):
            return self.out(self.large(x))

    choose_lanes(Shares(), 2, boxed(4))
