"""What every strategy stands on: theta, the module, the optimiser and its scheduler."""

import copy
import pickle
import subprocess
import sys
from collections import deque
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from torch_es.errors import NonFiniteError
from torch_es.search import ARS, PGPE, SNES, OpenAIES, Outcome


@pytest.mark.parametrize("saved_with", [True, False])
def test_a_scheduler_on_one_side_alone_is_named(saved_with):
    scheduler = {"scheduler": partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.9)}
    saved, own = (scheduler, {}) if saved_with else ({}, scheduler)
    rule, had = ("given", "one") if saved_with else ("left out", "none")
    with pytest.raises(ValueError, match=f"`scheduler` must be {rule}: the state was saved with {had}.*begin anew"):
        OpenAIES(torch.zeros(3), **own).load_state_dict(OpenAIES(torch.zeros(3), **saved).state_dict())


def test_the_scheduler_steps_once_a_generation():
    halve = partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.5)
    strategy = OpenAIES(torch.zeros(3), num_pairs=16, optimizer=partial(torch.optim.SGD, lr=0.8), scheduler=halve)
    returns = np.random.default_rng(0).normal(size=(16, 2))
    assert [strategy.tell(returns)["train/learning_rate"] for _ in range(2)] == [0.8, 0.4]
    assert strategy.optimizer.param_groups[0]["lr"] == 0.2


def test_param_groups_have_their_own_sigma_and_learning_rate():
    module = nn.Sequential(nn.Linear(2, 50, bias=False), nn.Linear(50, 2, bias=False))

    def optimizer(_):
        return torch.optim.SGD(
            [{"params": [module[0].weight], "sigma": 0.5}, {"params": [module[1].weight], "lr": 0.0}], 1
        )

    strategy = OpenAIES(module, optimizer, sigma=0.01, num_pairs=50)
    theta = strategy.theta.clone()
    moved = torch.stack([strategy.ask().member(i) - theta for i in range(len(strategy.ask()))])
    assert moved[:, :100].std().item() == pytest.approx(0.5, rel=0.05)
    assert moved[:, 100:].std().item() == pytest.approx(0.01, rel=0.05)
    strategy.tell(np.random.default_rng(0).normal(size=(50, 2)))
    assert not torch.equal(strategy.theta[:100], theta[:100])
    assert torch.equal(strategy.theta[100:], theta[100:])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_exception_among_the_members_leaves_the_centre_where_it_was(dtype):
    module = nn.Linear(3, 1, dtype=dtype)
    before = [p.clone() for p in module.parameters()]
    returns = np.random.default_rng(0).normal(size=(16, 2))
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
    assert torch.equal(strategy.theta, undisturbed.theta)
    del held
    unfinished.close()
    for now, then in zip(module.parameters(), undisturbed.parameters.module.parameters(), strict=True):
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
        strategy.tell(np.random.default_rng(0).normal(size=(16, 2)))
    assert torch.equal(strategy.theta, torch.ones(3))


def test_bfloat16_modules_learn_through_a_float32_master():
    module = nn.Linear(3, 1).to(torch.bfloat16)
    strategy = OpenAIES(module, partial(torch.optim.SGD, lr=1e-4))
    start = strategy.theta.clone()
    strategy.tell(np.random.default_rng(0).normal(size=(16, 2)))
    assert strategy.theta.dtype == torch.float32
    assert not torch.equal(strategy.theta, start)
    assert module.weight.dtype == torch.bfloat16


def test_returns_that_are_all_equal_are_named_once(caplog):
    """As they are for who evaluates `list(strategy.ask())`: the members of a module are one module."""
    module = nn.Linear(3, 1)
    strategy = OpenAIES(module, num_pairs=4)
    for _ in range(2):
        strategy.tell([float(member.weight.detach().sum()) for member in list(strategy.ask())])
    (record,) = caplog.records
    assert "evaluate them in the loop, not from `list(strategy.ask())`" in record.message


def test_a_search_may_begin_and_continue_in_inference_mode():
    def search():
        return OpenAIES(torch.zeros(3), num_pairs=2, optimizer=partial(torch.optim.SGD, lr=0.1, momentum=0.9))

    returns = [np.random.default_rng(number).normal(size=(2, 2)) for number in range(3)]
    strategy, continued, straight = search(), search(), search()
    with torch.inference_mode():
        strategy.tell(returns[0])
    strategy.tell(returns[1])
    with torch.inference_mode():
        continued.load_state_dict(strategy.state_dict())
    continued.tell(returns[2])
    for each in returns:
        straight.tell(each)
    assert torch.equal(continued.theta, straight.theta)


