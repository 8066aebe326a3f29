"""`from_task` makes the trainer that the command line would make."""

import pytest
import torch

import torch_es
from torch_es.cli import config


def test_a_program_gets_what_the_command_line_gets():
    words = ["env=hopper", "seed=3", "strategy.sigma=0.07"]
    with config.build(config.compose_config(words)) as expected:
        es = torch_es.from_task("Hopper-v5", "strategy.sigma=0.07", seed=3, num_workers=0)
        assert torch.equal(es.strategy.theta, expected.strategy.theta)
        assert es.described == expected.described
        assert es.budget == config.compose_config(words)["total_timesteps"]


def test_learn_takes_the_tuned_budget():
    with torch_es.from_task("hopper", "total_timesteps=9", "strategy.num_pairs=4", num_workers=0) as es:
        es.learn(max_seconds=600)
        assert es.trainer.total_timesteps >= 9
        assert es.strategy.generation == 1


def test_a_trainer_without_a_budget_needs_one():
    es = torch_es.ES(torch.nn.Linear(4, 2), "CartPole-v1", num_workers=0)
    with pytest.raises(TypeError, match=r"`total_timesteps` is missing; only a trainer of `torch_es.from_task`"):
        es.learn()


def test_an_environment_without_tuned_settings_is_named():
    with pytest.raises(ValueError, match=r"no tuned settings for `Foo-v0`; there are for .*Hopper-v5"):
        torch_es.from_task("Foo-v0")
