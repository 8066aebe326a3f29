"""Noise of low rank: its law, its sum, and what gets it."""

import copy
import logging
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from torch_es import ARS, PGPE, SNES, OpenAIES, SearchGradient
from torch_es.search import low_rank as low_rank_module
from torch_es.search.low_rank import LowRank, factored, low_rank
from torch_es.search.noise import BLOCK
from torch_es.search.parameters import FlatParameters
from torch_es.search.perturbation import chunks, columns, serial_sum


def several():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Linear(300, 260), nn.Embedding(7, 5), nn.GRUCell(4, 6), nn.Linear(9, 2))


def noise_of(module, rank=1, sigma=0.5, seed=3, generation=4):
    parameters = FlatParameters(module)
    return LowRank(seed, generation, parameters.dim, sigma, factored(parameters, rank))


def members(noise, count):
    zeros = torch.zeros(noise.dim)
    return torch.stack([noise.member(zeros, 2 * pair, torch.empty(noise.dim)) for pair in range(count)])


@pytest.mark.parametrize("rank", [1, 3])
def test_a_members_matrix_has_the_rank_and_vectors_and_recurrent_layers_are_dense(rank):
    module = several()
    noise = noise_of(module, rank)
    views = FlatParameters(module).views(members(noise, 1)[0])
    ranks = {name: int(torch.linalg.matrix_rank(p.reshape(len(p), -1))) for name, p in views.items() if p.dim() > 1}
    assert ranks["0.weight"] == ranks["1.weight"] == ranks["2.weight"] == rank
    assert ranks["3.weight_ih"] == 4
    assert ranks["4.weight"] == (1 if rank == 1 else 2)  # two rows: dense where the rank is not below that


def test_pairs_are_mirrored_to_the_bit_around_the_centre_and_the_centre_is_itself():
    noise, theta = noise_of(nn.Linear(8, 4)), torch.zeros(36)
    plus, minus = (noise.member(theta, number, torch.empty(36)).clone() for number in (6, 7))
    assert plus.equal(-minus)
    assert not plus.eq(0).any()
    centre = noise.factors(torch.arange(36.0), -1).weights(noise.parts, torch.empty(36))
    assert centre.equal(torch.arange(36.0))


@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**63 - 1])
@pytest.mark.parametrize("rank", [1, 4])
def test_elements_have_mean_0_variance_sigma_squared_and_no_correlation(seed, rank):
    noise = noise_of(nn.Linear(7, 6), rank, sigma=0.5, seed=seed)
    eps = members(noise, 20_000).double().numpy() / 0.5
    # the law: the mean of n values lies within 5 standard errors; the fourth moment of a product is at most 9
    assert np.abs(eps.mean(axis=0)).max() < 5 / np.sqrt(len(eps))
    moments = eps.T @ eps / len(eps)
    assert np.abs(moments - np.eye(len(moments))).max() < 5 * np.sqrt(9 / len(eps))


def test_a_copy_that_travelled_makes_the_same_members_and_a_generation_has_its_own():
    noise = noise_of(several())
    members(noise, 1)
    assert members(pickle.loads(pickle.dumps(noise)), 2).equal(members(noise, 2))
    assert not members(noise_of(several(), generation=5), 1).equal(members(noise, 1))


@pytest.mark.parametrize("rank", [1, 4])
@pytest.mark.parametrize("pairs", [1, 130])
def test_the_sum_is_that_of_the_members(rank, pairs):
    noise = noise_of(several(), rank, sigma=1.0)
    linear = np.random.default_rng(0).normal(size=pairs)
    linear[::3] = 0.0
    expected = torch.from_numpy(linear) @ members(noise, pairs).double()
    torch.testing.assert_close(serial_sum(noise, linear)[0].double(), expected, rtol=1e-4, atol=1e-4)


def test_a_row_longer_than_a_block_and_every_cut_of_a_matrix():
    noise = noise_of(nn.ParameterList([torch.zeros(2, BLOCK + 9), torch.zeros(300, 257), torch.zeros(5)]), sigma=1.0)
    linear = np.array([1.0, -2.0, 0.5])
    expected = torch.from_numpy(linear) @ members(noise, 3).double()
    torch.testing.assert_close(serial_sum(noise, linear)[0].double(), expected, rtol=1e-4, atol=1e-4)


def test_the_sum_has_the_same_bits_in_any_order_and_with_any_number_of_threads(monkeypatch):
    used, own = [], low_rank_module._part_sum

    def spied(*arguments):
        used.append(torch.get_num_threads())
        return own(*arguments)

    monkeypatch.setattr(low_rank_module, "_part_sum", spied)
    noise, linear = noise_of(nn.Linear(300, 260)), np.random.default_rng(0).normal(size=130)
    whole = serial_sum(noise, linear)
    parts = torch.empty(len(chunks(noise.dim, 130)), 1, noise.dim)
    other, threads = noise_of(nn.Linear(300, 260)), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for chunk, pairs in reversed(list(enumerate(chunks(noise.dim, 130)))):
            for block in (2, 0, 1):
                other.sum_span(columns(parts[chunk], block), block * BLOCK, pairs, linear, None)
        assert torch.get_num_threads() == 2  # and it gives them back
    finally:
        torch.set_num_threads(threads)
    assert set(used) == {1}  # with more, a product may be cut elsewhere
    assert len(parts) == 3
    total = parts[0]
    for part in parts[1:]:
        total += part
    assert total.equal(whole)


