"""What a user of another trainer tries first is refused with what to use instead."""

from functools import partial

import pytest
import torch
from torch import nn

from torch_es import ES, OpenAIES
from torch_es.search import STRATEGIES


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("lr", r"The learning rate belongs to the optimiser: optimizer=partial\(torch.optim.Adam, lr=...\)"),
        ("learning_rate", r"optimizer=partial\(torch.optim.Adam, lr=...\)"),
        ("n_steps", "A generation plays whole episodes; `num_pairs`, `min_episodes` and `min_timesteps` say how many"),
        ("use_sde", "Evolution strategies have no use for it; leave it out"),
        ("n_envs", "`num_workers` is the number of processes"),
        ("total_timesteps", "Give it to `learn`"),
        ("sigmas", "Did you mean `sigma`"),
        ("num_worker", "Did you mean `num_workers`"),
    ],
)
def test_an_argument_of_another_trainer_is_refused_with_what_to_use(name, instead):
    with pytest.raises(
        ValueError, match=f"`{name}` is not an argument of ES with strategy=openai_es.*{instead}"
    ) as told:
        ES(nn.Linear(4, 2), "CartPole-v1", **{name: 1})
    for argument in ("num_workers", "rules", "optimizer", "sigma", "eval_every", "policy"):
        assert f" {argument}," in str(told.value)


@pytest.mark.parametrize("strategy", STRATEGIES.values())
def test_so_it_is_by_a_strategy_that_is_used_by_itself(strategy):
    with pytest.raises(
        TypeError, match=r"`lr` is not an argument of this strategy. .*partial\(torch.optim.Adam, lr=...\)"
    ):
        strategy(torch.zeros(3), lr=0.1)
    with pytest.raises(TypeError, match=r"`sigmas` is not an argument of this strategy. Did you mean `sigma`"):
        strategy(torch.zeros(3), sigmas=4)


@pytest.mark.parametrize(
    ("optimizer", "got"),
    [
        (torch.optim.Adam(nn.Linear(1, 1).parameters()), "an optimiser that was made already"),
        ("adam", "'adam'"),
        (0.01, "0.01"),
        (lambda parameters: parameters, "list"),
    ],
)
def test_an_optimiser_that_is_no_factory_is_refused(optimizer, got):
    with pytest.raises(
        TypeError, match=rf"`optimizer` must make .*got {got}; give .*partial\(torch.optim.Adam, lr=0.02"
    ):
        OpenAIES(nn.Linear(1, 1), optimizer)


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, partial(torch.optim.SGD, lr=0.1)])
def test_a_class_or_a_partial_is_a_factory(optimizer):
    assert OpenAIES(nn.Linear(1, 1), optimizer).optimizer.param_groups
