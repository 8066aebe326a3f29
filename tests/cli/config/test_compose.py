"""The settings tuned for an environment: what they set, and what a command line keeps of them."""

import re

import pytest
from command import torch_es

from torch_es.cli import config

TUNED = {"strategy": "ars", "strategy.num_top": 3, "strategy.sigma": 0.5, "optimizer.lr": 0.25, "policy": "linear"}
TUNED |= {"scheduler": "{name: LinearLR, total_iters: 9}"}
TUNED |= {"policy.normalize_observations": "false", "episode.reward_shift": 1.5, "total_timesteps": 77}


@pytest.fixture
def own(tmp_path):
    """A folder of configs with an environment of one's own that has tuned settings."""
    (tmp_path / "conf" / "env").mkdir(parents=True)
    lines = "".join(f"  {key}: {value!s}\n" for key, value in TUNED.items())
    (tmp_path / "conf/env/mine.yaml").write_text(f"id: CartPole-v0\nkwargs: {{}}\naction_repeat: 1\ntuned:\n{lines}")
    return tmp_path, f"hydra.searchpath=[{tmp_path}/conf]"


def composed(own, *words, name="config"):
    made = config.compose_config([own[1], *words], name)
    assert "tuned" not in made["env"]
    return made


@pytest.mark.parametrize("chosen", ["env=mine", "env.id=CartPole-v0"])
def test_an_environment_brings_its_tuned_settings_by_name_and_by_id(chosen, own):
    made = composed(own, chosen)
    assert (made["strategy"]["name"], made["strategy"]["num_top"], made["strategy"]["sigma"]) == ("ars", 3, 0.5)
    assert made["optimizer"] == {"name": "SGD", "lr": 0.25}
    assert made["scheduler"] == {"name": "LinearLR", "total_iters": 9}
    assert (made["policy"]["hidden"], made["policy"]["normalize_observations"]) == ([], False)
    assert (made["episode"]["reward_shift"], made["total_timesteps"]) == (1.5, 77)


def test_what_the_command_line_sets_stays(own):
    made = composed(own, "env=mine", "strategy.sigma=0.1", "optimizer.lr=3", "strategy=ars", "total_timesteps=5")
    assert (made["strategy"]["sigma"], made["strategy"]["num_top"]) == (0.1, 3)
    assert (made["optimizer"]["lr"], made["total_timesteps"]) == (3, 5)


def test_another_strategy_drops_the_values_of_the_first_and_its_optimizers(own):
    made, plain = composed(own, "env=mine", "strategy=snes"), config.compose_config(["env=cartpole", "strategy=snes"])
    assert all(made[group] == plain[group] for group in ("strategy", "optimizer", "scheduler"))
    assert made["policy"]["hidden"] == []
    assert made["total_timesteps"] == 77


def test_another_policy_or_optimizer_drops_its_own_values_alone(own):
    made = composed(own, "env=mine", "policy=mlp", "optimizer=adam")
    assert (made["policy"]["hidden"], made["policy"]["normalize_observations"]) == ([64, 64], True)
    assert made["optimizer"] == {"name": "Adam", "lr": 0.02}
    assert made["strategy"]["num_top"] == 3
    assert composed(own, "env=mine", "optimizer.name=AdamW")["optimizer"]["lr"] == 0.02


@pytest.mark.parametrize("word", ["optimizer=sgd", "optimizer=ars", "optimizer.name=SGD"])
def test_the_optimizer_that_a_task_was_tuned_with_changes_nothing(word, own):
    named, plain = composed(own, "env=mine", word), composed(own, "env=mine")
    assert all(named[key] == plain[key] for key in plain if key != "run_dir")  # which has the time


@pytest.mark.parametrize("word", ["policy=mlp", "strategy=openai_es", "policy.name=mlp", "strategy.name=openai_es"])
def test_the_option_that_a_task_was_tuned_with_changes_nothing(word, own):
    (own[0] / "conf/env/mine.yaml").write_text(
        "id: CartPole-v0\ntuned: {policy.hidden: [8], strategy.sigma: 0.3, optimizer.lr: 0.5}\n"
    )
    for named in ([word], [word, "optimizer=adam"]):
        made = composed(own, "env=mine", *named)
        assert (made["policy"]["hidden"], made["strategy"]["sigma"], made["optimizer"]["lr"]) == ([8], 0.3, 0.5)