def test_no_coefficient_no_sum():
    assert not serial_sum(noise_of(several()), np.zeros(3)).any()


def test_a_sigma_for_each_parameter():
    module = nn.Linear(8, 4)
    groups = [{"params": [module.weight], "sigma": 0.5}, {"params": [module.bias]}]
    es = OpenAIES(module, lambda _: torch.optim.SGD(groups, lr=0.1), sigma=0.25, rank=1, num_pairs=400)
    zeros = torch.zeros(36)
    noise = torch.stack([es.ask().perturbation.member(zeros, 2 * pair, torch.empty(36)) for pair in range(400)])
    assert noise[:, :32].std() == pytest.approx(0.5, rel=0.1)
    assert noise[:, 32:].std() == pytest.approx(0.25, rel=0.1)


def test_the_gradient_is_unbiased_on_a_quadratic():
    """E[g] is the gradient of the function, here `-(w - 1)` at 0: mean of n estimates within 5 standard errors."""
    module = nn.Linear(6, 5, bias=False)
    nn.init.zeros_(module.weight)
    estimates = []
    for seed in range(300):
        module.weight.grad = None
        es = SearchGradient(module, sigma=0.1, num_pairs=8, shaping="identity", seed=seed, rank=1)
        es.backward(lambda m: -0.5 * (m.weight - 1).square().sum())
        estimates.append(-module.weight.grad.flatten().double())
    estimates = torch.stack(estimates)
    errors = (estimates.mean(0) - 1).abs() / (estimates.std(0) / len(estimates) ** 0.5)
    assert errors.max() < 5


@pytest.mark.parametrize("make", [OpenAIES, ARS])
def test_it_learns_and_goes_on_from_a_state(make):
    torch.manual_seed(0)
    x, target = torch.randn(64, 6), torch.randn(64, 3)

    def fitness(module):
        return -(module(x) - target).square().mean().item()

    def trained(es, generations):
        for _ in range(generations):
            es.tell([fitness(module) for module in es.ask()])
        return es

    module = nn.Linear(6, 3)
    before, options = fitness(module), {"sigma": 0.1, "num_pairs": 8, "rank": 1}
    straight = trained(make(module, **options), 30)
    assert fitness(module) > before + 0.1
    torch.manual_seed(1)
    half = trained(make(nn.Linear(6, 3), **options), 0)
    half.move(torch.zeros(21))
    state = copy.deepcopy(trained(half, 2).state_dict())
    resumed = make(nn.Linear(6, 3), **options)
    resumed.load_state_dict(state)
    assert trained(resumed, 3).theta.equal(trained(half, 3).theta)
    assert straight.rank == 1
    with pytest.raises(ValueError, match=r"`rank` must be the one that the state was made with, 1, got None\."):
        make(nn.Linear(6, 3), sigma=0.1, num_pairs=8).load_state_dict(state)


@pytest.mark.parametrize("make", [PGPE, SNES])
def test_strategies_that_need_sums_of_squares_refuse_it(make):
    with pytest.raises(
        ValueError, match=r"`rank` must be left out with this strategy, got 1: a sigma for each parameter"
    ):
        make(nn.Linear(6, 3), rank=1)
    with pytest.raises(ValueError, match="`squared` must be None"):
        serial_sum(noise_of(nn.Linear(6, 3)), np.ones(2), np.ones(2))


def test_search_by_actions_refuses_it():
    from torch_es.search.action_space import ActionSpaceES

    with pytest.raises(
        ValueError, match=r"`rank` must be left out with this strategy, got 1: the weights have no noise"
    ):
        ActionSpaceES(nn.Linear(6, 3), rank=1)


@pytest.mark.parametrize("rank", [0, -1])
def test_a_rank_is_at_least_1(rank):
    with pytest.raises(ValueError, match=f"`rank` must be at least 1, got {rank}"):
        OpenAIES(nn.Linear(6, 3), rank=rank)
    with pytest.raises(TypeError, match="`rank`"):
        OpenAIES(nn.Linear(6, 3), rank=1.5)


@pytest.mark.parametrize(
    ("target", "way_out"),
    [
        (torch.zeros(9), "the module has none, so leave it out"),
        (nn.GRU(4, 4), "the module has none, so leave it out"),
        (nn.Sequential(nn.Linear(2, 2), nn.Linear(4, 3)), "at most 2 is possible here"),
    ],
    ids=["vector", "recurrent", "small"],
)
def test_nothing_to_factor(target, way_out):
    with pytest.raises(
        ValueError, match=rf"`rank` must be below both sides of some trainable matrix .* layers, got 4; {way_out}\."
    ):
        OpenAIES(target, rank=4)


def test_the_log_says_which_matrices_are_dense(caplog):
    with caplog.at_level(logging.INFO):
        low_rank(FlatParameters(several()), 2)
    assert "Noise of rank 2 on 78,251 of" in caplog.text
    assert "among them the matrices 3.weight_ih, 3.weight_hh, 4.weight" in caplog.text
