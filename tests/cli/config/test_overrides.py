"""The words of a command line, checked before anything is composed, written or started."""

import pytest
from command import torch_es

from torch_es.cli import config


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("env=hoper", "`env` has no option `hoper`. Did you mean `hopper`"),
        ("env=HOPPER", "Did you mean `hopper`"),
        ("env=hopper,swimer", "`env` has no option `swimer`. Did you mean `swimmer`"),
        ("strategy.sgma=1", "`strategy.sgma` is not a key of the config. Did you mean `strategy.sigma`"),
        ("strategy.sigma_lr=1", "`strategy.sigma_lr` is not a key of the config. It belongs to strategy=pgpe, snes"),
        ("sed=1", "`sed` is not a key of the config. Did you mean `seed`"),
        ("schedulr={name:LinearLR}", "`schedulr` is not a key of the config. Did you mean `scheduler`"),
        ("lr=0.1", "`lr` is not a key of the config. Did you mean `optimizer.lr`"),
        ("policy.name=recurrent", "`policy.name` must fit the other values of `policy`, .* choose `policy=recurrent`"),
        ("strategy.name=snes", "got snes with those of openai_es: choose `strategy=snes`"),
        ("seed", "an override looks like KEY=VALUE"),
        ("+total_timestep=5", "`total_timestep` is not a key of the config. Did you mean `total_timesteps`"),
        ("++episods=3", "`episods` is not a key of the config. Did you mean `episode`"),
        ("+env.kwarg.x=3", "Did you mean `env.kwargs`"),
        ("+logger.run=3", "`logger.run` is not a key of the config"),
        ("optimizer.lrr=1", "`optimizer.lrr` is not an argument of torch.optim.Adam. Did you mean `optimizer.lr`"),
        ("optimizer.betas=[0.9,0.9]", r"argument takes a plus: `\+optimizer.betas=\[0.9,0.9\]`"),
        ("env.kwargs.foo=1", r"`env.kwargs.foo` is not in the config. .* plus: `\+env.kwargs.foo=1`"),
    ],
)
def test_a_wrong_key_or_option_names_the_nearest(override, message):
    with pytest.raises(ValueError, match=message):
        config.compose_config([override])


def test_a_wrong_argument_is_one_of_the_optimizer_that_is_named():
    with pytest.raises(ValueError, match=r"not an argument of torch.optim.SGD. Did you mean `optimizer.momentum`"):
        config.compose_config(["optimizer.name=SGD", "optimizer.momentun=1"])


@pytest.mark.parametrize("override", ["video=no", "policy.normalize_observations=off", "++video=1", "video=true,no"])
def test_what_is_neither_true_nor_false_is_refused(override):
    with pytest.raises(TypeError, match="must be true or false, got "):
        config.check_overrides([override])


def test_new_arguments_go_where_somebody_checks_them():
    added = ["+env.kwargs.foo=1", "+optimizer.betas=[0.9,0.9]", "logger=wandb", "+logger.run_id=a", "video=${policy.x}"]
    config.check_overrides(
        [*added, "+policy.x=true", "+strategy.population_size=4", "hydra.job.chdir=true", "video=true,false"]
    )


@pytest.fixture
def own(tmp_path):
    """A folder of a user's own: an environment, a policy, an experiment, and the module that has their code."""
    (tmp_path / "mine_abroad.py").write_text(
        "import gymnasium as gym, torch\n"
        "gym.register('Abroad-v0', 'gymnasium.envs.classic_control:CartPoleEnv', max_episode_steps=20)\n"
        "class Net(torch.nn.Sequential):\n"
        "    def __init__(self, space, outputs, hidden=8):\n"
        "        super().__init__(torch.nn.Linear(space.shape[0], hidden), torch.nn.Linear(hidden, outputs))\n"
    )
    for name, text in {
        "env/mine": "id: mine_abroad:Abroad-v0\n",
        "policy/mine": "name: mine_abroad:Net\nhidden: 5\n",
        "experiment/first": "# @package _global_\ndefaults: [override /env: mine, override /policy: mine]\n"
        "total_timesteps: 40\nfinal_episodes: 1\nvideo: false\nevaluator: {num_workers: 0}\nstrategy: {num_pairs: 1}\n",
    }.items():
        path = tmp_path / "my conf" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_an_experiment_folder_of_ones_own(own):
    done = torch_es("--config-dir", "my conf", "experiment=first", "run_dir=r", cwd=own)
    assert done.returncode == 0, done.stderr
    settings = config.load_config(own / "r")
    assert (settings["env"]["id"], settings["policy"]) == (
        "mine_abroad:Abroad-v0", {"name": "mine_abroad:Net", "hidden": 5},
    )  # fmt: skip
    assert settings["total_timesteps"] == 40
    done = torch_es("evaluate", "r", "--import", "mine_abroad", cwd=own)
    assert done.returncode == 0, done.stderr
    done = torch_es("export", "r", "--import", "mine_abroad", "--format", "pt2", cwd=own)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("flag", ["--config-dir=my conf", "-cd=my conf", "hydra.searchpath=['my conf']"])