def test_a_flag_that_is_set_afterwards_is_refused_before_the_step():
    strategy = OpenAIES(torch.zeros(3), num_pairs=2)
    strategy.optimizer.param_groups[0]["maximize"] = True
    with pytest.raises(ValueError, match=r"`optimizer` must not have `maximize=True`: .* for the worst"):
        strategy.tell([1.0, 2.0, 3.0, 4.0])
    assert not strategy.theta.any()
    assert strategy.state_dict()["generation"] == 0


@pytest.mark.parametrize("number", [6, 10])
def test_every_member_must_be_told(number):
    strategy = OpenAIES(torch.zeros(3), num_pairs=4)
    with pytest.raises(ValueError, match=f"`tell` must get a fitness for each of 8 members, got {number}"):
        strategy.tell(list(range(number)))
    with pytest.raises(TypeError, match=r"`tell` must get numbers, got \[1.0, None"):
        strategy.tell([1.0, None, *range(6)])
    with pytest.raises(TypeError, match=r"`tell` must get numbers, got \{0: 1.0\}"):
        strategy.tell({0: 1.0})
    assert strategy.generation == 0


def test_a_plateau_of_what_should_fall_is_refused():
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau
    OpenAIES(torch.zeros(3), scheduler=partial(plateau, mode="max"))
    with pytest.raises(ValueError, match=r"`scheduler` gets the mean return, which should rise: .* mode='max'"):
        OpenAIES(torch.zeros(3), scheduler=plateau)


def test_an_error_of_the_optimiser_that_is_no_overflow_stays_what_it_is():
    strategy = OpenAIES(torch.zeros(3), num_pairs=1)
    strategy.optimizer.register_step_pre_hook(lambda *_: (_ for _ in ()).throw(RuntimeError("out of memory")))
    with pytest.raises(RuntimeError, match=r"^out of memory$"):
        strategy.tell([1.0, 2.0])
    assert strategy.theta.equal(torch.zeros(3))


def test_the_state_of_another_optimiser_is_refused():
    state = OpenAIES(torch.zeros(3), torch.optim.Adam).state_dict()
    with pytest.raises(ValueError, match="`optimizer` must be the one of the state, which has no dampening, momentum"):
        OpenAIES(torch.zeros(3), torch.optim.SGD).load_state_dict(state)


def climb(strategy, number):
    """So many generations towards ones."""
    for _ in range(number):
        strategy.tell([-float((member - 1).square().sum()) for member in strategy.ask()])
    return strategy.theta.tolist()


@pytest.mark.parametrize("make", [OpenAIES, PGPE, SNES, ARS])
def test_a_state_stays_what_it_is_while_training_goes_on_and_belongs_to_nobody(make):
    one, other = make(torch.zeros(2), num_pairs=4), make(torch.zeros(2), num_pairs=4)
    climb(one, 3)
    kept = one.state_dict()
    straight = climb(one, 5)
    one.load_state_dict(kept)
    other.load_state_dict(kept)
    for _ in range(5):
        again, beside = climb(one, 1), climb(other, 1)
    assert straight == again == beside


def test_a_step_that_was_refused_leaves_no_trace():
    made = partial(torch.optim.SGD, lr=1e38, momentum=0.9)
    strategy = OpenAIES(torch.zeros(2), made, sigma=1e-3, num_pairs=2, shaping="identity")
    fresh = OpenAIES(torch.zeros(2), made, sigma=1e-3, num_pairs=2, shaping="identity")
    with pytest.raises(NonFiniteError, match="lower the learning rate"):
        strategy.tell([1e3, 2, 3, 4])
    for each in (strategy, fresh):
        each.optimizer.param_groups[0]["lr"] = 0.01
        each.tell([1.0, 2, 3, 4])
    assert torch.equal(strategy.theta, fresh.theta)
    assert strategy.state_dict()["generation"] == 1


