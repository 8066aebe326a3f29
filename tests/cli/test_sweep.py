"""`torch-es sweep` on small runs; F54 is in tests/faults."""

import json
import re
import shlex

import optuna
import pytest
from matplotlib.image import imread

from torch_es.cli import config, main

SMALL = [
    "env=cartpole", "strategy.num_pairs=2", "evaluator.num_workers=0", "policy.hidden=[4]", "final_episodes=1",
    "total_timesteps=200", "policy=mlp", "sweep.dir=s",
]  # fmt: skip


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["optimizer.lrr=interval(0,1)"], "`optimizer.lrr` is not an argument of torch.optim.Adam. Did you mean"),
        (["strategy.sgma=interval(0,1)"], "`strategy.sgma` is not a key of the config. Did you mean `strategy.sigma`"),
        (["strategy.sigma=tag(log,interval(0,1))"], "`strategy.sigma` cannot be searched: .*low.*"),
        (["sweep=none"], "Nothing is searched"),
        (["env=hoper"], "Did you mean `hopper`"),
        (["strategy.sigma=-1"], "`sigma` must be positive"),
        (["final_episodes=0"], "`final_episodes` must be at least 1"),
        (["sweep.trials=abc"], "`sweep.trials` must be a whole number"),
        (["sweep.trails=3"], "Did you mean `sweep.trials`"),
        (["run_dir=mine"], "`run_dir` must be left out of a sweep, .* `sweep.dir` is theirs"),
        (["strategy.sigma=interval(0,1"], "an override looks like KEY=VALUE"),
        (["strategy.num_pairs=interval(4,9.0)"], "`num_pairs` must be a whole number, got 5.7"),
        (["strategy.num_pairs=range(5,1)"], "`strategy.num_pairs` cannot be searched in range.*, which holds nothing"),
        (["strategy.num_pairs=tag(log,range(8,64,8))"], "cannot be searched in .*, which takes no tag; list the val"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_written(overrides, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = [o for o in SMALL if o.partition("=")[0] not in {w.partition("=")[0] for w in overrides}]
    assert main(["sweep", *arguments, *overrides]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not list(tmp_path.iterdir())


def test_a_sweep_tries_keeps_and_reports_and_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    space = ["strategy.sigma=tag(log,interval(0.02,0.5))", "strategy=openai_es,snes"]
    assert main(["sweep", *SMALL, *space, "sweep.trials=2"]) == 0
    assert main(["sweep", *SMALL, *space, "sweep.trials=4"]) == 0
    assert main(["sweep", *SMALL, *space, "sweep.trials=4"]) == 0  # nothing left to do but to report
    out = capsys.readouterr().out
    assert [line.split(" |")[0] for line in out.splitlines() if line.startswith("trial ")] == [
        f"trial {n}" for n in range(4)
    ]
    assert "4 completed, 0 stopped early, 0 failed" in out
    assert "optimizer.lr" in out  # of the task's own space
    assert imread(tmp_path / "s" / "sweep.png").std() > 0.05
    study = optuna.load_study(study_name="torch-es", storage=f"sqlite:///{tmp_path}/s/study.db")
    for trial in study.trials:
        run = config.load_config(tmp_path / "s" / f"trial-{trial.number:04d}")
        assert run["strategy"]["sigma"] == trial.params["strategy.sigma"]
        assert run["strategy"]["name"] == trial.params["strategy"]
        assert run["strategy"]["num_pairs"] == 2  # fixed on the command line, so not searched
    again = shlex.split(out.rsplit("train it     torch-es ", 1)[1])
    best = config.compose_config(again)
    assert best["strategy"]["sigma"] == study.best_params["strategy.sigma"]


def test_keys_that_a_fixed_option_brings_can_be_searched(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    fixed = ["strategy=ars", "sweep.trials=1"]
    assert main(["sweep", *SMALL, *fixed, "strategy.num_top=1,2"]) == 0, capsys.readouterr().err


def test_what_the_file_of_a_sweep_sets_is_in_the_command_that_trains_the_best(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf" / "sweep").mkdir(parents=True)
    (tmp_path / "conf" / "sweep" / "mine.yaml").write_text(
        "# @package _global_\nepisode:\n  max_steps: 30\nstrategy:\n  num_pairs: 3\n"
        "sweep:\n  trials: 1\n  space:\n    strategy.sigma: 0.1,0.2\n    optimizer.lr: 0.1,0.2\n"
    )
    words = [o for o in SMALL if not o.startswith("strategy.num_pairs")]
    assert main(["sweep", *words, f"hydra.searchpath=[{tmp_path}/conf]", "sweep=mine", "++optimizer.lr=0.3"]) == 0
    run = config.load_config(tmp_path / "s" / "trial-0000")
    assert run["optimizer"]["lr"] == 0.3  # it is fixed, however the key is written
    again = shlex.split(capsys.readouterr().out.rsplit("train it     torch-es ", 1)[1])
    assert not config.fixed_differences(run, config.compose_config(again), again)
    assert config.compose_config(again)["strategy"]["num_pairs"] == 3


def test_another_sweep_in_the_same_folder_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    sweep = ["sweep", *SMALL, "sweep.trials=1"]
    assert main([*sweep, "strategy.sigma=interval(0.1,0.2)"]) == 0
    assert main([*sweep, "strategy.sigma=interval(0.1,0.3)", "seed=1"]) == 2
    error = capsys.readouterr().err
    assert "holds another sweep" in error
    assert "`seed` was 0, is 1" in error
    assert "interval(0.1,0.2), is interval(0.1,0.3)" in error
    assert main([*sweep, "strategy.sigma=interval(0.1,0.2)", "episode.per_member=1,2"]) == 2
    assert "`episode.per_member` was absent, is 1,2" in capsys.readouterr().err
    assert main([*sweep, "strategy.sigma=interval(0.1,0.2)", "logger=csv", "sweep.trials=2"]) == 0
    assert (tmp_path / "s" / "trial-0001" / "progress.csv").is_file()


def test_the_folder_of_a_run_is_no_sweeps(run, capsys):
    assert main(["sweep", *SMALL[:-1], f"sweep.dir={run[0]}"]) == 2
    assert "holds a run, not a sweep; set `sweep.dir` to another folder." in capsys.readouterr().err


def test_a_sweep_of_failures_is_one(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", *SMALL, "optimizer.lr=choice(-1)", "sweep.trials=2"]) == 2  # told at once
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "trial-0000").write_text("in the way")
    space = ["optimizer.lr=choice(0.05,0.1)", "strategy.sigma=0.1"]
    assert main(["sweep", *SMALL, *space, "sweep.trials=1"]) == 1
    assert "None of 1 trials was completed" in capsys.readouterr().err
    assert main(["sweep", *SMALL, *space, "sweep.trials=2"]) == 0
    assert "1 completed, 0 stopped early, 1 failed" in capsys.readouterr().out


def test_a_trial_that_is_given_up_is_kept_as_such(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("optuna.pruners.MedianPruner.prune", lambda self, study, trial: trial.number == 1)
    space = ["strategy.sigma=interval(0.1,0.2)", "sweep.trials=2", "eval_every=1", "total_timesteps=2000"]
    assert main(["sweep", *SMALL[:-3], *SMALL[-2:], *space]) == 0
    assert "1 completed, 1 stopped early, 0 failed" in capsys.readouterr().out
    rows = [(tmp_path / "s" / f"trial-000{n}" / "metrics.jsonl").read_text().splitlines() for n in (0, 1)]
    assert json.loads(rows[0][-1])["global_step"] >= 2000
    assert len(rows[1]) < len(rows[0])
