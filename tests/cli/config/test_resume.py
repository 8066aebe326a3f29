"""The config of a run folder, and the folder that a command goes on with."""

import shutil

import pytest
from command import torch_es

from torch_es import from_run
from torch_es.cli import config


def test_an_existing_run_folder_is_refused(tmp_path):
    config.check_free(tmp_path / "new")
    (tmp_path / "config.yaml").touch()
    with pytest.raises(ValueError, match="exists; name another, or continue it with"):
        config.check_free(tmp_path)


DOORS = [
    ["evaluate", "r"], ["record", "r"], ["export", "r"], ["push", "r", "user/name", "--folder", "hub"],
    ["replay", "r", "--generation", "0"], ["train", "resume=r"], ["run_dir=r", "resume=auto"], ["report", "r"],
    ["plot", "r"],
]  # fmt: skip


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        ("id: CartPole-v1", "id: payload:CartPole-v1"),
        ("name: mlp", "name: payload:Policy"),
        ("kwargs: {}", "kwargs: {env_id: payload:CartPole-v1}"),
        ("evaluator:\n  name: null", "evaluator:\n  name: payload:Threads"),
    ],
)
@pytest.mark.parametrize("arguments", DOORS, ids=lambda words: words[0])
def test_a_run_folder_imports_no_module_that_the_user_has_not_named(arguments, was, becomes, run, tmp_path):
    shutil.copytree(run[0], tmp_path / "r")
    settings = tmp_path / "r" / "config.yaml"
    assert was in settings.read_text()
    settings.write_text(settings.read_text().replace(was, becomes))
    (tmp_path / "payload.py").write_text("open('ran', 'w')\n")
    done = torch_es(*arguments, cwd=tmp_path)
    assert not (tmp_path / "ran").exists()
    if arguments[0] in ("report", "plot"):
        assert done.returncode == 0, done.stderr
    elif arguments[-1] == "resume=auto":
        assert "was started by other settings" in done.stderr
    else:
        assert done.returncode == 2
        assert "would import the module `payload` and run its code" in done.stderr
        assert f"{becomes.split(' ')[-1].strip('}')}" in done.stderr
        assert "name it: `--import payload`" in done.stderr