def test_weights_that_float16_cannot_hold_are_refused_before_they_are_infinite():
    module = nn.Linear(1, 1, bias=False).half()
    nn.init.constant_(module.weight, 65_000)
    strategy = OpenAIES(module, partial(torch.optim.SGD, lr=1e5), num_pairs=2)
    with pytest.raises(NonFiniteError, match="would make parameters non-finite"):
        strategy.tell([4.0, 1, 3, 2])
    assert module.weight.item() == 65_000 - 65_000 % 32


def test_what_is_done_to_the_module_between_generations_counts():
    module = nn.Linear(2, 1)
    strategy = OpenAIES(module, partial(torch.optim.SGD, lr=0.01), num_pairs=2)
    climbed = strategy.tell([1.0, 2, 3, 4])
    assert climbed["es/dropped_pairs"] == 0
    module.load_state_dict({"weight": torch.full((1, 2), 100.0), "bias": torch.zeros(1)})
    strategy.tell([1.0, np.nan, 3, 4])
    assert (module.weight > 99).all()
    module.bias.requires_grad_(False)
    with pytest.raises(ValueError, match=r"must keep the trainable parameters .* bias was replaced, frozen, added"):
        strategy.ask()


def test_a_strategy_that_was_asked_is_copied_and_sent_with_its_own_centre():
    strategy = OpenAIES(nn.Linear(2, 1, bias=False), num_pairs=2)
    strategy.ask()
    for other in (copy.deepcopy(strategy), pickle.loads(pickle.dumps(strategy))):
        other.move(torch.full((2,), 55.0))
        deque(other.ask(), maxlen=0)
        assert (other.parameters.module.weight == 55).all()
        assert not (strategy.theta == 55).any()


def test_a_state_of_another_strategy_is_refused():
    one, other = OpenAIES(torch.zeros(2), num_pairs=2), PGPE(torch.zeros(2), num_pairs=2)
    with pytest.raises(ValueError, match="The state is of another strategy: it has one sigma for all parameters"):
        other.load_state_dict(one.state_dict())
    with pytest.raises(ValueError, match="The state is of another strategy: it has a sigma for each parameter"):
        one.load_state_dict(other.state_dict())


def test_a_plateau_is_of_returns_where_fitness_is_relative():
    plateau = partial(torch.optim.lr_scheduler.ReduceLROnPlateau, mode="max", patience=0, factor=0.5)
    strategy = OpenAIES(torch.zeros(2), num_pairs=2, scheduler=plateau)
    fitness = np.array([1.0, -1, 2, -2])  # its mean never rises
    for mean in range(4):
        told = strategy.tell(Outcome(fitness, fitness[:, None] + mean))
    assert told["train/learning_rate"] == 0.02


@pytest.mark.parametrize("returns", [["1", "2", "3", "4"], [[None, 1.0], [2.0, 3.0]], np.ones(4, complex)])
def test_what_are_no_numbers_is_refused(returns):
    with pytest.raises(TypeError, match="`tell` must get numbers, got"):
        OpenAIES(torch.zeros(2), num_pairs=2).tell(returns)


def test_a_matrix_is_no_vector():
    with pytest.raises(ValueError, match=r"`target` must be a vector, got the shape \(2, 3\); call `.flatten\(\)`"):
        OpenAIES(torch.zeros(2, 3))


def test_a_step_that_is_refused_leaves_the_optimisers_state():
    es = OpenAIES(nn.Linear(2, 1), partial(torch.optim.Adam, lr=0.1), num_pairs=2)
    es.tell([1.0, 0.0, 2.0, 5.0])
    before = es.state_dict()["optimizer"]["state"]
    es.optimizer.param_groups[0]["lr"] = float("inf")
    with pytest.raises(NonFiniteError):
        es.tell([1.0, 3.0, 2.0, 5.0])
    after = es.state_dict()["optimizer"]["state"]
    assert all(torch.equal(before[i][k], after[i][k]) for i in before for k in before[i])


def test_a_scheduler_that_ended_goes_on_from_an_earlier_state():
    schedule = partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=0.1, total_steps=3)
    es = OpenAIES(torch.zeros(2), partial(torch.optim.SGD, lr=0.1, momentum=0.9), num_pairs=2, scheduler=schedule)
    early = es.state_dict()
    with pytest.raises(ValueError, match="cannot go on"):
        all(es.tell([1.0, 2, 3, 4]) for _ in range(9))
    es.load_state_dict(early)
    es.tell([1.0, 2, 3, 4])
    assert es.generation == 1
