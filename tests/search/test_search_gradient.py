"""`es.backward(fitness_fn)` beside `loss.backward()`."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from torch_es import OpenAIES, SearchGradient
from torch_es.errors import NonFiniteError

SGD = partial(torch.optim.SGD, lr=0.1)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))


def fitness(module):
    return -(module(torch.ones(1, 3)) - 2.0).square().sum()


def test_with_an_optimiser_it_is_openai_es_bit_for_bit():
    one, other = network(), network()
    es, strategy = SearchGradient(one, num_pairs=4, seed=3), OpenAIES(other, SGD, num_pairs=4, seed=3)
    optimizer = SGD(one.parameters())
    for _ in range(3):
        optimizer.zero_grad()
        es.backward(fitness)
        optimizer.step()
        with torch.no_grad():
            strategy.tell([fitness(member) for member in strategy.ask()])
    assert torch.equal(torch.nn.utils.parameters_to_vector(one.parameters()), strategy.theta)


def test_what_is_no_number_is_named_and_changes_nothing():
    module = network()
    before = [p.clone() for p in module.parameters()]
    with pytest.raises(TypeError, match="`fitness_fn` must return a number, got None"):
        SearchGradient(module).backward(lambda module: None)
    assert all(p.grad is None and torch.equal(p, kept) for p, kept in zip(module.parameters(), before, strict=True))


def test_a_word_it_does_not_know_is_refused():
    with pytest.raises(ValueError, match="`non_finite` must be one of drop, raise; got 'rais'"):
        SearchGradient(network(), non_finite="rais")


def test_it_estimates_what_autograd_computes():
    module = nn.Linear(3, 1)
    loss = -fitness(module)
    loss.backward()
    exact = torch.cat([p.grad.flatten() for p in module.parameters()])
    module.zero_grad()
    SearchGradient(module, sigma=0.01, num_pairs=4000, shaping="identity").backward(fitness)
    estimate = torch.cat([p.grad.flatten() for p in module.parameters()])
    assert (estimate - exact).norm() < 0.1 * exact.norm()


def test_it_adds_to_what_autograd_wrote_and_leaves_the_rest_alone():
    model = network()
    model(torch.ones(1, 3)).sum().backward()
    before = [p.grad.clone() for p in model.parameters()]
    kept = model[2].weight.grad
    es = SearchGradient(model[2], num_pairs=4)
    es.backward(lambda _: fitness(model))
    alone = network()
    SearchGradient(alone[2], num_pairs=4).backward(lambda _: fitness(alone))
    after = [p.grad for p in model.parameters()]
    assert all(map(torch.equal, before[:2], after[:2]))
    for now, then, own in zip(after[2:], before[2:], alone[2].parameters(), strict=True):
        torch.testing.assert_close(now, then + own.grad)
    assert model[2].weight.grad is kept  # accumulated in place, as autograd does
    assert alone[0].weight.grad is None


def test_each_estimate_has_noise_of_its_own_and_goes_on_from_a_generation():
    model = network()
    es = SearchGradient(model, num_pairs=2)
    first, second = es.backward(fitness), es.backward(fitness)
    assert first.shape == (2, 2)
    assert not np.array_equal(first, second)
    again = SearchGradient(model, num_pairs=2)
    again.generation = 1
    np.testing.assert_array_equal(again.backward(fitness), second)


class Remembering(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))
        self.register_buffer("seen", torch.zeros(()))

    def forward(self):
        self.seen += 1
        return self.weight.sum() + 100 * (self.seen - 1)


def test_weights_and_buffers_are_what_they_were():
    module = Remembering()
    es = SearchGradient(module, num_pairs=4, sigma=0.1)
    assert np.abs(es.backward(lambda m: m())).max() < 10  # each member began with the buffers as they were
    assert module.seen == 0
    assert not module.weight.any()

    def fails(m):
        m()
        raise OSError("the board fell")

    try:
        es.backward(fails)
    except OSError as error:
        kept = error  # and with it the frame in which members were written
    assert kept.args == ("the board fell",)
    assert module.seen == 0
    assert not module.weight.any()
    assert es.generation == 1


def test_a_buffer_that_the_function_registers_does_no_harm():
    def fitness(module):
        module.register_buffer("mask", torch.ones(2))
        return module()

    module = Remembering()
    SearchGradient(module, num_pairs=2).backward(fitness)
    assert module.seen == 0


def test_frozen_tied_and_low_precision_parameters():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)).to(torch.bfloat16)
    model[1].weight = model[0].weight
    model[0].bias.requires_grad_(False)
    before = [p.clone() for p in model.parameters()]
    SearchGradient(model, num_pairs=2).backward(lambda m: m(torch.ones(1, 2, dtype=torch.bfloat16)).sum())
    assert model[0].bias.grad is None
    assert model[0].weight.grad.dtype == torch.bfloat16
    assert all(map(torch.equal, before, model.parameters()))


def test_equal_returns_are_a_zero_gradient_and_nan_changes_nothing():
    model = network()
    es = SearchGradient(model, num_pairs=4)
    es.backward(lambda _: 1.0)
    assert not any(p.grad.any() for p in model.parameters())
    with pytest.raises(NonFiniteError, match="4 of 4 pairs have a non-finite return"):
        es.backward(lambda _: float("nan"))
    model.zero_grad()
    with pytest.raises(NonFiniteError, match="The gradient is not finite"):
        SearchGradient(model, num_pairs=1, shaping="identity").backward(huge)
    assert all(p.grad is None for p in model.parameters())


def huge(module):
    return 1.5e38 * float(torch.sign(module[0].weight.sum() - network()[0].weight.sum()))


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((torch.zeros(3),), {}, TypeError, "`module` must be a torch.nn.Module, got Tensor"),
        ((nn.Tanh(),), {}, ValueError, "no trainable parameters"),
        ((nn.Linear(1, 1),), {"sigma": 0}, ValueError, "`sigma` must be positive, got 0"),
        ((nn.Linear(1, 1),), {"population_size": 3}, ValueError, "must be even"),
        ((nn.Linear(1, 1),), {"shaping": "rank"}, ValueError, "`shaping` must be one of centered_ranks"),
        ((nn.Linear(1, 1),), {"seed": -1}, ValueError, "`seed` must be at least 0, got -1"),
    ],
)
def test_bad_arguments_are_refused(arguments, options, error, message):
    with pytest.raises(error, match=message):
        SearchGradient(*arguments, **options)


def test_it_adds_to_the_sparse_gradient_of_an_embedding():
    torch.manual_seed(0)
    module = nn.Embedding(9, 4, sparse=True)
    module(torch.tensor([1, 2])).sum().backward()
    before = module.weight.grad.to_dense()
    alone = copy.deepcopy(module)
    alone.zero_grad()
    for each in (module, alone):
        SearchGradient(each, num_pairs=2).backward(lambda m: float(m.weight[1].sum()))
    assert torch.allclose(module.weight.grad, before + alone.weight.grad)


def test_parameters_that_are_frozen_later_are_named():
    module = nn.Linear(2, 1)
    es = SearchGradient(module)
    module.bias.requires_grad_(False)
    with pytest.raises(ValueError, match="bias was replaced, frozen"):
        es.backward(lambda m: float(m.weight.sum()))