def test_a_module_that_the_user_names_is_imported(run, tmp_path):
    shutil.copytree(run[0], tmp_path / "r")
    settings = tmp_path / "r" / "config.yaml"
    settings.write_text(settings.read_text().replace("id: CartPole-v1", "id: named_by_user:CartPole-v1"))
    (tmp_path / "named_by_user.py").write_text("")
    done = torch_es("evaluate", "r", "--episodes", "1", "--import", "named_by_user", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    more = ["total_timesteps=310", "env.id=named_by_user:CartPole-v1"]
    done = torch_es("train", "resume=r", *more, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "total_timesteps=620 env.id=named_by_user:CartPole-v1" in done.stdout
    assert "evaluate r --import named_by_user" in done.stdout


@pytest.mark.parametrize("acting", ["policy.box_head=uniform:10", "policy.action_noise=gaussian:0.01"])
def test_a_short_name_of_a_head_or_of_noise_is_no_module_to_import(acting, tmp_path):
    small = ["video=false", "evaluator.num_workers=0", "final_episodes=1", "strategy.num_pairs=1", "total_timesteps=20"]
    words = ["env=pendulum", acting, "episode.per_member=1", "episode.max_steps=10", *small, "run_dir=r"]
    for arguments in (words, ["evaluate", "r", "--episodes", "1"], ["train", "resume=r", "total_timesteps=40"]):
        done = torch_es(*arguments, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "--import" not in done.stdout
    with from_run(tmp_path / "r", num_workers=0) as es:
        assert es.trainer.total_timesteps >= 40


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("env: [", "cannot be read"),
        ("- a", "is not the config of a run"),
        (
            "env: {id: CartPole-v1}\nevaluator: 3",
            "is not the config of a run: it has no group policy, .*, evaluator, lo",
        ),
    ],
)
def test_a_file_that_is_not_the_config_of_a_run_is_refused(content, message, tmp_path):
    (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(ValueError, match=message):
        config.load_config(tmp_path)


def test_a_config_is_read_as_it_stands(tmp_path, monkeypatch):
    monkeypatch.setenv("TOKEN", "secret")
    composed = {**config.compose_config(), "run_dir": "${oc.env:TOKEN}"}
    config.save_config(composed, tmp_path)
    assert config.load_config(tmp_path) == composed


@pytest.mark.parametrize(("folder", "named", "found"), [("a", True, True), ("b", True, False), ("b", False, True)])
def test_auto_continues_the_folder_that_is_named_and_no_other(folder, named, found, tmp_path):
    (tmp_path / "a").mkdir()
    settings = {**config.compose_config(), "run_dir": str(tmp_path / "a")}
    config.save_config(settings, tmp_path / "a")
    overrides = [f"run_dir={tmp_path / folder}"]
    begun = config.compose_config(overrides)
    assert config.find_run(begun, overrides if named else []) == (tmp_path / "a" if found else None)


@pytest.mark.parametrize(
    "words", [["+optimizer.weight_decay=0.1"], ["+env.kwargs.sutton_barto_reward=true"], ["+strategy.noise=philox"]]
)
def test_an_argument_that_is_added_makes_another_run(words, tmp_path):
    begun = config.compose_config(["env=cartpole", f"run_dir={tmp_path}/a"])
    (tmp_path / "a").mkdir()
    config.save_config(begun, tmp_path / "a")
    settings = config.compose_config(["env=cartpole", *words, f"run_dir={tmp_path}/b"])
    assert config.find_run(settings, words) is None
    key = words[0][1:].partition("=")[0]
    with pytest.raises(ValueError, match=rf"`{key}` was absent, is"):
        config.resumed_config(tmp_path / "a", settings, words)
    assert config.find_run({**begun, "run_dir": f"{tmp_path}/b"}, []) == tmp_path / "a"
    assert config.find_run(settings, []) == tmp_path / "a"  # as if a newer version had brought the key


def test_another_evaluator_takes_nothing_of_the_first():
    saved = config.compose_config(["evaluator=ray"])
    words = ["evaluator=serial"]
    made = config.changed(config.compose_config(words), words, saved)
    assert made["evaluator"] == config.compose_config(words)["evaluator"]
    some = ["evaluator.num_workers=3"]
    assert config.changed(config.compose_config(some), some, config.compose_config())["evaluator"]["num_workers"] == 3


@pytest.mark.parametrize("word", ["evaluator=serial", "env.tuned=null"])
def test_a_run_may_be_resumed_elsewhere_by_the_words_that_began_it(word, tmp_path):
    begun = ["env=cartpole", "env.tuned=null", "evaluator=ray", "video=false", "final_episodes=1", "total_timesteps=1"]
    saved = config.compose_config(["run_dir=r", *begun, "strategy.num_pairs=1"])
    with config.build({**saved, "evaluator": {"name": None, "num_workers": 0}}) as es:
        es.learn(total_timesteps=1, folder=tmp_path / "r")
    config.save_config(saved, tmp_path / "r")
    done = torch_es("resume=r", "evaluator=serial", word, "total_timesteps=2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_run_is_not_resumed_with_an_experiment():
    saved = config.compose_config(["env=cartpole"])
    words = ["experiment=salimans_mujoco", "total_timesteps=20"]
    with pytest.raises(
        ValueError, match=r"`experiment` must be left out .*, got salimans_mujoco\. Set what may change"
    ):
        config.changed(config.compose_config(words), words, saved)
    words = ["experiment=none", "total_timesteps=20"]
    assert config.changed(config.compose_config(words), words, saved)["total_timesteps"] == 20


def test_what_is_resumed_is_not_resolved(monkeypatch):
    monkeypatch.setenv("TOKEN", "secret")
    saved = config.compose_config(["env=cartpole"])
    saved["logger"]["project"] = "${oc.env:TOKEN}"
    words = ["total_timesteps=20"]
    made = config.changed(config.compose_config(words), words, saved)
    assert made == {**saved, "total_timesteps": 20}


def test_a_damaged_config_beside_is_passed_over(tmp_path, caplog):
    begun = config.compose_config(["env=cartpole", f"run_dir={tmp_path}/new"])
    for name, text in {"good": None, "bad": ": : ["}.items():
        (tmp_path / name).mkdir()
        config.save_config(begun, tmp_path / name)
        if text:
            (tmp_path / name / "config.yaml").write_text(text)
    assert config.find_run(begun, []) == tmp_path / "good"
    assert "bad/config.yaml` cannot be read" in caplog.text