@pytest.mark.parametrize(
    ("tuned", "budget"), [("", 300_000), ("tuned: {total_timesteps: 7}", 7), ("tuned: null", 5_000_000)]
)
def test_an_environment_that_builds_on_another_has_its_tuned_settings(tuned, budget, own):
    (own[0] / "conf/env/mine.yaml").write_text(
        f"defaults: [cartpole, _self_]\nkwargs: {{sutton_barto_reward: true}}\n{tuned}\n"
    )
    made = composed(own, "env=mine")
    assert made["env"]["id"] == "CartPole-v1"
    assert (made["policy"]["hidden"] == [], made["total_timesteps"]) == (budget < 5_000_000, budget)


@pytest.mark.parametrize("word", ["optimizer=sgd", "optimizer=adam", "optimizer.name=Adam"])
def test_no_tuned_learning_rate_goes_to_another_strategy(word, own):
    assert composed(own, "env=mine", "strategy=snes", word)["optimizer"]["lr"] != 0.25


def test_a_game_brings_its_tuned_pictures_by_its_id():
    by_id, by_name = config.compose_config(["env.id=ALE/Freeway-v5"]), config.compose_config(["env=freeway"])
    assert by_id["env"]["kwargs"] == {"screen_size": 42, "frame_stack": 2}
    assert by_id["policy"] == by_name["policy"]


def test_what_is_left_out_is_not_said_to_be_tuned(own):
    assert "num_top" not in config.origin([own[1], "env=mine", "~strategy.num_top"], "CartPole-v0")


@pytest.mark.parametrize("words", [["env.tuned=null"], ["experiment=salimans_mujoco"]])
def test_the_tuned_settings_can_be_left_out(words, own):
    made = composed(own, "env=mine", *words)
    assert (made["strategy"]["name"], made["episode"]["reward_shift"]) == ("openai_es", 0.0)


def test_a_sweep_starts_from_them_within_its_own_budget(own):
    made = composed(own, "env=mine", name="sweep")
    assert (made["strategy"]["num_top"], made["total_timesteps"]) == (3, 5_000_000)


def test_a_wrong_key_among_them_is_named(own):
    path = own[0] / "conf/env/mine.yaml"
    path.write_text(path.read_text().replace("num_top", "num_tops"))
    with pytest.raises(
        ValueError, match=r"`strategy.num_tops` is not a key of the config. Did you mean `strategy.num_top`"
    ):
        composed(own, "env=mine")


@pytest.mark.parametrize("tuned", ["yes please", "[policy]", "true"])
def test_tuned_settings_that_are_no_keys_and_values_are_refused(tuned, own):
    (own[0] / "conf/env/mine.yaml").write_text(f"id: CartPole-v0\ntuned: {tuned}\n")
    for chosen in ("env=mine", "env.id=CartPole-v0"):
        with pytest.raises(ValueError, match=r"`tuned` in env/mine.yaml must be keys and values of the command line"):
            composed(own, chosen)


def test_each_job_of_a_multirun_has_the_settings_of_its_own_environment(own):
    small = ["video=false", "evaluator.num_workers=0", "final_episodes=1", "total_timesteps=1", "strategy.num_pairs=1"]
    words = ["--multirun", "-cd", "conf", "env=mine,acrobot", "strategy=ars,snes", "seed=3", *small]
    done = torch_es(*words, "run_dir=r/${env.id}-${strategy.name}", "strategy.num_pairs=4", cwd=own[0])
    assert done.returncode == 0, done.stderr
    made = {name: config.load_config(own[0] / "r" / name) for name in ("CartPole-v0-ars", "CartPole-v0-snes")}
    assert [run["strategy"]["sigma"] for run in made.values()] == [0.5, 0.1]
    assert config.load_config(own[0] / "r/Acrobot-v1-ars")["strategy"]["num_top"] is None
    assert "Settings: tuned for CartPole-v0 (strategy.num_top=3 " in (own[0] / "r/CartPole-v0-ars/run.log").read_text()


def test_hydra_shows_what_trains_and_not_what_was_dropped(own):
    done = torch_es("-cd", "conf", "env=mine", "--cfg", "job", cwd=own[0])
    assert "num_top: 3" in done.stdout
    for words in (["strategy=snes"], ["env.tuned=null"]):
        done = torch_es("-cd", "conf", "env=mine", *words, "--cfg", "job", cwd=own[0])
        assert done.returncode == 0, done.stderr
        assert "num_top: 3" not in done.stdout
        assert "tuned" not in done.stdout


