import pytest

from torch_es import config

OPTIONS = [(f.parent.name, f.stem) for f in sorted(config.conf_dir().glob("*/*.yaml"))]


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_file_composes_and_builds(group, option):
    pictures = ["env=atari"] if option == "atari_cnn" else []
    composed = config.compose_config([f"{group}={option}", *pictures], "sweep" if group == "sweep" else "config")
    with config.build(composed) as es:
        assert es.strategy.centre.num_pairs >= 1
    config.build_loggers(composed)


def test_the_eleven_mujoco_tasks_are_there():
    ids = {config.compose_config([f"env={option}"])["env"]["id"] for group, option in OPTIONS if group == "env"}
    assert sum(i.endswith("-v5") and not i.startswith("ALE/") for i in ids) == 11


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("env=hoper", "`env` has no option `hoper`. Did you mean `hopper`"),
        ("env=hopper,swimer", "`env` has no option `swimer`. Did you mean `swimmer`"),
        ("strategy.sgma=1", "`strategy.sgma` is no key of the config. Did you mean `strategy.sigma`"),
        ("sed=1", "`sed` is no key of the config. Did you mean `seed`"),
        ("seed", "An override looks like KEY=VALUE"),
    ],
)
def test_a_wrong_key_or_option_names_the_nearest(override, message):
    with pytest.raises(ValueError, match=message):
        config.compose_config([override])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.name=Adm", "`optimizer.name` must be one of .* Did you mean `Adam`"),
        ("+optimizer.speed=1", "Adam does not take .*speed"),
        ("strategy.shaping=rank", "`shaping` must be one of"),
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
        assert type(es.strategy.centre.optimizer).__name__ == "NAdam"
        assert es.strategy.centre.optimizer.param_groups[0]["momentum_decay"] == 0.01


def test_the_papers_hyperparameters():
    # golden: openai/evolution-strategies-starter configurations/humanoid.json
    composed = config.compose_config(["experiment=salimans_mujoco"])
    assert composed["strategy"]["sigma"] == 0.02
    assert composed["strategy"]["min_episodes"] == 10_000
    assert composed["strategy"]["min_timesteps"] == 100_000
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
        assert es.strategy.centre.parameters.dim == 681_378  # Seaquest has eighteen actions
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


def test_an_existing_run_folder_is_refused(tmp_path):
    config.check_free(tmp_path / "new")
    (tmp_path / "config.yaml").touch()
    with pytest.raises(ValueError, match="exists; name another, or continue it with"):
        config.check_free(tmp_path)
