"""What a user of the library does."""

import inspect
import multiprocessing
import os
import subprocess
import sys
import textwrap
from functools import partial
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.envs.classic_control import CartPoleEnv
from helpers import Stepper
from modules import Branching
from torch import nn
from torch.optim import SGD

from torch_es import ES, EpisodeRules, OpenAIES, RecurrentNetwork, mlp
from torch_es.envs import ActionRepeat
from torch_es.evaluators import FaultTolerance
from torch_es.loggers import CsvLogger
from torch_es.runs import checkpoint

LOOSE = nn.Parameter(torch.zeros(1))  # of no policy
ZOO = Path(__file__).parent.parent / "zoo"
ADAM = partial(torch.optim.Adam, lr=0.05)


def test_it_learns_what_is_known():
    # the best action is the first observation: return 0 at best, about -2.5 for a constant
    with ES(mlp(3, 1, (8,)), Stepper, optimizer=ADAM, sigma=0.1, num_pairs=16, num_workers=0) as es:
        es.learn(40_000)
        assert np.mean([r.return_ for r in es.evaluate(20)]) > -0.5


def test_the_module_itself_is_trained_in_place():
    policy = mlp(3, 1)
    before = policy[1].weight.clone()
    ES(policy, Stepper, num_pairs=2, num_workers=0).learn(20)
    assert not torch.equal(before, policy[1].weight)


def test_saved_and_loaded_it_goes_on_bit_for_bit(tmp_path):
    options = {"optimizer": ADAM, "sigma": 0.05, "num_pairs": 4, "num_workers": 0}
    straight = ES(mlp(4, 2, (8,)), "CartPole-v1", **options).learn(600)
    goal = straight.strategy.generation
    half = ES(mlp(4, 2, (8,)), "CartPole-v1", **options)
    half.learn(10**9, callback=lambda m: m["time/iterations"] < goal // 2)
    half.save(tmp_path / "c")
    loaded = ES.load(tmp_path / "c", mlp(4, 2, (8,), seed=5), num_workers=0)
    loaded.learn(10**9, callback=lambda m: m["time/iterations"] < goal)
    assert torch.equal(loaded.strategy.theta, straight.strategy.theta)
    x = np.random.default_rng(0).normal(size=(5, 4))
    np.testing.assert_array_equal(loaded.predict(x)[0], straight.predict(x)[0])
    assert loaded.trainer.total_timesteps == straight.trainer.total_timesteps


def my_shaping(returns):
    return returns - returns.mean()


FUNCTIONS = {
    "optimizer": lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    "shaping": my_shaping,
    "scheduler": partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.9),
}


def test_functions_must_be_given_again_to_load(tmp_path):
    def fresh():
        return mlp(3, 1, (4,), seed=0)

    options = {"num_pairs": np.int64(3), "sigma": np.float32(0.25), "num_workers": 0}  # plain, whoever made them
    straight = ES(fresh(), Stepper, **options, **FUNCTIONS).learn(60)
    ES(fresh(), Stepper, **options, **FUNCTIONS).learn(30).save(tmp_path / "c")
    message = r"`optimizer` \(it was `<lambda>`\), `shaping` \(.*my_shaping`\), `scheduler` .*must be given again"
    with pytest.raises(ValueError, match=message):
        ES.load(tmp_path / "c", fresh(), Stepper, num_workers=0)
    with pytest.raises(ValueError, match=r"^`shaping` \(it was `my_shaping`\) must be given again"):
        ES.load(tmp_path / "c", fresh(), Stepper, **{n: f for n, f in FUNCTIONS.items() if n != "shaping"})
    loaded = ES.load(tmp_path / "c", fresh(), Stepper, num_workers=0, **FUNCTIONS).learn(30)
    assert torch.equal(loaded.strategy.theta, straight.strategy.theta)
    assert (loaded.strategy.num_pairs, loaded.strategy.sigma) == (3, 0.25)


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, partial(torch.optim.Adam, lr=0.1, betas=(0.5, 0.9))])
def test_optimisers_of_torch_come_back_by_name_and_a_run_with_them_goes_on(tmp_path, optimizer):
    def make():
        return ES(mlp(3, 1, (4,)), Stepper, optimizer=optimizer, num_pairs=2, num_workers=0)

    make().learn(20, folder=tmp_path / "r").save(tmp_path / "c")
    loaded = ES.load(tmp_path / "c", mlp(3, 1, (4,)), Stepper, num_workers=0)
    assert type(loaded.strategy.optimizer) is type(make().strategy.optimizer)
    assert make().learn(40, folder=tmp_path / "r", resume=True).strategy.generation == 2


