"""The step of a large module has the bits of the step at once, is whole or does not happen, and leaves the module."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from torch_es import ARS, ES, OpenAIES
from torch_es.errors import NonFiniteError
from torch_es.search.by_parts import part_sum
from torch_es.search.low_rank import LowRank, factored
from torch_es.search.parameters import FlatParameters
from torch_es.search.perturbation import Mirrored, serial_sum

X = torch.randn(32, 200, generator=torch.Generator().manual_seed(1))
CPU = torch.device("cpu")
SGD = partial(torch.optim.SGD, lr=0.05, momentum=0.9)


def module(dtype=torch.float32):
    torch.manual_seed(0)
    layers = [nn.Linear(200, 300), nn.LayerNorm(300), nn.Tanh(), nn.Linear(300, 120), nn.Linear(120, 1)]
    return nn.Sequential(*layers).to(dtype)


def mixed():
    whole = module()
    whole[3].to(torch.bfloat16)
    return whole


def fitness(module):
    dtype = next(module.parameters()).dtype
    x = torch.tanh(module[1](module[0](X.to(dtype))))
    out = module[4](module[3](x.to(module[3].weight.dtype)).to(dtype))
    return -(out.float() - X[:, :1]).square().mean().item()


class Replacing(torch.optim.SGD):
    """Gives each parameter new memory, as optimisers of one's own often do."""

    def step(self):
        for p in self.param_groups[0]["params"]:
            if p.grad is not None:
                p.data = p.data - 0.05 * p.grad


@pytest.fixture
def large(monkeypatch):
    return lambda: monkeypatch.setattr("torch_es.search.parameters.LARGE", 1000)


@pytest.mark.parametrize("rank", [None, 2])
@pytest.mark.parametrize(
    "make",
    [partial(OpenAIES, optimizer=SGD), OpenAIES, ARS, partial(OpenAIES, optimizer=partial(Replacing, lr=0.05))],
    ids=["momentum", "adam", "ars", "new memory"],
)
@pytest.mark.parametrize(
    "build", [module, partial(module, torch.bfloat16), mixed], ids=["float32", "bfloat16", "mixed"]
)
def test_a_run_has_the_bits_of_a_small_modules(build, make, rank, large):
    def trained():
        strategy = make(build(), num_pairs=70, sigma=0.05, rank=rank)
        metrics = [strategy.tell([fitness(member) for member in strategy.ask()]) for _ in range(3)]
        return strategy, metrics

    (small, expected), _ = trained(), large()
    strategy, metrics = trained()
    assert strategy.parameters.by_parts
    assert not small.parameters.by_parts
    assert strategy.theta.equal(small.theta)
    for ours, theirs in zip(strategy.parameters.named.values(), small.parameters.named.values(), strict=True):
        assert ours.equal(theirs)
    for ours, theirs in zip(metrics, expected, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)


@pytest.mark.parametrize("kind", ["dense", "low rank"])
def test_parts_of_members_and_sums_are_those_of_the_whole(kind):
    parameters = FlatParameters(module())
    dim, theta = parameters.dim, parameters.read_masters()
    sigma = torch.cat([torch.full((size,), 0.1 + i) for i, size in enumerate(parameters.sizes)])
    for given in (0.5, sigma):
        noise = Mirrored(0, 3, dim, given)
        if kind == "low rank":
            noise = LowRank(0, 3, dim, given, factored(parameters, 2))
        linear = np.random.default_rng(0).normal(size=150)
        whole, member, start = serial_sum(noise, linear), noise.member(theta, 5, torch.empty(dim)), 0
        for size in parameters.sizes:
            own = slice(start, start + size)
            assert noise.part(theta[own], 5, start, torch.empty(size)).equal(member[own])
            assert part_sum(noise, start, start + size, linear, CPU).equal(whole[:, own])
            start += size


