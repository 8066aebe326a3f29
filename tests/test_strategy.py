"""One contract over every strategy."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from torch_es import checkpoint
from torch_es.errors import NonFiniteError
from torch_es.strategy import STRATEGIES, OpenAIES

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
    theta = advance(make(name), 300).centre.theta
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
    before = strategy.centre.theta.clone(), torch.as_tensor(strategy.sigma).clone()
    for _ in range(3):
        strategy.tell([3.7] * 32)
    assert torch.equal(strategy.centre.theta, before[0])
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
        thetas.append(strategy.centre.theta)
    assert torch.isfinite(thetas[0]).all()
    assert torch.equal(*thetas)


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_generation_without_a_finite_pair_raises_and_moves_nothing(name):
    strategy = make(name)
    with pytest.raises(NonFiniteError, match="16 of 16 pairs have a non-finite return"):
        strategy.tell([float("nan")] * 32)
    assert torch.equal(strategy.centre.theta, torch.zeros(3))


def test_raise_names_the_pair():
    strategy = make("openai_es", non_finite="raise")
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
    assert torch.equal(resumed.centre.theta, straight.centre.theta)
    assert torch.equal(torch.as_tensor(resumed.sigma), torch.as_tensor(straight.sigma))


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_seed_decides(name):
    a, b, c = (advance(make(name, seed=s), 3).centre.theta for s in (0, 0, 1))
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
    ],
)
def test_bad_arguments_are_named(name, options, message):
    if name != "ars":
        options = {k: v for k, v in options.items() if k != "num_top"}
    with pytest.raises(ValueError, match=message):
        make(name, **options)


def test_param_groups_have_their_own_sigma_and_learning_rate():
    module = nn.Sequential(nn.Linear(2, 50, bias=False), nn.Linear(50, 2, bias=False))

    def optimizer(_):
        return torch.optim.SGD(
            [{"params": [module[0].weight], "sigma": 0.5}, {"params": [module[1].weight], "lr": 0.0}], 1
        )

    strategy = OpenAIES(module, optimizer, sigma=0.01, num_pairs=50)
    theta = strategy.centre.theta.clone()
    moved = torch.stack([strategy.ask().theta(t) - theta for t in strategy.ask().tasks()])
    assert moved[:, :100].std().item() == pytest.approx(0.5, rel=0.05)
    assert moved[:, 100:].std().item() == pytest.approx(0.01, rel=0.05)
    strategy.tell(np.random.default_rng(0).normal(size=(50, 2)))
    assert not torch.equal(strategy.centre.theta[:100], theta[:100])
    assert torch.equal(strategy.centre.theta[100:], theta[100:])


def test_the_module_is_back_at_the_centre_after_an_exception():
    module = nn.Linear(3, 1)
    before = [p.clone() for p in module.parameters()]
    with pytest.raises(RuntimeError, match="broken fitness"):
        _fail_on_the_third(OpenAIES(module).ask())
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))


def _fail_on_the_third(population):
    members = iter(population)
    for _ in range(3):
        next(members)
    members.close()
    raise RuntimeError("broken fitness")


def test_weights_do_not_drift_over_many_evaluations():
    module = nn.Linear(3, 1)
    before = [p.clone() for p in module.parameters()]
    strategy = OpenAIES(module, num_pairs=500)
    for _ in strategy.ask():
        pass
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))


def test_an_absurd_learning_rate_is_refused_before_it_is_kept():
    strategy = OpenAIES(torch.ones(3), partial(torch.optim.SGD, lr=3e38))
    with pytest.raises(NonFiniteError, match="lower the learning rate"):
        strategy.tell(np.random.default_rng(0).normal(size=(32, 2)))
    assert torch.equal(strategy.centre.theta, torch.ones(3))


def test_bfloat16_modules_learn_through_a_float32_master():
    module = nn.Linear(3, 1).to(torch.bfloat16)
    strategy = OpenAIES(module, partial(torch.optim.SGD, lr=1e-4))
    start = strategy.centre.theta.clone()
    strategy.tell(np.random.default_rng(0).normal(size=(32, 2)))
    assert strategy.centre.theta.dtype == torch.float32
    assert not torch.equal(strategy.centre.theta, start)
    assert module.weight.dtype == torch.bfloat16