def test_a_run_is_not_resumed_without_its_functions(tmp_path):
    def make(**options):
        return ES(mlp(3, 1, (4,)), Stepper, num_pairs=2, num_workers=0, **options)

    make(shaping=my_shaping).learn(20, folder=tmp_path / "r")
    for options, message in (({}, "is centered_ranks"), ({"shaping": abs}, r"is {'function': 'abs'}")):
        with pytest.raises(ValueError, match=rf"`shaping` was {{'function': 'my_shaping'}}, {message}"):
            make(**options).learn(40, folder=tmp_path / "r", resume=True)
    assert make(shaping=my_shaping).learn(40, folder=tmp_path / "r", resume=True).strategy.generation == 2


def test_saving_into_a_run_folder_is_refused(tmp_path):
    es = ES(mlp(3, 1, (4,)), Stepper, num_pairs=2, num_workers=0).learn(20, folder=tmp_path / "r")
    with pytest.raises(ValueError, match=r"it holds \.lock, checkpoints, metrics\.jsonl, \.\.\.; save to `.*r/model`"):
        es.save(tmp_path / "r")
    assert (tmp_path / "r" / "metrics.jsonl").is_file()
    es.save(tmp_path / "r" / "model")


def test_a_run_folder_in_place_of_a_checkpoint_is_named(tmp_path):
    with ES(mlp(4, 2), "CartPole-v1", num_workers=0, num_pairs=2) as es:
        es.learn(1, folder=tmp_path / "r")
    (checkpoint,) = (tmp_path / "r" / "checkpoints").iterdir()
    with pytest.raises(ValueError, match=rf"r` is a run folder; give its newest checkpoint, `{checkpoint}`\."):
        ES.load(tmp_path / "r", mlp(4, 2))
    assert ES.load(checkpoint, mlp(4, 2), num_workers=0).strategy.generation == 1
    with pytest.raises(
        ValueError, match=r'CartPole-v1` is a run folder; use `torch_es\.from_run\(".*CartPole-v1"\)`\.'
    ):
        ES.load(ZOO / "CartPole-v1", mlp(4, 2, ()))


def test_a_checkpoint_that_names_no_environment_needs_one():
    (checkpoint,) = (ZOO / "CartPole-v1" / "checkpoints").iterdir()
    with pytest.raises(
        ValueError, match=r'names no environment: pass `env`, as `ES\.load\(path, policy, "CartPole-v1"'
    ):
        ES.load(checkpoint, mlp(4, 2, ()))
    with ES.load(checkpoint, mlp(4, 2, ()), "CartPole-v1", num_workers=0) as es:
        assert es.strategy.generation == 24


def test_help_shows_the_defaults_of_the_default_strategy():
    shown, own = " ".join(ES.__doc__.split()), inspect.signature(OpenAIES).parameters
    rate, pairs = own["optimizer"].default.keywords["lr"], OpenAIES(mlp(4, 2)).num_pairs
    for name, default in (("sigma", own["sigma"].default), ("num_pairs", pairs), ("shaping", own["shaping"].default)):
        assert f"{name}={default}" in shown
    assert f"torch.optim.Adam, lr={rate})" in shown


def test_a_checkpoint_for_another_architecture_is_refused(tmp_path):
    ES(mlp(4, 2, (8,)), "CartPole-v1").save(tmp_path / "c")
    with pytest.raises(
        ValueError,
        match=r"another module: `1.bias` was \[8\], is \[4\]; `1.weight` was \[8, 4\], is \[4, 4\]; `3.weight` was",
    ):
        ES.load(tmp_path / "c", mlp(4, 2, (4,))[:], num_workers=0)


