"""A run's newest policy, played again by `evaluate` and `record`."""

from typing import ClassVar

import gymnasium as gym
import pytest
from command import torch_es
from gymnasium.envs.mujoco import MujocoEnv
from gymnasium.envs.registration import EnvSpec

from torch_es.cli import main, playing


def test_evaluate_and_plot_work_on_a_run(run):
    folder, _ = run
    done = torch_es("evaluate", "r", "--episodes", "3", cwd=folder.parent)
    assert "over 3 episodes" in done.stdout, done.stderr
    done = torch_es("plot", "r", "r", "--out", "both.png", cwd=folder.parent)
    assert done.returncode == 0, done.stderr
    (folder.parent / "both.png").unlink()


def test_a_video_has_the_frames_of_the_episode_alone(run, tmp_path, monkeypatch):
    kept = []
    monkeypatch.setattr(playing, "write_video", lambda frames, path, fps: kept.extend(frames) or path)
    monkeypatch.setattr(playing.ES, "evaluate", lambda self, episodes: kept.append(len(kept)))
    playing.record([str(run[0])])
    assert kept == [0]


def test_records_a_run(run, tmp_path):
    folder, _ = run
    done = torch_es("record", "r", "--out", str(tmp_path / "v.mp4"), cwd=folder.parent)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "v.mp4").stat().st_size > 1000


@pytest.mark.parametrize(("env", "tracked"), [("HalfCheetah-v5", True), ("InvertedPendulum-v5", False)])
def test_the_camera_goes_with_an_animal_that_runs(env, tracked):
    _, _, make = playing.camera({"id": env})
    assert (make().unwrapped.mujoco_renderer.camera_id >= 0) is tracked


def test_an_episode_is_one_of_the_centre(run, capsys):
    assert main(["replay", str(run[0]), "--generation", "1", "--member", "0", "--episode", "2"]) == 2
    assert "`--episode` must be left out with `--member`" in capsys.readouterr().err


class Pendulum(MujocoEnv):
    """One whose constructor does not take a camera."""

    metadata: ClassVar = {"render_modes": ["human", "rgb_array", "depth_array", "rgbd_tuple"]}

    def __init__(self, render_mode=None):
        super().__init__("inverted_pendulum.xml", 2, gym.spaces.Box(-1, 1, (4,)), render_mode=render_mode)


def test_a_camera_is_no_argument_of_every_environment(monkeypatch):
    monkeypatch.setitem(gym.registry, "Pend-v0", EnvSpec("Pend-v0", entry_point=Pendulum))
    _, _, make = playing.camera({"id": "Pend-v0"})
    assert make().unwrapped.render_mode == "rgb_array"


def test_a_camera_that_is_named_stays():
    _, _, make = playing.camera({"id": "HalfCheetah-v5", "kwargs": {"camera_id": 7}})
    assert make().unwrapped.mujoco_renderer.camera_id == 7
