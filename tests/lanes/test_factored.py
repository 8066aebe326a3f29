"""Lanes that share the weights answer as the module does with the member's weights written into it."""

import copy

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from helpers import boxed
from modules import Branching, Counting
from torch import nn

from torch_es.lanes import LaneChoice, choose_lanes, default_num_lanes
from torch_es.lanes.factored import FactoredLanes
from torch_es.lanes.modules import CopiedLanes
from torch_es.lanes.shared import SharedLanes, independent
from torch_es.lanes.trials import normal_rows, share_as
from torch_es.nn import VirtualBatchNorm
from torch_es.policies.recurrent import RecurrentNetwork
from torch_es.search.low_rank import LowRank, factored
from torch_es.search.parameters import FlatParameters
from torch_es.spaces import Layout


@pytest.fixture(autouse=True)
def _played():
    with torch.no_grad():
        yield


class Over(nn.Module):
    """A module on rows that are cut into a picture or a sequence before."""

    def __init__(self, shape, *layers):
        super().__init__()
        self.shape, self.layers = shape, nn.Sequential(*layers)

    def forward(self, x):
        return self.layers(x.view(len(x), *self.shape)).flatten(1)


class Attention(nn.Module):
    def __init__(self, other=False):
        super().__init__()
        self.attention, self.other = nn.MultiheadAttention(6, 2, batch_first=True), other

    def forward(self, x):
        x = x.view(len(x), 4, 6)
        return self.attention(x, x.flip(1) if self.other else x, x)[0].flatten(1)


class Words(nn.Module):
    """An embedding whose table is the last layer's matrix too."""

    def __init__(self):
        super().__init__()
        self.table, self.inner = nn.Embedding(9, 6), nn.Linear(6, 6)

    def forward(self, x):
        words = (x[:, :5].abs() * 3).long().clamp(max=8)
        return self.inner(self.table(words)).mean(1) @ self.table.weight.t()


class Own(nn.Module):
    """A matrix of its own, in operations that have no rule."""

    def __init__(self):
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(24, 6))

    def forward(self, x):
        return (x[:, :, None] * self.matrix.exp()).sum(1) + x @ self.matrix + self.matrix.sum()


class Stateful(nn.Module):
    """The first state is a product of the weights."""

    def __init__(self):
        super().__init__()
        self.inner, self.out = nn.Linear(24 + 6, 6), nn.Linear(6, 3)

    def initial_state(self, batch_size):
        return self.inner.weight[:, :6].sum(0).expand(batch_size, 6)

    def forward(self, x, state):
        state = torch.tanh(self.inner(torch.cat([x, state], 1)))
        return self.out(state), state


def frozen():
    module = nn.Sequential(nn.Linear(24, 20), nn.Tanh(), nn.Linear(20, 5))
    module[0].requires_grad_(False)
    return module


MODULES = {
    "linear": lambda: nn.Linear(24, 5),
    "chain": lambda: nn.Sequential(
        nn.Linear(24, 20), nn.Tanh(), nn.Linear(20, 20, bias=False), nn.ReLU(), nn.Linear(20, 1)
    ),
    "frozen": frozen,
    "norm": lambda: nn.Sequential(nn.Linear(24, 20), nn.LayerNorm(20), nn.GELU(), nn.Linear(20, 5)),
    "conv1d": lambda: Over((4, 6), nn.Conv1d(4, 8, 3, padding=1)),
    "conv2d": lambda: Over((2, 4, 3), nn.Conv2d(2, 6, 2, stride=2), nn.ReLU(), nn.Conv2d(6, 4, 1)),
    "groups": lambda: Over((4, 6), nn.Conv1d(4, 8, 3, groups=2), nn.Conv1d(8, 8, 2, groups=8)),
    "transposed": lambda: Over((4, 6), nn.ConvTranspose1d(4, 5, 3)),
    "embedding": Words,
    "attention": Attention,
    "attention to others": lambda: Attention(other=True),
    "transformer": lambda: Over((4, 6), nn.TransformerEncoderLayer(6, 2, 12, batch_first=True)),
    "bilinear": lambda: Over((24,), nn.Linear(24, 6), nn.GLU()),
    "own": Own,
    "gru": lambda: RecurrentNetwork(24, 3, hidden=7),
    "lstm": lambda: RecurrentNetwork(24, 3, "lstm", hidden=7),
    "state of the weights": Stateful,
    "virtual batch norm": lambda: nn.Sequential(nn.Linear(24, 20), VirtualBatchNorm(20), nn.Linear(20, 5)),
    "weight norm": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(24, 5)),
}  # fmt: skip