@pytest.mark.parametrize("most", [1, 100, 1 << 21], ids=["each alone", "some together", "all together"])
def test_draws_of_low_rank_that_are_too_many_to_keep(monkeypatch, most):
    parameters = FlatParameters(module())
    noise = partial(LowRank, 0, 3, parameters.dim, 0.5, factored(parameters, 2))
    linear = np.random.default_rng(0).normal(size=150)
    expected = serial_sum(noise(), linear)
    monkeypatch.setattr("torch_es.search.low_rank._KEPT", 0)
    monkeypatch.setattr("torch_es.search.low_rank._WINDOW", most * 150)
    assert serial_sum(noise(), linear).equal(expected)


@pytest.mark.parametrize("build", [module, partial(module, torch.bfloat16)], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("lr", [float("inf"), 1e38], ids=["refused by torch", "overflow"])
def test_a_step_that_is_not_finite_changes_nothing(build, lr, large):
    large()
    strategy = OpenAIES(build(), partial(torch.optim.Adam, lr=0.02), num_pairs=4, sigma=0.05)
    strategy.tell([fitness(member) for member in strategy.ask()])
    theta, state = strategy.theta.clone(), copy.deepcopy(strategy.optimizer.state_dict()["state"])
    weights = copy.deepcopy(strategy.parameters.module.state_dict())
    returns = [fitness(member) for member in strategy.ask()]
    last = strategy.optimizer.param_groups[0]["params"].pop()  # all but the last parameter could be stepped
    strategy.optimizer.add_param_group({"params": [last], "lr": lr})
    with pytest.raises(NonFiniteError, match=r"lower the learning rate"):
        strategy.tell(returns)
    assert strategy.theta.equal(theta)
    assert all(value.equal(weights[name]) for name, value in strategy.parameters.module.state_dict().items())
    for number, values in strategy.optimizer.state_dict()["state"].items():
        assert all(torch.equal(value, state[number][name]) for name, value in values.items())
    strategy.optimizer.param_groups[1]["lr"] = 0.02
    strategy.tell(returns)  # and it goes on
    assert strategy.generation == 2


@pytest.mark.parametrize("end", [6e4, -6e4], ids=["top", "bottom"])
def test_a_step_beyond_low_precision_changes_nothing(end, large):
    """Where theta is still finite in float32, and one element of the module would not be."""
    large()
    network = nn.Linear(40, 40, bias=False).half()
    nn.init.zeros_(network.weight)
    network.weight.data[3, 5] = end
    strategy = OpenAIES(network, partial(torch.optim.SGD, lr=1.0), num_pairs=1, sigma=1e-3)
    strategy.optimizer.param_groups[0]["weight_decay"] = -0.2
    theta = strategy.theta.clone()
    with pytest.raises(NonFiniteError, match="The update would make parameters non-finite"):
        strategy.tell([0.0, 0.0])
    assert strategy.theta.equal(theta)


def test_a_gradient_that_is_not_finite_changes_nothing(large):
    large()
    strategy = OpenAIES(module(), num_pairs=2, sigma=1e-30, shaping=lambda returns: returns * 1e30)
    theta = strategy.theta.clone()
    with pytest.raises(NonFiniteError, match="The gradient is not finite"):
        strategy.tell([1.0, 2.0, 3.0, 5.0])
    assert strategy.theta.equal(theta)
    assert strategy.generation == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_after_a_generation_that_is_told_nothing_the_module_is_what_it_was(dtype, large):
    large()
    network = module(dtype).train()
    before = copy.deepcopy(network.state_dict())
    with ES(network, fitness_fn=fitness, num_workers=0, num_pairs=3, eval_every=0, rank=1) as es:
        played = [es.play(member).return_ for member in range(6)]
        with pytest.raises(ZeroDivisionError):
            ES(network, fitness_fn=lambda _: 1 / 0, num_workers=0, eval_every=0).play(0)
    assert len(set(played)) == 6
    assert all(value.equal(before[name]) for name, value in network.state_dict().items())
    assert all(part.training for part in network.modules())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_es_saves_and_goes_on_bit_for_bit(dtype, tmp_path, large):
    def make(limit, folder):
        es = ES(module(dtype), fitness_fn=fitness, num_workers=0, num_pairs=3, eval_every=2, rank=1)
        return es.learn(
            10**9, callback=lambda row: row["time/iterations"] < limit, folder=tmp_path / folder, resume=True
        )

    small = make(4, "small")
    large()
    straight = make(4, "straight")
    make(2, "halves")
    resumed = make(4, "halves")
    for each in (straight, resumed):
        assert each.strategy.theta.equal(small.strategy.theta)
        assert each.trainer.best["theta"].equal(small.trainer.best["theta"])
    replayed = ES(module(dtype), fitness_fn=fitness, num_workers=0, num_pairs=3, eval_every=2, rank=1)
    replayed.replay(tmp_path / "straight" / "replay.log", 4)
    assert replayed.strategy.theta.equal(small.strategy.theta)


class Counting(torch.optim.Optimizer):
    """Counts its steps in the group, as schedule-free optimisers do."""

    def __init__(self, params):
        super().__init__(params, {"lr": 0.1, "steps": 0})

    def step(self):
        for group in self.param_groups:
            group["steps"] += 1
            for p in group["params"]:
                if p.grad is not None:
                    p.data.sub_(p.grad * group["lr"] / group["steps"])


def hooked(params):
    optimizer = torch.optim.SGD(params, lr=0.1)
    optimizer.register_step_pre_hook(lambda *_: None)
    return optimizer


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Counting, "`optimizer` must not count in its groups, as it does in `steps`"),
        (hooked, "must have no step hooks"),
    ],
)
def test_an_optimiser_whose_step_is_of_all_parameters_is_refused(make, message, large):
    OpenAIES(module(), make, num_pairs=2).tell([1.0, 2.0, 3.0, 5.0])
    large()
    strategy = OpenAIES(module(), make, num_pairs=2)
    theta, options = strategy.theta.clone(), copy.deepcopy(strategy.optimizer.state_dict())
    with pytest.raises(ValueError, match=rf"{message}.*is stepped one parameter at a time"):
        strategy.tell([1.0, 2.0, 3.0, 5.0])
    assert strategy.theta.equal(theta)
    assert strategy.optimizer.state_dict() == options


