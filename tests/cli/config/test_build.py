import inspect
import sys
import types

import pytest
import torch
from omegaconf import OmegaConf

from torch_es import ES, mlp
from torch_es.cli import config
from torch_es.search import STRATEGIES

OPTIONS = [(f.parent.name, f.stem) for f in sorted(config.conf_dir().glob("*/*.yaml"))]


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_file_composes_and_builds(group, option):
    pictures = ["env=atari"] if option == "atari_cnn" else []
    composed = config.compose_config([f"{group}={option}", *pictures], "sweep" if group == "sweep" else "config")
    with config.build(composed) as es:
        assert es.strategy.num_pairs >= 1
    config.build_loggers(composed)


@pytest.mark.parametrize(("policy", "told"), [("mlp", 1), ("atari_cnn", 0)])
def test_a_network_without_convolutions_is_warned_of_pictures(policy, told, caplog):
    with config.build(config.compose_config(["env=atari", f"policy={policy}"])):
        found = [record.message for record in caplog.records if "picture" in record.message]
    assert found == ["policy.name=mlp sees a picture as 28,224 numbers in a row; use policy=atari_cnn."] * told


def test_a_scheduler_steps_once_a_generation():
    words = ["env=cartpole", "scheduler={name:StepLR,step_size:1,gamma:0.5}", "strategy.num_pairs=2", "optimizer.lr=1"]
    with config.build(config.compose_config([*words, "evaluator=serial"])) as es:
        es.learn(1)
        assert [group["lr"] for group in es.strategy.optimizer.param_groups] == [0.5]


@pytest.mark.parametrize(
    ("scheduler", "error", "message"),
    [
        ("linear", TypeError, r"`scheduler` must be \{name:CLASS,ARGUMENT:VALUE\}, got 'linear'"),
        ("{name:LinearR}", ValueError, "`scheduler.name` must be one of .* Did you mean `LinearLR`"),
        (
            "{name:LinearLR,totl_iters:3}",
            ValueError,
            "`scheduler`: LinearLR does not take .*Did you mean `total_iters`",
        ),
    ],
)
def test_a_wrong_scheduler_is_named(scheduler, error, message):
    composed = config.compose_config(["env=cartpole", f"scheduler={scheduler}"])
    with pytest.raises(error, match=message):
        config.build(composed)


def test_the_eleven_mujoco_tasks_are_there():
    ids = {OmegaConf.load(path).id for path in config.conf_dir().glob("env/*.yaml")}
    assert sum(i.endswith("-v5") and not i.startswith("ALE/") for i in ids) == 11


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed=abc", "`seed` must be a whole number, got 'abc'"),
        ("total_timesteps=-5", "`total_timesteps` must be at least 1, got -5"),
        ("final_episodes=0", "`final_episodes` must be at least 1, got 0"),
        ("eval_episodes=0", "`eval_episodes` must be at least 1"),
        ("eval_every=-1", "`eval_every` must be at least 0"),
        ("keep_checkpoints=0", "`keep_checkpoints` must be at least 1"),
        ("checkpoint_every=abc", "`checkpoint_every` must be a positive number, got 'abc'"),
        ("checkpoint_every=null", "`checkpoint_every` must be a positive number, got None"),
        ("max_seconds=-1", "`max_seconds` must be positive, got -1"),
        ("policy.hidden=64", r"`policy.hidden` must be a list, as \[64, 64\] is, got 64 of type int"),
        ("policy.action_noise=1", "`policy.action_noise` must be a word or null, got 1"),
        ("policy.box_head=null", "`policy.box_head` must be a word, got None"),
    ],
)
def test_a_wrong_value_of_a_run_is_refused_before_it_begins(override, message):
    composed = config.compose_config([override])
    with pytest.raises((TypeError, ValueError), match=message):
        config.check_values(composed)


@pytest.mark.parametrize("override", ["policy=recurrent", "checkpoint_every=0", "max_seconds=60", "strategy=snes"])
def test_a_right_value_of_a_run_is_not(override):
    config.check_values(config.compose_config([override]))


