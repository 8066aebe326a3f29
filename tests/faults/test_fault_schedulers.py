"""F29 with every scheduler of torch: it steps once a generation, and a resumed run follows it as a straight one."""

import inspect
from functools import partial

import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler

from torch_es import OpenAIES
from torch_es.runs import checkpoint

GENERATIONS = 9
SCHEDULERS = {  # each changes the rate within nine generations
    "ChainedScheduler": lambda o: lr_scheduler.ChainedScheduler([lr_scheduler.ExponentialLR(o, 0.9),
                                                                 lr_scheduler.MultiStepLR(o, [3, 6])]),
    "ConstantLR": partial(lr_scheduler.ConstantLR, total_iters=5),
    "CosineAnnealingLR": partial(lr_scheduler.CosineAnnealingLR, T_max=6),
    "CosineAnnealingWarmRestarts": partial(lr_scheduler.CosineAnnealingWarmRestarts, T_0=4),
    "CyclicLR": partial(lr_scheduler.CyclicLR, base_lr=0.1, max_lr=0.5, step_size_up=3),
    "ExponentialLR": partial(lr_scheduler.ExponentialLR, gamma=0.9),
    "LambdaLR": partial(lr_scheduler.LambdaLR, lr_lambda=lambda generation: 0.9**generation),
    "LinearLR": partial(lr_scheduler.LinearLR, total_iters=7),
    "MultiStepLR": partial(lr_scheduler.MultiStepLR, milestones=[2, 6]),
    "MultiplicativeLR": partial(lr_scheduler.MultiplicativeLR, lr_lambda=lambda generation: 0.9),
    "OneCycleLR": partial(lr_scheduler.OneCycleLR, max_lr=0.5, total_steps=GENERATIONS + 1),
    "PolynomialLR": partial(lr_scheduler.PolynomialLR, total_iters=GENERATIONS),
    "ReduceLROnPlateau": partial(lr_scheduler.ReduceLROnPlateau, mode="max", patience=1),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o, total_iters=2), lr_scheduler.MultiStepLR(o, [2, 4])], milestones=[3]),
    "StepLR": partial(lr_scheduler.StepLR, step_size=2),
}  # fmt: skip


def strategy(name):
    optimizer = partial(torch.optim.SGD, lr=0.2, momentum=0.9)
    return OpenAIES(torch.zeros(3), optimizer, num_pairs=4, scheduler=SCHEDULERS[name])


def advance(trained, first, last):
    """Tell it returns that stop growing; the rates that its generations had."""
    returns = np.random.default_rng(0).normal(size=(GENERATIONS, 4, 2))
    returns[3:] -= 10
    return [trained.tell(returns[generation])["train/learning_rate"] for generation in range(first, last)]


def test_every_scheduler_of_torch_stands_in_the_table():
    found = {name for name, kind in vars(lr_scheduler).items()
             if inspect.isclass(kind) and issubclass(kind, lr_scheduler.LRScheduler)}  # fmt: skip
    assert found - {"LRScheduler", "_LRScheduler"} == set(SCHEDULERS)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_F29_a_resumed_run_follows_its_scheduler(name, tmp_path):
    straight = strategy(name)
    rates = advance(straight, 0, GENERATIONS)
    assert len(set(rates)) > 1
    for generation in (1, 3, 5):
        halves, resumed = strategy(name), strategy(name)
        assert advance(halves, 0, generation) == rates[:generation]
        checkpoint.save(tmp_path / "c", halves.state_dict())
        resumed.load_state_dict(checkpoint.load(tmp_path / "c"))
        assert advance(resumed, generation, GENERATIONS) == rates[generation:]
        assert torch.equal(resumed.theta, straight.theta)