def test_a_step_that_is_ended_in_its_middle_is_not_saved(large):
    large()
    strategy = OpenAIES(module(), SGD, num_pairs=2)
    step, steps, saved = strategy.optimizer.step, [], copy.deepcopy(strategy.state_dict())

    def interrupted():
        if steps.append(None) or len(steps) > 10:  # of eight parameters, in the second pass
            raise KeyboardInterrupt
        return step()

    strategy.optimizer.step = interrupted
    theta = strategy.theta.clone()
    with pytest.raises(KeyboardInterrupt):
        strategy.tell([1.0, 2.0, 3.0, 5.0])
    assert not strategy.theta.equal(theta)
    with pytest.raises(NonFiniteError, match="The last step failed in its middle"):
        strategy.state_dict()
    del strategy.optimizer.step
    with pytest.raises(NonFiniteError, match="so the module is not whole; load a checkpoint"):
        strategy.tell([1.0, 2.0, 3.0, 5.0])
    strategy.load_state_dict(saved)
    strategy.tell([1.0, 2.0, 3.0, 5.0])


@pytest.mark.parametrize("by_parts", [False, True])
def test_a_fused_optimiser_steps_as_others_do_whatever_the_layout(by_parts, large):
    if by_parts:
        large()
    thetas = []
    for fused in (False, True):
        torch.manual_seed(0)
        convolution = nn.Conv2d(3, 40, 3).to(memory_format=torch.channels_last)
        strategy = OpenAIES(convolution, partial(torch.optim.Adam, lr=0.02, fused=fused), num_pairs=2)
        strategy.tell([1.0, 2.0, 3.0, 5.0])
        thetas.append(strategy.theta)
    assert torch.allclose(*thetas, atol=1e-6)


def test_actions_are_searched_with_a_large_network_too(large):
    large()
    network = nn.Sequential(nn.Linear(4, 200), nn.Tanh(), nn.Linear(200, 2))
    es = ES(network, "CartPole-v1", sigma=0, action_noise="sample", num_workers=0, num_pairs=2)
    assert es.strategy.parameters.by_parts
    theta = es.strategy.theta.clone()
    assert not es.learn(10).strategy.theta.equal(theta)