@pytest.mark.parametrize("key", ["env.kwargs", "evaluator.tolerance"])
@pytest.mark.parametrize("value", ["null", "3"])
def test_arguments_that_are_no_keys_and_values_are_refused(key, value):
    composed = config.compose_config(["env=cartpole", f"{key}={value}"])
    with pytest.raises(TypeError, match=f"`{key}` must be keys and values, as {{size: 3}} is, got .* of type"):
        config.build(composed)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.name=Adm", "`optimizer.name` must be one of .* Did you mean `Adam`"),
        ("optimizer.name=sgd", "`optimizer.name` must be one of .* Did you mean `SGD`"),
        ("+optimizer.lrr=1", "Adam does not take .*lrr.* Did you mean `lr`"),
        ("+optimizer.speed=1", "Adam does not take .*speed"),
        ("strategy.shaping=rank", "`shaping` must be one of"),
        ("strategy.non_finite=rise", "`non_finite` must be one of .* Did you mean `raise`"),
        ("strategy.sigma=-1", "`sigma` must be positive, got -1"),
        ("policy.activation=tan", "Did you mean `tanh`"),
        ("evaluator.num_workers=-2", "`num_workers` must be at least 0"),
        ("env.id=Hoper-v5", "Did you mean `Hopper-v5`"),
    ],
)
def test_a_wrong_value_is_refused_by_the_builder(override, message):
    composed = config.compose_config([override])
    with pytest.raises(ValueError, match=message):
        config.build(composed)


def test_any_class_of_torch_optim_can_be_named():
    with config.build(config.compose_config(["optimizer.name=NAdam", "+optimizer.momentum_decay=0.01"])) as es:
        assert type(es.strategy.optimizer).__name__ == "NAdam"
        assert es.strategy.optimizer.param_groups[0]["momentum_decay"] == 0.01


def test_the_papers_hyperparameters():
    # golden: openai/evolution-strategies-starter configurations/humanoid.json
    composed = config.compose_config(["experiment=salimans_mujoco"])
    assert composed["strategy"]["sigma"] == 0.02
    assert composed["min_episodes"] == 10_000
    assert composed["min_timesteps"] == 100_000
    assert composed["optimizer"] == {"name": "Adam", "lr": 0.01, "weight_decay": 0.005 / 0.02}
    assert composed["policy"]["hidden"] == [64, 64]
    assert composed["policy"]["action_noise"] == "gaussian:0.01"


def test_the_papers_atari():
    # golden: uber-research/deep-neuroevolution's configurations, and Mnih et al. 2016's preprocessing
    composed = config.compose_config(["experiment=salimans_atari", "env.id=ALE/Seaquest-v5"])
    assert composed["env"]["id"] == "ALE/Seaquest-v5"
    assert composed["env"]["kwargs"] == {
        "frame_skip": 4,
        "frame_stack": 4,
        "screen_size": 84,
        "noop_max": 30,
        "repeat_action_probability": 0.0,
        "full_action_space": False,
        "max_frames": 108_000,
    }
    assert composed["strategy"]["num_pairs"] == 2_500
    assert composed["final_episodes"] == 10
    with config.build(composed) as es:
        assert es.strategy.parameters.dim == 681_378  # Seaquest has eighteen actions
        assert es.policy.reference.shape == (128, 4 * 84 * 84)
        assert es.policy.observation_norm is None


@pytest.mark.parametrize(
    ("logger", "names"),
    [
        (["logger=jsonl"], []),
        (["logger=csv"], ["CsvLogger"]),
        (["logger=all", "logger.mode=offline"], ["CsvLogger", "TensorBoardLogger", "WandbLogger"]),
        (["logger.name=[wandb,csv]"], ["WandbLogger", "CsvLogger"]),
    ],
)
def test_several_loggers_at_once(logger, names):
    made = config.build_loggers(config.compose_config(logger))
    assert [type(each).__name__ for each in made] == names