@pytest.mark.parametrize("before", [True, False])
def test_a_checkpoint_of_a_module_with_or_without_its_norm_is_refused(before, tmp_path):
    made = {norm: RecurrentNetwork(4, 2, hidden=4, normalize_observations=norm) for norm in (True, False)}
    ES(made[before], "CartPole-v1").save(tmp_path / "c")
    weights = made[not before].state_dict()["output.weight"].clone()
    was = r"\[\], is absent" if before else r"absent, is \[\]"
    with pytest.raises(ValueError, match=rf"another module: `ObservationNorm.count` was {was}"):
        ES.load(tmp_path / "c", made[not before], num_workers=0)
    assert torch.equal(made[not before].state_dict()["output.weight"], weights)


def test_a_fitness_function_in_place_of_an_environment():
    module = nn.Linear(2, 1, bias=False)

    def fitness(m):
        return -float((m.weight - torch.tensor([[1.0, -2.0]])).square().sum())

    with ES(module, fitness_fn=fitness, optimizer=ADAM, sigma=0.1, num_workers=1) as es:
        es.learn(64 * 150)
    np.testing.assert_allclose(module.weight.detach().numpy(), [[1, -2]], atol=0.1)


def test_a_module_that_cannot_be_batched_trains():
    policy = Branching()
    before = policy.a.weight.clone()
    ES(policy, "CartPole-v1", sigma=0.3, num_pairs=8, num_workers=0).learn(50)
    assert not torch.equal(before, policy.a.weight)


def test_a_callback_stops_by_false():
    es = ES(mlp(3, 1), Stepper, num_pairs=2, num_workers=0).learn(10**6, callback=lambda m: m["global_step"] < 60)
    assert es.trainer.total_timesteps == 60


