"""The command, as a user types it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from command import SMALL_RUN, logged, torch_es

from torch_es import __version__, cli
from torch_es.cli import config
from torch_es.cli.video import render_without_a_screen


def test_a_run_leaves_its_folder_and_says_what_next(run):
    folder, done = run
    files = {
        "config.yaml",
        "metrics.jsonl",
        "replay.log",
        "curve.png",
        "summary.json",
        "checkpoints",
        "run.log",
        ".lock",
    }
    assert {p.name for p in folder.iterdir()} == files
    assert logged(folder)[-1]["global_step"] >= 300
    ended = json.loads((folder / "summary.json").read_text())
    assert f"centre return {ended['eval/mean_reward']:,.1f} ± {ended['eval/std_reward']:,.1f} over" in done.stdout
    assert ended["generation"] == logged(folder)[-1]["time/iterations"]
    for word in ("generation 1 |", "centre return", "evaluate", "plot", "record", "torch-es train resume=r"):
        assert word in done.stdout
    assert {p.name for p in folder.parent.iterdir()} == {"r"}


def test_resumed_is_straight(run, tmp_path):
    folder, _ = run
    straight = torch_es(*SMALL_RUN, "total_timesteps=600", "run_dir=s", cwd=tmp_path)
    assert straight.returncode == 0, straight.stderr
    subprocess.run(["cp", "-r", folder, tmp_path / "r"], check=True)
    done = torch_es("train", "resume=r", "total_timesteps=600", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    timing = ("time/fps", "time/time_elapsed")

    def compared(name):
        return [{k: v for k, v in row.items() if k not in timing} for row in logged(tmp_path / name)]

    assert compared("r") == compared("s")


def test_an_existing_folder_is_left_alone(run):
    folder, _ = run
    before = (folder / "metrics.jsonl").read_text()
    done = torch_es(*SMALL_RUN, "run_dir=r", cwd=folder.parent)
    assert done.returncode == 2
    assert "exists; name another" in done.stderr
    assert (folder / "metrics.jsonl").read_text() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["env=hoper"], "Did you mean `hopper`"),
        (["+episods=3"], "Did you mean `episode`"),
        (["video=no"], "`video` must be true or false, got 'no'"),
        (["run_dir=r", "final_episodes=0"], "`final_episodes` must be at least 1, got 0"),
        (["run_dir=r", "policy.hidden=64"], "`policy.hidden` must be a list"),
        (["strategy.sigma=-1"], "`sigma` must be positive, got -1"),
        (["run_dir=r", "env=hopper", "strategy.num_pairs=2"], "got 4 of 2 pairs; set `num_top` (strategy.num_top) too"),
        (["evaluate", "nowhere"], "`nowhere` is not a run folder: it does not exist"),
        (["evaluate", "."], "`.` is not a run folder: it has no config.yaml"),
        (["train", "resume=nowhere"], "`nowhere` is not a run folder"),
    ],
)
def test_wrong_usage_exits_2_in_one_line_and_writes_nothing(arguments, message, tmp_path):
    done = torch_es(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert [p.name for p in tmp_path.iterdir() if p.name != "MUJOCO_LOG.TXT"] == []


def test_help_lists_groups_and_commands(tmp_path):
    done = torch_es("--help", cwd=tmp_path)
    for word in ("env: acrobot", "optimizer:", "strategy: ars, openai_es", "torch-es evaluate RUN", "total_timesteps"):
        assert word in done.stdout


def test_jobs_of_a_multirun_never_continue_each_others_runs(tmp_path):
    budgets = ["--multirun", *SMALL_RUN, "total_timesteps=20,50", "resume=auto"]
    for _ in range(2):  # the second time each continues its own
        done = torch_es(*budgets, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        budgets_of = [config.load_config(path)["total_timesteps"] for path in tmp_path.glob("runs/CartPole-v1/*")]
        assert sorted(budgets_of) == [20, 50]


def test_multirun_makes_a_run_for_each_job(tmp_path):
    """Also for two that differ in something that the folder's name does not tell."""
    done = torch_es("--multirun", *SMALL_RUN, "total_timesteps=50", "seed=1", "strategy.sigma=0.1,0.2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folders = sorted((tmp_path / "runs" / "CartPole-v1").iterdir())
    assert [f.name.rsplit("-", 1)[1] for f in folders] == ["0", "1"]
    assert [config.load_config(f)["strategy"]["sigma"] for f in folders] == [0.1, 0.2]


def test_an_environments_module_may_lie_in_the_present_folder(tmp_path):
    """As it does for `python -m`; this is the installed command."""
    (tmp_path / "reach.py").write_text(
        "import gymnasium as gym\ngym.register('Reach-v0', 'gymnasium.envs.classic_control:CartPoleEnv')\n"
    )
    command = Path(sys.executable).with_name("torch-es")
    small = ["video=false", "policy.hidden=[4]", "evaluator.num_workers=1", "final_episodes=1", "total_timesteps=20"]
    words = [command, "env.id=reach:Reach-v0", "strategy.num_pairs=1", *small]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_the_version_is_our_own(tmp_path):
    assert torch_es("--version", cwd=tmp_path).stdout == f"torch-es {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "`trian` is not a command. Did you mean `train`?"),
        (["hopper"], "`hopper` is not a command. Did you mean `env=hopper`?"),
        (["--env", "cartpole"], "`--env` is not an option of torch-es; a value of the config is set by KEY=VALUE"),
        (["run_dir=lr=1"], """an override looks like KEY=VALUE. A value with"""),
        (["--experimental-rerun", "x.pkl"], "`--experimental-rerun` is not an option of torch-es"),
    ],
)
def test_a_word_that_means_nothing_is_refused(arguments, message, tmp_path):
    done = torch_es(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_a_module_and_a_line_of_help(name, tmp_path):
    assert f"torch-es {name} " in cli.commands_help()
    if name != "train":
        done = torch_es(name, "--help", cwd=tmp_path)
        assert done.returncode == 0
        assert f"torch-es {name}" in done.stdout


def test_a_command_imports_no_other(tmp_path):
    code = "import sys; from torch_es.cli import main; main(['plot', 'nowhere']); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True).stdout.split()
    assert "torch_es.cli.plot" in loaded
    assert not {"torch_es.cli.train", "torch_es.cli.push", "torch_es.hub", "torch_es.cli.sweep"} & set(loaded)


def test_a_terminal_that_knows_ascii_only(tmp_path, run):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C"}
    words = [sys.executable, "-m", "torch_es", "evaluate", str(run[0]), "--episodes", "2"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "+/-" in done.stdout


@pytest.mark.parametrize("member", ["99", "-5"])
def test_a_member_that_was_not_played_is_refused(member, run, tmp_path):
    done = torch_es("replay", str(run[0]), "--generation", "1", f"--member={member}", cwd=tmp_path)
    assert done.returncode == 2
    assert f"`--member` must be from 0 to 3 in generation 1, got {member}." in done.stderr


def test_on_a_machine_without_a_screen_a_run_is_filmed_too(run, tmp_path, monkeypatch):
    monkeypatch.setattr("os.environ", dict(os.environ))  # what is set here would reach every later worker
    monkeypatch.setattr("torch_es.cli.video.ctypes.util.find_library", lambda name: None)
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DISPLAY", ":0")
    render_without_a_screen()
    assert "MUJOCO_GL" not in os.environ
    monkeypatch.delenv("DISPLAY")
    render_without_a_screen()
    assert os.environ["MUJOCO_GL"] == "osmesa"
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    render_without_a_screen()
    assert os.environ["MUJOCO_GL"] == "glfw"


def test_check_env_needs_nothing_but_an_environment(capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["check-env"])
    assert capsys.readouterr().err.endswith("the following arguments are required: env\n")