@pytest.mark.parametrize(
    ("logger", "message"),
    [
        (
            "logger.name=wandbb",
            "`logger.name` must be one of csv, tensorboard, wandb; got 'wandbb'. Did you mean `wandb`",
        ),
        ("logger.naming=sb4", "`logger.naming` must be one of both, cleanrl, sb3"),
    ],
)
def test_a_wrong_logger_is_refused(logger, message):
    with pytest.raises(ValueError, match=message):
        config.build_loggers(config.compose_config([logger]))


@pytest.mark.parametrize(("overrides", "frames"), [([], None), (["env.action_repeat=3"], 3)])
def test_frames_are_counted_where_they_are_not_steps(overrides, frames):
    small = ["env=cartpole", "strategy.num_pairs=2", "evaluator.num_workers=0"]
    with config.build(config.compose_config([*small, *overrides])) as es:
        metrics = es.trainer.run_generation(es.evaluator())
    assert metrics.get("time/total_frames") == (frames and frames * metrics["time/total_timesteps"])


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_command_line_has_the_defaults_of_the_library(name):
    composed = config.compose_config([f"strategy={name}", "env=cartpole", "env.tuned=null"])
    for parameter in inspect.signature(STRATEGIES[name]).parameters.values():
        if parameter.name in composed["strategy"] and parameter.default is not None:
            assert composed["strategy"][parameter.name] == parameter.default, parameter.name
    with config.build(composed) as built, ES(mlp(4, 2), "CartPole-v1", strategy=name) as made:
        one, other = built.strategy, made.strategy
        assert type(one.optimizer) is type(other.optimizer)
        assert one.optimizer.defaults == other.optimizer.defaults
        assert one.num_pairs == other.num_pairs
        assert built.strategy.sigma == pytest.approx(made.strategy.sigma)
        for key in set(built.described) - {"env", "optimizer"} - composed["strategy"].keys():
            assert built.described[key] == made.described[key], key


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere:Net", r"`policy.name` must be MODULE:CLASS, got 'nowhere:Net': No module named 'nowhere'"),
        ("math:Net", "has no attribute 'Net'"),
        ("math:hypot", "must make a torch.nn.Module, got float"),
        ("mlpp", "`policy.name` must be one of atari_cnn, mlp, recurrent; got 'mlpp'. Did you mean `mlp`"),
    ],
)
def test_a_policy_that_cannot_be_made_is_refused(name, message, monkeypatch):
    monkeypatch.setattr("math.hypot", lambda *_, **__: 0.0)
    composed = {**config.compose_config(["env=cartpole"]), "policy": {"name": name}}
    with pytest.raises((TypeError, ValueError), match=message):
        config.build(composed)


def test_a_run_needs_a_folder():
    with pytest.raises(TypeError, match="`run_dir` must be a folder, got null"):
        config.check_values(config.compose_config(["env=cartpole", "run_dir=null"]))


@pytest.mark.parametrize("policy", ["mlp", "recurrent"])
def test_a_whole_number_may_be_written_with_a_point(policy):
    weights = []
    for seed in ("1", "1.0"):
        with config.build(config.compose_config(["env=cartpole", f"policy={policy}", f"seed={seed}"])) as es:
            weights.append(es.strategy.theta)
    assert torch.equal(*weights)


def test_a_policy_of_ones_own_follows_from_the_seed(monkeypatch):
    module = types.ModuleType("own_policies")
    module.Net = lambda space, outputs, bias: torch.nn.Linear(space.shape[0], outputs, bias=bias)
    monkeypatch.setitem(sys.modules, "own_policies", module)
    composed = config.compose_config(["env=cartpole"])
    weights = []
    for seed in (0, 0, 1):
        settings = {**composed, "policy": {"name": "own_policies:Net", "bias": False}, "seed": seed}
        state = torch.random.get_rng_state()
        weights.append(config.build(settings).network.weight)
        assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_config_without_a_group_is_refused():
    composed = config.compose_config()
    del composed["evaluator"]
    with pytest.raises(ValueError, match="The config must have a group `evaluator`, got None"):
        config.build(composed)
