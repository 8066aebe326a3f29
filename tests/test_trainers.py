"""`from_task` makes the trainer that the command line would make."""

from functools import partial
from pathlib import Path

import pytest
import torch

import torch_es
from torch_es.cli import config

ROOT = Path(__file__).parent.parent


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


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("Foo-v0", r"`Foo-v0` is not a known task\. .*Tuned are ALE/Freeway-v5, .*Acrobot-v1, .*Hopper-v5"),
        ("Hoper-v5", r"`Hoper-v5` is not a known task\. Did you mean `Hopper-v5`\?"),
        ("Hopper", r"Did you mean `Hopper-v5`\?"),
        (
            "ALE/Pong-v5",
            r'has no tuned settings; use `ES\(policy, "ALE/Pong-v5"\)`, or `torch-es env=atari`, which trains with the',
        ),
        ("ALE/Breakout-v5", r"`ALE/Breakout-v5` has no tuned settings; .* or `torch-es env.id=ALE/Breakout-v5`"),
        ("atari", "`atari` has no tuned settings; use "),
        ("Taxi-v4", r"`Taxi-v4` has no tuned settings; .* or `torch-es env.id=Taxi-v4`"),
    ],
)
def test_an_environment_without_tuned_settings_is_named(task, message):
    with pytest.raises(ValueError, match=message):
        torch_es.from_task(task)


@pytest.mark.parametrize("given", [(None,), ("CartPole-v1", ["seed=3"])])
def test_the_task_and_the_overrides_are_strings(given):
    with pytest.raises(TypeError, match=r"The task and each override must be a string of its own, as in .* of type"):
        torch_es.from_task(*given)


@pytest.mark.parametrize("word", ["env=pendulum", "env.id=Pendulum-v1", "+env.id=Pendulum-v1"])
def test_the_task_is_the_environment(word):
    with pytest.raises(ValueError, match=r"must be left out: the task, CartPole-v1, is the environment"):
        torch_es.from_task("CartPole-v1", word)
    with pytest.raises(ValueError, match=r"`env` must be left out"):
        torch_es.from_task("CartPole-v1", env="Pendulum-v1")


def test_a_task_may_have_other_arguments_of_its_environment():
    es = torch_es.from_task("CartPole-v1", "env.action_repeat=2", num_workers=0)
    assert es.objective.env_id == "CartPole-v1"


@pytest.mark.parametrize("word", ["max_seconds=1", "logger=csv", "logger.naming=sb3", "resume=foo", "video=false"])
def test_what_only_the_command_line_reads_is_refused(word):
    with pytest.raises(ValueError, match=r"is not read by `from_task`, .*; its `learn` takes `max_seconds`, `loggers`"):
        torch_es.from_task("CartPole-v1", word)


def test_there_is_one_seed():
    with pytest.raises(ValueError, match=r'`seed` must be an argument of `from_task`, .*, got the override "seed=3"'):
        torch_es.from_task("CartPole-v1", "seed=3", seed=5)


@pytest.mark.parametrize(
    ("name", "option"), [("strategy", "snes"), ("policy", "mlp"), ("optimizer", "sgd"), ("evaluator", "serial")]
)
def test_a_group_is_given_as_an_override(name, option):
    with pytest.raises(ValueError, match=rf'`from_task\("Hopper-v5", "{name}={option}"\)`'):
        torch_es.from_task("Hopper-v5", **{name: option})
    torch_es.from_task("Hopper-v5", f"{name}={option}")


def test_an_optimizer_may_be_an_object():
    es = torch_es.from_task("Hopper-v5", optimizer=partial(torch.optim.Adam, lr=0.5))
    assert es.strategy.optimizer.param_groups[0]["lr"] == 0.5


def test_another_size_of_the_population_replaces_the_tuned_one():
    assert torch_es.from_task("CartPole-v1", population_size=6, num_workers=0).strategy.num_pairs == 3


def test_an_optimizer_that_is_an_object_drops_the_tuned_scheduler():
    def sgd(*words, **options):
        optimizer = partial(torch.optim.SGD, lr=0.5)
        return torch_es.from_task("Pendulum-v1", *words, optimizer=optimizer, num_workers=0, **options).strategy

    assert sgd().scheduler is None
    step = partial(torch.optim.lr_scheduler.StepLR, step_size=2)
    assert sgd(scheduler=step).scheduler.step_size == 2
    assert sgd("scheduler={name:StepLR,step_size:3}").scheduler.step_size == 3


def test_workers_beside_an_evaluator_are_refused():
    words = ["CartPole-v1", "evaluator.name=torch_es.evaluators:make_evaluator"]
    with pytest.raises(ValueError, match="`evaluator` must be None beside `num_workers` or `tolerance`, got"):
        torch_es.from_task(*words, num_workers=0)
    assert torch_es.from_task(*words, num_workers=0, evaluator=None).play().length > 0


def test_a_policy_of_the_zoo_goes_on_with_a_fresh_learning_rate():
    zoo, x = ROOT / "zoo" / "Pendulum-v1", [0.5, 0.1, 2.0]
    with pytest.raises(ValueError, match="begin anew: give the network that was trained to a new `ES`"):
        torch_es.from_run(zoo, scheduler=None)
    old = torch_es.from_run(zoo)
    assert old.strategy.optimizer.param_groups[0]["lr"] == pytest.approx(0.02 * 0.05)
    words = ["Pendulum-v1", "optimizer.lr=0.01", "scheduler=null", "episode.per_member=1", "episode.max_steps=20"]
    with torch_es.from_task(*words, num_workers=0, eval_every=0) as es:
        es.network.load_state_dict(old.network.state_dict())
        assert es.predict(x)[0] == old.predict(x)[0]
        es.learn(1)
        assert es.strategy.optimizer.param_groups[0]["lr"] == 0.01
        played = es.trainer.total_timesteps
        assert es.objective.statistics.count == old.objective.statistics.count + played  # what was seen is kept
        assert 0 < (es.strategy.theta - old.strategy.theta).abs().max() < 0.02


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        ("Pendulum-v1", {"optimizer": partial(torch.optim.Adam, lr=0.5)}, "`optimizer` must be the checkpoint's"),
        ("Swimmer-v5", {"sigma": 0.5}, "`sigma` must be the checkpoint's"),
        ("CartPole-v1", {"env": "CartPole-v1"}, "`env` must be left out of `from_run`: `set_env` of the trainer"),
        ("CartPole-v1", {"policy": "mlp"}, r"`policy` must be left out of `from_run`: the network is the run's"),
    ],
)
def test_what_a_run_keeps_is_not_replaced(task, options, message):
    with pytest.raises(ValueError, match=message):
        torch_es.from_run(ROOT / "zoo" / task, **options)
