"""One contract over every strategy."""

import copy
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from torch_es.errors import NonFiniteError
from torch_es.runs import checkpoint
from torch_es.search import STRATEGIES, OpenAIES

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
        ({"non_finite": "rais"}, "`non_finite` must be one of drop, raise; got 'rais'. Did you mean `raise`"),
        ({"optimizer": torch.optim.LBFGS}, "`optimizer` must not be LBFGS: .* a generation gives one gradient"),
        ({"optimizer": torch.optim.SparseAdam}, "`optimizer` must not be SparseAdam: it takes sparse gradients"),
        ({"optimizer": torch.optim.Muon}, "Muon only supports 2D parameters"),
    ],
)
def test_bad_arguments_are_named(name, options, message):
    if name != "ars":
        options = {k: v for k, v in options.items() if k != "num_top"}
    with pytest.raises(ValueError, match=message):
        make(name, **options)


@pytest.mark.parametrize("name", STRATEGIES)
def test_muon_moves_a_module_of_matrices(name):
    module = nn.Sequential(nn.Linear(3, 4, bias=False), nn.Linear(4, 2))
    module[1].bias.requires_grad_(False)
    before = module[0].weight.clone()
    strategy = make(name, module, optimizer=torch.optim.Muon)
    strategy.tell(np.random.default_rng(0).normal(size=(16, 2)))
    assert not torch.equal(module[0].weight, before)


@pytest.mark.parametrize("saved_with", [True, False])
def test_a_scheduler_on_one_side_alone_is_named(saved_with):
    scheduler = {"scheduler": partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.9)}
    saved, own = (scheduler, {}) if saved_with else ({}, scheduler)
    rule, had = ("given", "one") if saved_with else ("left out", "none")
    with pytest.raises(ValueError, match=f"`scheduler` must be {rule}: the state was saved with {had}"):
        make("openai_es", **own).load_state_dict(make("openai_es", **saved).state_dict())


def test_the_scheduler_steps_once_a_generation():
    halve = partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.5)
    strategy = make("openai_es", optimizer=partial(torch.optim.SGD, lr=0.8), scheduler=halve)
    returns = np.random.default_rng(0).normal(size=(16, 2))
    assert [strategy.tell(returns)["train/learning_rate"] for _ in range(2)] == [0.8, 0.4]
    assert strategy.centre.optimizer.param_groups[0]["lr"] == 0.2


def noise_of(strategy, num_pairs):
    eps = np.empty((num_pairs, 3), np.float32)
    for pair in range(num_pairs):
        strategy.centre.noise.fill(eps[pair], 0, pair)
    return eps.astype(np.float64)


def test_a_step_of_pgpe_by_hand():
    returns = np.array([[3.0, 1.0], [-1.0, 0.0]])  # means 2 and -0.5, of all 0.75
    strategy = make(
        "pgpe", num_pairs=2, sigma=0.5, sigma_lr=0.01, shaping="identity", optimizer=partial(torch.optim.SGD, lr=0.1)
    )
    a, b = noise_of(strategy, 2)
    strategy.tell(returns)
    theta = 0.1 * (2 * a - 1 * b) / (2 * 2) / 0.5
    sigma = 0.5 + 0.01 * 0.5 / 2 * (1.25 * (a**2 - 1) - 1.25 * (b**2 - 1))
    np.testing.assert_allclose(strategy.centre.theta, theta, rtol=1e-5)
    np.testing.assert_allclose(strategy.sigma, sigma, rtol=1e-5)
    assert np.abs(sigma - 0.5).min() > 1e-4  # it moved


def test_a_step_of_ars_by_hand():
    returns = np.array([[1.0, 3.0], [0.0, -9.0], [7.0, 5.0], [2.0, 1.0]])  # the best two are the third and the first
    strategy = make("ars", num_pairs=4, num_top=2, optimizer=partial(torch.optim.SGD, lr=0.1))
    first, _, third, _ = noise_of(strategy, 4)
    strategy.tell(returns)
    deviation = np.sqrt(5)  # of 1, 3, 7 and 5, whose mean is 4
    theta = 0.1 * (-2 * first + 2 * third) / (2 * deviation)
    np.testing.assert_allclose(strategy.centre.theta, theta, rtol=1e-5)


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_exception_among_the_members_leaves_the_centre_where_it_was(dtype):
    module = nn.Linear(3, 1, dtype=dtype)
    before = [p.clone() for p in module.parameters()]
    returns = np.random.default_rng(0).normal(size=(32, 2))
    undisturbed = OpenAIES(copy.deepcopy(module), sigma=0.5)
    undisturbed.tell(returns)

    def bad(member):
        raise RuntimeError("broken fitness")

    strategy = OpenAIES(module, sigma=0.5)
    with pytest.raises(RuntimeError, match="broken fitness"):
        strategy.tell([bad(m) for m in strategy.ask()])
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))
    with pytest.raises(RuntimeError, match="broken fitness") as held:  # and its traceback, which holds the iterator
        strategy.tell([bad(m) for m in strategy.ask()])
    unfinished = iter(strategy.ask())
    next(unfinished)
    strategy.tell(returns)
    assert torch.equal(strategy.centre.theta, undisturbed.centre.theta)
    del held
    unfinished.close()
    for now, then in zip(module.parameters(), undisturbed.centre.parameters.module.parameters(), strict=True):
        assert torch.equal(now, then)


def test_a_script_whose_fitness_raises_ends_with_its_traceback_alone():
    script = "import torch, torch_es; es = torch_es.OpenAIES(torch.nn.Linear(3, 1)); [1 / 0 for member in es.ask()]"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, "ZeroDivisionError: division by zero")


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