@pytest.mark.parametrize(
    ("word", "got"),
    [
        ("env.tuned=None", "'None'"), ("env.tuned=false", "False"), ("env.tuned={}", "{}"),
        ("env.tuned=null,none", "'none'"), ("~env.tuned", "'~env.tuned'"),
        ("env.tuned.policy=mlp", "'env.tuned.policy=mlp'"),
    ],
)  # fmt: skip
def test_tuned_settings_can_be_left_out_but_not_changed(word, got):
    with pytest.raises(ValueError, match=re.escape(f"`env.tuned` may only be set to null, which leaves out the tuned "
                                                   f"settings; got {got}. Set a value by its own key")):  # fmt: skip
        config.compose_config(["env=hopper", word])


@pytest.mark.parametrize("key", ["total_timesteps", "seed", "logger", "run_dir"])
def test_what_every_run_has_cannot_be_deleted(key):
    with pytest.raises(ValueError, match=f"`~{key}` deletes what a run needs; leave it out, or set `{key}`"):
        config.compose_config(["env=hopper", f"~{key}"])


def test_a_value_of_a_tuned_scheduler_can_be_set_alone(own):
    assert composed(own, "env=mine", "scheduler.total_iters=5")["scheduler"] == {"name": "LinearLR", "total_iters": 5}
    with pytest.raises(ValueError, match=r"not a key of the config. Did you mean `scheduler.total_iters`"):
        composed(own, "env=mine", "scheduler.total_iter=5")
    with pytest.raises(ValueError, match=r"`scheduler.total_iters` is not a key of the config. Did you mean `sched"):
        composed(own, "env=mine", "optimizer=adam", "scheduler.total_iters=5")


def test_what_a_tuned_group_has_can_be_varied_and_left_out(own):
    small = ["video=false", "evaluator.num_workers=0", "final_episodes=1", "total_timesteps=1"]
    own_keys = ["scheduler.total_iters=5,6", "strategy.num_top=2", "~policy.normalize_observations"]
    words = ["-cd", "conf", "env=mine", *own_keys, "++optimizer.momentum=0.5", *small]
    done = torch_es("--multirun", *words, "run_dir=r/${scheduler.total_iters}", cwd=own[0])
    assert done.returncode == 0, done.stderr
    done = torch_es("sweep", *words, "sweep.trials=2", "sweep.dir=s", cwd=own[0])
    assert done.returncode == 0, done.stderr
    for folder in ("r", "s"):
        runs = [config.load_config(path.parent) for path in (own[0] / folder).glob("*/config.yaml")]
        assert {run["scheduler"]["name"] for run in runs} == {"LinearLR"}
        assert {run["scheduler"]["total_iters"] for run in runs} <= {5, 6}
        assert {(run["strategy"]["num_top"], run["optimizer"]["momentum"]) for run in runs} == {(2, 0.5)}
        assert not any("normalize_observations" in run["policy"] for run in runs)


def test_a_run_is_resumed_with_its_own_settings_not_with_tuned_ones(own):
    small = ["video=false", "evaluator.num_workers=0", "final_episodes=1", "total_timesteps=1"]
    done = torch_es("-cd", "conf", "env=mine", "strategy=snes", "run_dir=r", *small, cwd=own[0])
    assert done.returncode == 0, done.stderr
    done = torch_es("resume=r", "total_timesteps=2", cwd=own[0])
    assert done.returncode == 0, done.stderr
    assert config.load_config(own[0] / "r")["strategy"]["name"] == "snes"


def test_an_environment_without_the_key_takes_null_too(own):
    (own[0] / "conf/env/mine.yaml").write_text("id: CartPole-v0\nkwargs: {}\naction_repeat: 1\n")
    assert composed(own, "env=mine", "env.tuned=null")["env"]["id"] == "CartPole-v0"
    small = ["video=false", "evaluator.num_workers=0", "final_episodes=1", "total_timesteps=1"]
    done = torch_es("-m", "-cd", "conf", "env=mine", "env.tuned=null", "seed=1,2", *small, cwd=own[0])
    assert done.returncode == 0, done.stderr


def test_the_tuned_scheduler_can_be_left_out():
    made = config.compose_config(["env=pendulum", "~scheduler"])
    with config.build(made, num_workers=0) as es:
        assert es.strategy.scheduler is None