def test_a_script_needs_no_main_guard_and_no_close(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
            import torch, gymnasium as gym
            from torch_es import ES
            class Own(gym.Wrapper):
                pass
            es = ES(torch.nn.Linear(4, 2), lambda: Own(gym.make("CartPole-v1")), num_pairs=2, num_workers=1)
            es.learn(100)
            print("trained once")
        """)
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.stdout == "trained once\n", done.stderr


@pytest.mark.parametrize(
    ("policy", "env", "options", "error", "message"),
    [
        (mlp(4, 2), "CartPole-v7", {}, (ValueError, gym.error.Error), "CartPole-v7"),
        (mlp(4, 2), "Cartpoll-v1", {}, ValueError, "Did you mean `CartPole-v1`"),
        (mlp(4, 3), "CartPole-v1", {}, ValueError, "to fit the action space"),
        (nn.Tanh(), "CartPole-v1", {}, ValueError, "no trainable parameters"),
        (mlp(4, 2), "CartPole-v1", {"population_size": 9}, ValueError, "must be even"),
        (mlp(4, 2), "CartPole-v1", {"sigma": 0}, ValueError, "`sigma` must be positive, got 0"),
        (mlp(4, 2), "CartPole-v1", {"sigma": "big"}, TypeError, "`sigma` must be a positive number, got 'big'"),
        (
            mlp(4, 2),
            "CartPole-v1",
            {"sigma": 0, "action_noise": "sample", "non_finite": "rais"},
            ValueError,
            "drop, raise",
        ),
        (mlp(4, 2), "CartPole-v1", {"sgima": 0.1}, ValueError, "Did you mean `sigma`"),
        (mlp(4, 2), "CartPole-v1", {"strategy": "cma"}, ValueError, "`strategy` must be one of ars, openai_es"),
        (mlp(4, 2), "CartPole-v1", {"num_workers": -1}, ValueError, "`num_workers` must be at least 0"),
        (
            mlp(4, 2),
            "CartPole-v1",
            {"rules": {"max_steps": 5}},
            TypeError,
            "`rules` must be of type EpisodeRules",
        ),
        (mlp(4, 2), "CartPole-v1", {"behaviour": 5}, TypeError, "`behaviour` must be a function, got 5 of type int"),
        (mlp(4, 2), "CartPole-v1", {"evaluator": "ray"}, TypeError, "`evaluator` must be a function, got 'ray'"),
        (
            mlp(4, 2),
            "CartPole-v1",
            {"evaluator": print, "num_workers": 3},
            ValueError,
            "`evaluator` must be None beside `num_workers` or `tolerance`, got <built-in function print>",
        ),
        (
            mlp(4, 2),
            "CartPole-v1",
            {"evaluator": print, "tolerance": FaultTolerance(max_retries=7)},
            ValueError,
            "`evaluator` must be None beside `num_workers` or `tolerance`, got <built-in function print>",
        ),
        (mlp(4, 2), "CartPole-v1", {"scheduler": "cosine"}, TypeError, "`scheduler` must be a function, got 'cosine'"),
        (mlp(4, 2), "CartPole-v1", {"action_noise": 5}, ValueError, "`action_noise` must be gaussian:STD .*, got 5"),
        (
            mlp(4, 2),
            "CartPole-v1",
            {"optimizer": lambda _: SGD([LOOSE])},
            ValueError,
            "`optimizer` must step the param",
        ),
        (nn.LazyLinear(2), "CartPole-v1", {}, ValueError, "`weight` has no shape yet: call the module once"),
        (mlp(4, 2), None, {"fitness_fn": "sphere"}, TypeError, "`fitness_fn` must be a function, got 'sphere'"),
        (mlp(4, 2), None, {}, ValueError, "Give one of `env` and `fitness_fn`"),
        ("mlp", "CartPole-v1", {}, TypeError, "`policy` must be a torch.nn.Module, got str"),
    ],
)
def test_bad_arguments_are_refused_before_anything_starts(policy, env, options, error, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        ES(policy, env, **options)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda es: es.learn(10, callback=5), TypeError, "`callback` must be a function, got 5"),
        (
            lambda es: es.learn(10, loggers=CsvLogger()),
            TypeError,
            "`loggers` must be of type Sequence, got",
        ),
        (lambda es: es.learn(10, loggers=["wandb"]), TypeError, "`loggers` must hold loggers.*, got 'wandb'"),
        (lambda es: es.learn(10, resume=True), ValueError, "`resume` needs the `folder` of the run"),
        (lambda es: es.play(-2), ValueError, "`member` must be at least -1, got -2"),
        (lambda es: es.play(0, -1), ValueError, "`episode` must be at least 0, got -1"),
    ],
)
def test_bad_arguments_of_a_call_are_refused_before_it_plays(call, error, message):
    with ES(nn.Linear(4, 2), "CartPole-v1", num_workers=0) as es:
        with pytest.raises(error, match=message):
            call(es)
        assert es.trainer.total_timesteps == 0


def test_an_evaluator_that_is_none_is_named():
    es = ES(nn.Linear(4, 2), "CartPole-v1", evaluator=lambda objective, snapshot: None)
    with pytest.raises(TypeError, match=r"`evaluator` must return a torch_es.evaluators.Evaluator, got None\."):
        es.learn(1)


def test_a_function_gets_the_module_itself_and_frozen_weights_are_not_copied():
    module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1))
    module[0].requires_grad_(False)
    got = []

    def fitness(given):
        got.append(given)
        return float(module[0].weight.sum() + given(torch.ones(3)).detach())

    es = ES(module, fitness_fn=fitness, num_workers=0, num_pairs=2).learn(4)
    assert all(given is module for given in got)
    assert es._sent is None
    before = es.evaluate(1)[0].return_
    with torch.no_grad():
        module[0].weight.add_(1.0)  # what was changed meanwhile counts
    assert es.evaluate(1)[0].return_ > before + 4


@pytest.mark.parametrize("answer", [None, (1.0, 2.0), torch.zeros(3), "3"])
def test_a_fitness_that_is_no_number_is_named(answer):
    es = ES(nn.Linear(2, 1), fitness_fn=lambda module: answer, num_workers=0)
    with pytest.raises(TypeError, match="`fitness_fn` must return a number, got"):
        es.learn(10)


def test_a_tolerance_of_another_kind_is_named():
    es = ES(nn.Linear(4, 2), "CartPole-v1", num_workers=1, tolerance=5)
    with pytest.raises(TypeError, match="`tolerance` must be of type FaultTolerance, got 5"):
        es.learn(10)


@pytest.mark.parametrize(("env_id", "inputs", "outputs"), [("HalfCheetah-v5", 17, 6), ("Ant-v5", 105, 8)])
def test_a_missing_extra_is_named(monkeypatch, env_id, inputs, outputs):
    monkeypatch.setitem(sys.modules, "mujoco", None)
    for name in [n for n in sys.modules if n.startswith(("gymnasium.envs.mujoco", "torch_es.envs.mujoco"))]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ImportError, match=r"comes with the extra `mujoco`: pip install 'torch-evolution\[mujoco\]'"):
        ES(mlp(inputs, outputs), env_id)


@pytest.mark.parametrize("play", [lambda es: es.evaluate(4), lambda es: es.play(member=0)], ids=["evaluate", "play"])
def test_an_evaluation_that_is_ended_leaves_no_tasks_to_the_next(play, monkeypatch):
    with ES(nn.Linear(3, 1), Stepper, num_pairs=2, num_workers=1) as es:
        expected = play(es)

        def ended(evaluator, tasks):
            waiting = iter([(task,) for task in tasks])
            for _ in evaluator.evaluate(es.trainer.snapshot(), lambda: next(waiting, None)):
                raise RuntimeError("ended")

        with monkeypatch.context() as patch:
            patch.setattr(es.trainer, "play", ended)
            with pytest.raises(RuntimeError, match="ended"):
                play(es)
        assert multiprocessing.active_children() == []
        assert str(play(es)) == str(expected)


def test_a_wrong_limit_leaves_no_run_behind(tmp_path):
    with ES(nn.Linear(3, 1), Stepper, num_pairs=2, num_workers=0) as es:
        with pytest.raises(ValueError, match="`max_seconds` must be positive, got -1"):
            es.learn(10, folder=tmp_path / "run", max_seconds=-1)
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("made", "given", "message"),
    [
        (
            {"optimizer": ADAM},
            {"optimizer": partial(torch.optim.Adam, lr=1e-4)},
            "`optimizer` must be the checkpoint's",
        ),
        ({"strategy": "pgpe", "sigma": 0.1}, {"sigma": 0.5}, "`sigma` must be the checkpoint's, 0.1, .* got 0.5"),
        ({}, {"optimizer": torch.optim.SGD}, "`optimizer` must be the checkpoint's, .*Adam.* got .*SGD"),
        ({}, {"strategy": "snes"}, "`strategy` must be the checkpoint's, openai_es, .* got snes"),
    ],
)
def test_what_the_state_decides_is_not_replaced(made, given, message, tmp_path):
    ES(mlp(3, 1, (4,)), Stepper, num_pairs=2, num_workers=0, **made).save(tmp_path / "c")
    ES.load(tmp_path / "c", mlp(3, 1, (4,)), Stepper, num_workers=0, **made)
    with pytest.raises(ValueError, match=message):
        ES.load(tmp_path / "c", mlp(3, 1, (4,)), Stepper, num_workers=0, **given)


def test_a_checkpoint_that_is_refused_leaves_frozen_weights_alone(tmp_path):
    def made(value, seed):
        network = nn.Sequential(nn.Linear(3, 4).requires_grad_(False), nn.Linear(4, 1))
        nn.init.constant_(network[0].weight, value)
        return ES(network, Stepper, num_pairs=2, num_workers=0, seed=seed)

    made(1.0, 0).save(tmp_path / "c")
    other = made(2.0, 1)
    with pytest.raises(ValueError, match="`seed` must be the one that the state was made with"):
        other.restore(checkpoint.load(tmp_path / "c"))
    assert other.network[0].weight.eq(2.0).all()


@pytest.mark.parametrize("options", [{}, {"strategy": "pgpe"}, {"rank": 1}], ids=str)
def test_the_default_device_of_torch_is_another(options):
    network = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 2))
    with torch.device("meta"):  # stands for a GPU: nothing has values there
        es = ES(network, "CartPole-v1", num_workers=0, num_pairs=2, **options).learn(10)
    assert es.strategy.theta.isfinite().all()


@pytest.mark.parametrize(
    ("first", "then", "message"),
    [
        ({"sigma": 0.3}, {}, "`sigma` was 0.3, is 0.04"),
        ({}, {"sigma": 0.3}, "`sigma` was 0.04, is 0.3"),
        ({}, {"num_pairs": 4}, "`num_pairs` was 16, is 4"),
        ({}, {"shaping": my_shaping}, r"`shaping` was centered_ranks, is \{'function': 'my_shaping'\}"),
    ],
)
def test_a_run_is_not_resumed_with_another_default(first, then, message, tmp_path):
    def make(**options):
        return ES(mlp(3, 1, (4,), seed=0), Stepper, num_workers=0, **options)

    make(**first).learn(20, folder=tmp_path / "r")
    with pytest.raises(ValueError, match=message):
        make(**then).learn(40, folder=tmp_path / "r", resume=True)
    again = make(**first, num_pairs=16, non_finite="drop").learn(1000, folder=tmp_path / "r", resume=True)  # as it was
    assert again.strategy.generation > 1


@pytest.mark.parametrize("rules", [EpisodeRules(max_steps=50), EpisodeRules(), EpisodeRules(max_steps="members:30")])
def test_rules_that_are_given_replace_the_saved_cap(rules, tmp_path):
    def cap(es):
        return es.learn(1).trainer.max_steps

    es = ES(mlp(3, 1, (4,)), Stepper, num_pairs=2, num_workers=0, rules=EpisodeRules(max_steps="adaptive:2,0.1,1.5"))
    assert cap(es) == 3
    es.save(tmp_path / "c")
    assert ES.load(tmp_path / "c", mlp(3, 1, (4,)), Stepper, num_workers=0).trainer.max_steps == 3
    assert cap(ES.load(tmp_path / "c", mlp(3, 1, (4,)), Stepper, num_workers=0, rules=rules)) == rules.first_cap


@pytest.mark.parametrize(
    "option",
    [{"rules": EpisodeRules(per_member=4)}, {"num_lanes": 2}, {"box_head": "squash"}, {"action_noise": "sample"},
     {"behaviour": my_shaping}],
    ids=lambda option: next(iter(option)),
)  # fmt: skip
def test_what_is_about_episodes_is_refused_with_a_fitness_function(option):
    (name,) = option
    with pytest.raises(ValueError, match=f"`{name}` must be left out with `fitness_fn`, which plays no episodes, got"):
        ES(nn.Linear(1, 1), fitness_fn=lambda module: 0.0, **option)


def test_another_environment_has_its_own_name_frames_and_best_centre():
    es = ES(mlp(4, 2, (4,)), lambda: gym.make("CartPole-v1"), num_pairs=2, num_workers=0, eval_every=1).learn(1)
    assert (es.objective.env_id, es.trainer.best is None) == ("CartPole-v1", False)
    es.set_env(lambda: ActionRepeat(gym.wrappers.TimeLimit(CartPoleEnv(), 9), 3))
    assert (es.objective.env_id, es.objective.frames_per_step, es.trainer.best) == ("", 3, None)
    assert es.learn(1).trainer.best["mean_reward"] <= 9


def test_the_best_centre_is_of_the_environment_that_is_loaded_into(tmp_path):
    es = ES(mlp(4, 2, (4,)), "CartPole-v1", num_pairs=2, num_workers=0, eval_every=1).learn(1)
    es.save(tmp_path / "es")
    assert ES.load(tmp_path / "es", mlp(4, 2, (4,))).trainer.best["mean_reward"] == es.trainer.best["mean_reward"]
    other = ES.load(tmp_path / "es", mlp(4, 2, (4,)), lambda: gym.wrappers.TimeLimit(CartPoleEnv(), 9))
    assert other.trainer.best is None  # nine steps are never better
    assert other.learn(1).trainer.best["mean_reward"] <= 9


@pytest.mark.parametrize("options", [{"rank": 1}, {"sigma": 0.5}, {"nonsense": 3}])
def test_options_beside_a_strategy_that_was_made_are_refused(options):
    module = nn.Linear(4, 2)
    ((name, value),) = options.items()
    message = (
        f"`{name}` must be left out with a strategy that was made already, got {value}; give it where the strategy"
    )
    with pytest.raises(ValueError, match=message):
        ES(module, "CartPole-v1", strategy=OpenAIES(module), **options)
