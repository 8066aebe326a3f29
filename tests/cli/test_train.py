"""What a run says at its end, and that one which cannot begin leaves nothing."""

import shutil
import signal
import sys
from pathlib import Path

import pytest
from command import torch_es

from torch_es import ES
from torch_es.cli import config

ROOT = Path(__file__).parents[2]
SMALL = [
    "strategy.num_pairs=1", "policy.hidden=[4]", "evaluator.num_workers=0", "total_timesteps=20", "final_episodes=1",
    "run_dir=r",
]  # fmt: skip
ENVIRONMENTS = """
import gymnasium as gym
from gymnasium.envs.classic_control import CartPoleEnv


class Mute(CartPoleEnv):
    def __init__(self):
        super().__init__()


class Blank(CartPoleEnv):
    def render(self):
        return None


class Broken(CartPoleEnv):
    def render(self):
        raise RuntimeError("no display")


for kind in (Mute, Blank, Broken):
    gym.register(f"{kind.__name__}-v0", kind)
"""


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["env=cartpole"], "Settings: tuned for CartPole-v1 (policy=linear strategy=openai_es)."),
        (["env=cartpole", "policy=mlp"], "Settings: tuned for CartPole-v1 (strategy=openai_es)."),
        (["env=cartpole", "env.tuned=null"], "Settings: without those tuned for CartPole-v1."),
        (["env=pendulum", "experiment=salimans_mujoco", "min_episodes=1", "min_timesteps=1"],
         "Settings: without those tuned for Pendulum-v1."),
        (["env=cartpole", "env.id=CliffWalking-v1", "episode.max_steps=9"],
         "Settings: the defaults; none were tuned for CliffWalking-v1."),
    ],
)  # fmt: skip
def test_a_run_says_what_settings_it_trains_with(words, line, tmp_path):
    done = torch_es(*words, *SMALL, "video=false", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert line in done.stdout
    log = (tmp_path / "r" / "run.log").read_text()
    assert f"INFO {line}" in log.splitlines()[0]
    done = torch_es("train", "resume=r", "total_timesteps=21", "video=false", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Settings" not in done.stdout
    done = torch_es("train", "resume=r", "run_dir=another", cwd=tmp_path)
    assert done.returncode == 2
    assert "`run_dir` must be left out with `resume=r`" in done.stderr


def test_a_policy_of_the_zoo_with_nothing_left_to_learn_says_so(tmp_path):
    shutil.copytree(ROOT / "zoo" / "CartPole-v1", tmp_path / "r")
    done = torch_es("resume=r", "video=false", "final_episodes=1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "nothing was left to learn" in done.stdout
    assert "centre return 500.0" in done.stdout
    assert not (tmp_path / "r" / "curve.png").exists()


def video_line(done):
    assert done.returncode == 0, done.stderr
    return next(line for line in done.stdout.splitlines() if line.startswith("video"))


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ("Mute", ["got an unexpected keyword argument 'render_mode'"]),
        ("Blank", ["The environment's `render` gives no picture"]),
        ("Broken", ["RuntimeError: no display", "torch-evolution[video]", "apt install"]),
    ],
)
def test_an_environment_that_cannot_be_rendered_says_why(env, words, tmp_path):
    (tmp_path / "blind.py").write_text(ENVIRONMENTS)
    line = video_line(torch_es(f"env.id=blind:{env}-v0", *SMALL, cwd=tmp_path))
    assert all(word in line for word in words), line
    assert ("apt install" in line) == ("apt install" in words)


def test_without_the_extra_its_name_is_told_whole(tmp_path):
    (tmp_path / "imageio.py").write_text("raise ImportError(name=__name__)")
    line = video_line(torch_es("env=cartpole", *SMALL, cwd=tmp_path))
    assert "`imageio` is not installed" in line
    assert "torch-evolution[video]" in line


@pytest.mark.parametrize(("logger", "module"), [("tensorboard", "torch.utils.tensorboard"), ("wandb", "wandb")])
def test_a_logger_whose_package_is_missing_leaves_nothing(logger, module, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    done = torch_es("env=cartpole", *SMALL, f"logger={logger}", cwd=tmp_path)
    assert done.returncode == 2
    assert f"torch-evolution[{logger}]" in done.stderr
    assert not (tmp_path / "r").exists()


def test_an_environment_that_exits_says_how_to_go_on(tmp_path):
    (tmp_path / "exits.py").write_text(
        "import sys\n"
        "import gymnasium as gym\n"
        "from gymnasium.envs.classic_control import CartPoleEnv\n"
        "class Exits(CartPoleEnv):\n"
        "    steps = 0\n"
        "    def step(self, action):\n"
        "        Exits.steps += 1\n"
        "        return sys.exit(3) if Exits.steps == 300 else super().step(action)\n"
        "gym.register('Exits-v0', Exits, max_episode_steps=20)\n"
    )
    done = torch_es("env.id=exits:Exits-v0", *SMALL, "total_timesteps=1000", "video=false", cwd=tmp_path)
    assert done.returncode == 3
    assert "stopped by SystemExit(3); `torch-es train resume=r env.id=exits:Exits-v0` continues from" in done.stderr


def test_a_signal_in_the_final_evaluation_says_how_to_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr(ES, "evaluate", lambda *_: signal.raise_signal(signal.SIGTERM))
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    done = torch_es("env=cartpole", *SMALL, "video=false", cwd=tmp_path)
    assert done.returncode == 128 + signal.SIGTERM
    assert "stopped by SIGTERM; `torch-es train resume=r` continues from generation" in done.stderr


def test_a_run_that_was_extended_goes_on_to_its_new_budget(tmp_path):
    assert torch_es("env=cartpole", *SMALL, "video=false", cwd=tmp_path).returncode == 0
    began = config.load_config(tmp_path / "r")
    assert torch_es("resume=r", "total_timesteps=300", "video=false", cwd=tmp_path).returncode == 0
    assert config.load_config(tmp_path / "r") == {**began, "total_timesteps": 300}
    done = torch_es("resume=r", cwd=tmp_path)
    assert "nothing was left to learn" in done.stdout
    assert "torch-es train resume=r total_timesteps=600\n" in done.stdout
    done = torch_es("resume=r", "total_timesteps=10", cwd=tmp_path)  # 313 steps are done
    assert "torch-es train resume=r total_timesteps=320\n" in done.stdout


def test_auto_writes_nothing_into_a_folder_that_another_program_made(tmp_path):
    (tmp_path / "r" / "checkpoints").mkdir(parents=True)
    done = torch_es("env=cartpole", *SMALL, "resume=auto", cwd=tmp_path)
    assert done.returncode == 2
    assert "`run_dir` r exists; name another" in done.stderr
    assert [p.name for p in (tmp_path / "r").iterdir()] == ["checkpoints"]
