"""One contract over every strategy."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from torch_es.errors import NonFiniteError
from torch_es.runs import checkpoint
from torch_es.search import STRATEGIES

SOLUTION = torch.tensor([0.5, 0.1, -0.3])
SETTINGS = {
    "openai_es": {"optimizer": partial(torch.optim.Adam, lr=0.02), "sigma": 0.05},
    "pgpe": {"optimizer": partial(torch.optim.Adam, lr=0.02), "sigma": 0.1},
    "snes": {"sigma": 0.3},
    "ars": {"optimizer": partial(torch.optim.SGD, lr=0.01), "sigma": 0.05, "num_top": 8},
}


def make(name, target=None, **options):
    target = torch.zeros(3) if target is None else target
    return STRATEGIES[name](target, **{"num_pairs": 16, **SETTINGS[name], **options})


def quadratic(w):
    return -float(((w - SOLUTION) ** 2).sum())


def advance(strategy, generations):
    for _ in range(generations):
        strategy.tell([quadratic(w) for w in strategy.ask()])
    return strategy


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_finds_the_solution(name):
    theta = advance(make(name), 300).theta
    assert (theta - SOLUTION).abs().max() < 0.05


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_trains_a_module_in_place(name):
    module = nn.Linear(3, 1)
    x = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
    y = x @ SOLUTION[:, None] + 0.2

    def fitness(m):
        with torch.no_grad():
            return -float(((m(x) - y) ** 2).mean())

    strategy = make(name, module)
    for _ in range(300):
        strategy.tell([fitness(m) for m in strategy.ask()])
    assert fitness(module) > -0.01


@pytest.mark.parametrize("name", STRATEGIES)
def test_constant_fitness_moves_nothing_bit_for_bit(name):
    strategy = make(name, torch.randn(7, generator=torch.Generator().manual_seed(1)))
    before = strategy.theta.clone(), torch.as_tensor(strategy.sigma).clone()
    for _ in range(3):
        strategy.tell([3.7] * 32)
    assert torch.equal(strategy.theta, before[0])
    assert torch.equal(torch.as_tensor(strategy.sigma), before[1])


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_non_finite_pair_weighs_nothing(name, bad):
    returns = np.random.default_rng(0).normal(size=(16, 2))
    broken = returns.copy()
    broken[3, 0] = bad
    thetas = []
    for partner in (1.0, 1e6):  # whatever the partner returned: the pair is out
        broken[3, 1] = partner
        strategy = make(name)
        strategy.tell(broken)
        thetas.append(strategy.theta)
    assert torch.isfinite(thetas[0]).all()
    assert torch.equal(*thetas)


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_generation_without_a_finite_pair_raises_and_moves_nothing(name):
    strategy = make(name)
    with pytest.raises(NonFiniteError, match="16 of 16 pairs have a non-finite return"):
        strategy.tell([float("nan")] * 32)
    assert torch.equal(strategy.theta, torch.zeros(3))


def test_raise_names_the_pair():
    strategy = make("openai_es", non_finite="raise", num_pairs=4)
    with pytest.raises(NonFiniteError, match="the first is pair 2"):
        strategy.tell([1.0, 2.0, 3.0, 4.0, float("nan"), 1.0, 2.0, 3.0])


@pytest.mark.parametrize("name", STRATEGIES)
def test_resumed_is_straight_bit_for_bit(name, tmp_path):
    options = {
        "optimizer": partial(torch.optim.Adam, lr=0.02, weight_decay=0.01),
        "scheduler": partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.9),
    }
    straight = advance(make(name, **options), 8)
    first = advance(make(name, **options), 4)
    checkpoint.save(tmp_path / "c", first.state_dict())
    resumed = make(name, torch.ones(3), **options)
    resumed.load_state_dict(checkpoint.load(tmp_path / "c"))
    advance(resumed, 4)
    assert torch.equal(resumed.theta, straight.theta)
    assert torch.equal(torch.as_tensor(resumed.sigma), torch.as_tensor(straight.sigma))


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_seed_decides(name):
    a, b, c = (advance(make(name, seed=s), 3).theta for s in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sigma": -0.1}, "`sigma` must be positive, got -0.1"),
        ({"sigma": float("nan")}, "`sigma` must be positive, got nan"),
        ({"num_pairs": 0}, "`num_pairs` must be at least 1, got 0"),
        ({"num_pairs": None, "num_top": None, "population_size": 7}, "`population_size` must be even .* got 7; use 8"),
        ({"population_size": 8}, "not both; got 16 and 8"),
        ({"seed": -1}, "`seed` must be at least 0, got -1"),
        ({"non_finite": "rais"}, "`non_finite` must be one of drop, raise; got 'rais'. Did you mean `raise`"),
        ({"optimizer": torch.optim.LBFGS}, "`optimizer` must not be LBFGS: .* a generation gives one gradient"),
        ({"optimizer": torch.optim.SparseAdam}, "`optimizer` must not be SparseAdam: it takes sparse gradients"),
        ({"optimizer": torch.optim.Muon}, "Muon only supports 2D parameters"),
        ({"optimizer": partial(torch.optim.SGD, lr=1.0, maximize=True)}, "must not have `maximize=True`: .* the worst"),
        ({"optimizer": lambda p: torch.optim.Adam([{"params": p, "maximize": True}])}, "must not have `maximize=True`"),
        ({"optimizer": partial(torch.optim.Adam, differentiable=True)}, "must not have `differentiable=True`"),
        ({"optimizer": partial(torch.optim.Adam, capturable=True)}, "must not have `capturable=True`"),
    ],
)
def test_bad_arguments_are_named(name, options, message):
    if name != "ars":
        options = {k: v for k, v in options.items() if k != "num_top"}
    with pytest.raises(ValueError, match=message):
        make(name, **options)


@pytest.mark.parametrize("change", [1, 1.5])
def test_a_sigma_may_not_change_by_all_of_itself(change):
    with pytest.raises(ValueError, match=rf"`sigma_max_change` must be below 1, or a sigma can .* got {change}"):
        make("pgpe", sigma_max_change=change)


@pytest.mark.parametrize("name", STRATEGIES)
def test_muon_moves_a_module_of_matrices(name):
    module = nn.Sequential(nn.Linear(3, 4, bias=False), nn.Linear(4, 2))
    module[1].bias.requires_grad_(False)
    before = module[0].weight.clone()
    strategy = make(name, module, optimizer=torch.optim.Muon)
    strategy.tell(np.random.default_rng(0).normal(size=(16, 2)))
    assert not torch.equal(module[0].weight, before)


@pytest.mark.parametrize("flag", ["foreach", "fused"])
def test_how_torch_steps_changes_nothing(flag):
    thetas = []
    for value in (False, True):
        strategy = make("openai_es", optimizer=partial(torch.optim.Adam, lr=0.02, **{flag: value}))
        thetas.append(advance(strategy, 5).theta)
    torch.testing.assert_close(*thetas)