def made(module, kind, num_lanes, rank):
    reference = np.random.default_rng(5).standard_normal((9, 24), dtype=np.float32)
    parts = factored(FlatParameters(module), rank)
    lanes = kind(copy.deepcopy(module).eval(), num_lanes, boxed(24), reference, parts)
    plain = CopiedLanes(copy.deepcopy(module).eval(), num_lanes, boxed(24), reference)
    return lanes, plain, parts


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("module", MODULES.values(), ids=MODULES)
def test_they_answer_as_the_module_with_the_members_weights(module, rank):
    module = module()
    lanes, plain, parts = made(module, FactoredLanes, 18, rank)
    theta = FlatParameters(module).read_masters()
    rng = np.random.default_rng(0)
    for generation in range(2):  # the centre moves in between
        theta = theta + 0.1 * generation
        noise = LowRank(0, generation, len(theta), 0.1, parts)
        reference = rng.standard_normal((9, 24), dtype=np.float32)
        lanes.begin(reference, None), plain.begin(reference, None)
        for lane in range(18):
            member = lane - 1  # the centre among them
            lanes.write(lane, noise.factors(theta, member))
            vector = theta if member < 0 else noise.member(theta, member, torch.empty_like(theta))
            plain.write(lane, vector)
        for _ in range(2):
            rows = rng.standard_normal((18, 24), dtype=np.float32)
            expected = plain.forward(rows, range(18))
            np.testing.assert_allclose(lanes.forward(rows, range(18)), expected, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("module", [MODULES[name] for name in ("linear", "chain", "frozen")])
@pytest.mark.parametrize("num_lanes", [1, 18])
def test_a_chain_answers_so_too(module, num_lanes, rank):
    module = module()
    lanes, plain, parts = made(module, SharedLanes, num_lanes, rank)
    theta = FlatParameters(module).read_masters()
    for generation in range(2):  # the centre moves in between
        theta = theta + 0.1 * generation
        noise = LowRank(0, generation, len(theta), 0.1, parts)
        lanes.begin(None, None)
        for lane in range(num_lanes):
            lanes.write(lane, noise.factors(theta, lane))
            plain.write(lane, noise.member(theta, lane, torch.empty_like(theta)))
        rows = np.random.default_rng(0).standard_normal((num_lanes, 24), dtype=np.float32)
        expected = plain.forward(rows, range(num_lanes))
        np.testing.assert_allclose(lanes.forward(rows, range(num_lanes)), expected, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("kind", [SharedLanes, FactoredLanes])
def test_a_members_bits_do_not_depend_on_its_place_the_others_and_the_number_of_lanes(kind):
    module = nn.Sequential(nn.Linear(24, 20), nn.Tanh(), nn.Linear(20, 11), nn.Tanh(), nn.Linear(11, 3))
    theta = FlatParameters(module).read_masters()
    rng, answers = np.random.default_rng(0), set()
    row = rng.standard_normal(24, dtype=np.float32)
    for num_lanes in (1, 4, 16, 40):
        lanes, _, parts = made(module, kind, num_lanes, 1)
        noise = LowRank(0, 0, len(theta), 0.1, parts)
        for place in range(0, num_lanes, 3):
            for lane in range(num_lanes):
                lanes.write(lane, noise.factors(theta, 5 if lane == place else rng.integers(100)))
            rows = rng.standard_normal((num_lanes, 24), dtype=np.float32)
            rows[place] = row
            answers.add(lanes.forward(rows, range(num_lanes))[place].tobytes())
    lanes, plain, parts = made(module, kind, 16, 1)
    assert share_as(parts, plain, lambda: lanes, theta, normal_rows(24), 1e-3)
    assert len(answers) == 1


@pytest.mark.parametrize("kind", [SharedLanes, FactoredLanes])
def test_a_group_without_an_active_lane_is_left_out(kind):
    module = nn.Linear(24, 5)
    theta = FlatParameters(module).read_masters()
    lanes, _, parts = made(module, kind, 40, 1)
    noise = LowRank(0, 0, len(theta), 0.1, parts)
    for lane in range(40):
        lanes.write(lane, noise.factors(theta, lane))
    rows = np.random.default_rng(0).standard_normal((40, 24), dtype=np.float32)
    expected = lanes.forward(rows, range(40)).copy()
    answer = lanes.forward(rows + 1, [3, 35]).copy()
    np.testing.assert_array_equal(answer[16:32], expected[16:32])
    assert (answer[[3, 35]] != expected[[3, 35]]).all()


def test_a_layer_whose_rows_depend_on_their_place_runs_lane_by_lane(monkeypatch):
    monkeypatch.setattr("torch_es.lanes.shared.independent", lambda _: False)
    monkeypatch.setattr("torch_es.lanes.factored._depends", lambda *_: True)
    test_a_chain_answers_so_too(MODULES["chain"], 18, 1)
    test_they_answer_as_the_module_with_the_members_weights(MODULES["embedding"], 1)
    for kind in SharedLanes, FactoredLanes:
        test_a_members_bits_do_not_depend_on_its_place_the_others_and_the_number_of_lanes(kind)


def test_it_is_found_out():
    def placed(x, weight):
        return x @ weight + torch.arange(len(x), dtype=torch.float32)[:, None]

    def crowded(x, weight):
        return x @ weight + x.sum()

    assert independent((3, 5))
    assert not independent((3, 5), placed)
    assert not independent((3, 5), crowded)


def test_lanes_that_depend_on_their_place_are_refused():
    class Biased(FactoredLanes):
        def forward(self, rows, active):
            return super().forward(rows, active) + np.float32(1e-6) * np.arange(len(rows))[:, None]

    module = nn.Linear(24, 5)
    theta = FlatParameters(module).read_masters()
    for kind, passes in ((FactoredLanes, True), (Biased, False)):
        lanes, _, parts = made(module, kind, 16, 1)
        plain = CopiedLanes(copy.deepcopy(module).eval(), 1, boxed(24))
        assert share_as(parts, plain, lambda lanes=lanes: lanes, theta, normal_rows(24), 1e-3) is passes


@pytest.mark.parametrize(
    ("module", "kind", "shared"),
    [
        (lambda: nn.Sequential(nn.Linear(24, 600), nn.Tanh(), nn.Linear(600, 80)), "shared", True),
        (lambda: nn.Sequential(nn.Linear(24, 600), nn.LayerNorm(600), nn.Linear(600, 80)), "factored", True),
        (lambda: nn.Sequential(nn.Linear(24, 20), nn.Tanh(), nn.Linear(20, 5)), "matmul", False),
        (lambda: RecurrentNetwork(24, 3, hidden=160, normalize_observations=False), "traced", False),
        (Branching, "copied", False),
        (Counting, "traced", False),
        (lambda: nn.Sequential(nn.Linear(24, 600), nn.Tanh(), nn.Linear(600, 80)).bfloat16(), "traced", False),
    ],
    ids=["chain", "any", "fits the cache", "recurrent", "untraceable", "small", "bfloat16"],
)
def test_what_does_not_fit_the_cache_once_for_each_lane_is_shared(module, kind, shared):
    module = module()
    size = 24 if not isinstance(module, (Branching, Counting)) else 4
    parts = factored(FlatParameters(module), 1)
    choice = choose_lanes(module, None, boxed(size), None, parts)
    assert choice == LaneChoice(kind, normalized=False, parts=parts if shared else None)
    dim = FlatParameters(module).dim
    assert choice.num_lanes(dim) == (48 if shared else default_num_lanes(dim))


@pytest.mark.parametrize("rank", [1, 2, 4])
@pytest.mark.parametrize(("inner", "size", "outputs"), [(256, 24, 6), (257, 11, 3), (333, 27, 8), (250, 24, 1)])
def test_a_network_of_any_widths_is_shared(inner, size, outputs, rank):
    layers = nn.Linear(size, inner), nn.GELU(), nn.Linear(inner, inner), nn.LayerNorm(inner), nn.Linear(inner, outputs)
    parts = factored(FlatParameters(nn.Sequential(*layers)), rank)
    assert choose_lanes(nn.Sequential(*layers), None, boxed(size), None, parts).kind == "factored"


class Table(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.out = nn.Embedding(300, 12), nn.Linear(12, 3, bias=False)

    def forward(self, x):
        return self.out(self.table((x[:, :2].abs() * 9).long()).mean(1))


WIDE = {
    "linear": lambda: nn.Sequential(nn.Linear(24, 90), nn.LayerNorm(90), nn.Linear(90, 30, bias=False)),
    "embedding": Table,
    "conv": lambda: Over((8, 3), nn.Conv1d(8, 70, 3)),
    "attention": lambda: Over((2, 12), nn.TransformerEncoderLayer(12, 2, 90, batch_first=True)),
}


@pytest.mark.parametrize("module", WIDE.values(), ids=WIDE)
def test_no_matrix_for_each_lane(module):
    """In what is run, no tensor is as large as all lanes' copies of the largest matrix."""
    module = module()
    lanes, _, _ = made(module, FactoredLanes, 16, 1)
    values = [node.meta["val"] for node in lanes._graph.graph.nodes if "val" in node.meta]
    sizes = [value.numel() for value in values if isinstance(value, torch.Tensor)]
    assert max(sizes) < 16 * max(p.numel() for p in module.parameters() if p.dim() > 1)


def test_one_product_of_a_fixed_number_of_rows_for_all_lanes():
    lanes, _, _ = made(nn.Sequential(nn.Linear(24, 30), nn.LayerNorm(30), nn.Linear(30, 20)), FactoredLanes, 5, 1)
    products = [node for node in lanes._graph.graph.nodes if node.target is torch.ops.aten.mm.default]
    assert [tuple(node.meta["val"].shape) for node in products] == [(16, 30), (16, 20)]


def test_a_network_of_float32_answers_so_under_another_default_dtype():
    module = MODULES["chain"]()
    theta = FlatParameters(module).read_masters()
    rows, answers = np.random.default_rng(0).standard_normal((20, 24), dtype=np.float32), []
    for dtype in (torch.float32, torch.float64):
        torch.set_default_dtype(dtype)
        try:
            lanes, _, parts = made(module, SharedLanes, 20, 1)
            noise = LowRank(0, 0, len(theta), 0.1, parts)
            for lane in range(20):
                lanes.write(lane, noise.factors(theta, lane))
            answers.append(lanes.forward(rows, range(20)).copy())
        finally:
            torch.set_default_dtype(torch.float32)
    assert answers[1].dtype == np.float32
    np.testing.assert_array_equal(*answers)


class Clamped(nn.Module):
    """Changes its weights in place, once they are large."""

    def __init__(self, words):
        super().__init__()
        self.words, self.table, self.out = words, nn.Embedding(50, 300, max_norm=40.0), nn.Linear(300, 600)

    def forward(self, x):
        if self.words:
            return self.out(self.table(x[:, 0].abs().long()))
        self.table.weight.data.clamp_(-9.0, 9.0)
        return self.out(self.table.weight[:1].expand(len(x), -1))


@pytest.mark.parametrize("words", [True, False])
def test_weights_that_the_network_changes_in_place_are_not_shared(words):
    network = Clamped(words)
    parts = factored(FlatParameters(network), 1)
    assert choose_lanes(network, None, Layout(Box(0, 49, (24,))), None, parts).kind != "factored"