def test_every_way_to_name_a_folder_of_configs(flag, own):
    done = torch_es("policy=mine", "env=mine", flag, "--cfg", "job", cwd=own)
    assert done.returncode == 0, done.stderr
    assert "id: mine_abroad:Abroad-v0" in done.stdout
    done = torch_es("policy=mien", flag, cwd=own)
    assert "`policy` has no option `mien`. Did you mean `mine`?" in done.stderr


@pytest.mark.parametrize("flag", [["--config-dir", "my conf"], ["-cd=my conf"]])
def test_every_command_that_composes_takes_a_folder_of_configs(flag, own):
    done = torch_es("check-env", "mine", *flag, "--episodes", "1", "policy=mine", cwd=own)
    assert done.returncode == 0, done.stderr
    assert "mine_abroad:Abroad-v0: 1 episodes" in done.stdout
    space = ["strategy.sigma=0.1,0.2", "sweep.trials=1", "sweep.dir=s"]
    done = torch_es("sweep", "experiment=first", *flag, *space, cwd=own)
    assert done.returncode == 0, done.stderr
    assert config.load_config(own / "s" / "trial-0000")["policy"]["name"] == "mine_abroad:Net"


def test_an_environment_of_ones_own_needs_an_id(own):
    (own / "my conf" / "env" / "nameless.yaml").write_text("kwargs: {}\n")
    for words in (["check-env", "nameless"], ["env=nameless"]):
        done = torch_es(*words, "-cd", "my conf", "run_dir=r", cwd=own)
        assert done.returncode == 2
        assert "`env.id` must be the id of an environment, got None" in done.stderr


def test_the_values_of_an_experiment_replace_the_defaults():
    composed = config.compose_config(["experiment=salimans_atari"])
    assert composed["episode"]["max_steps"] == "members:5_000"
    assert composed["total_timesteps"] == 250_000_000
    assert config.compose_config(["experiment=salimans_atari", "total_timesteps=7"])["total_timesteps"] == 7


@pytest.mark.parametrize("tuned", ["", "tuned: {env.action_repeat: 2, env.kwargs.size: 3}\n"])
def test_every_environment_of_ones_own_takes_arguments_and_a_repeat(tuned, own):
    (own / "my conf/env/mine.yaml").write_text(f"id: mine_abroad:Abroad-v0\n{tuned}")
    words = [] if tuned else ["env.action_repeat=2", "+env.kwargs.size=3"]
    made = config.compose_config([f"hydra.searchpath=[{own}/my conf]", "env=mine", *words])
    assert made["env"] == {"id": "mine_abroad:Abroad-v0", "kwargs": {"size": 3}, "action_repeat": 2}


@pytest.mark.parametrize("key", ["strategy.name", "optimizer.name", "logger.name"])
def test_the_name_of_an_option_cannot_be_deleted(key):
    with pytest.raises(ValueError, match=f"`~{key}` deletes what a run needs; leave it out, or set `{key}`"):
        config.check_overrides([f"~{key}"])


def test_a_folder_of_configs_that_is_not_there_is_named():
    with pytest.raises(ValueError, match=r"`--config-dir` must be a folder, got nope\."):
        config.with_search_path(["--config-dir", "nope"])
