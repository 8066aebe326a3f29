"""A policy's episode as `video.mp4`, played by the same rollout that trains."""

from __future__ import annotations

import ctypes.util
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from torch_es.errors import needs

_GIVEN_UP = 600.0  # seconds for a video
_RENDERING = "rendering needs torch-evolution[video], and MuJoCo OpenGL (Debian: apt install libegl1 or libosmesa6)"

Frame = np.ndarray[Any, np.dtype[np.uint8]]


class FrameRecorder(gym.Wrapper[Any, Any, Any, Any]):
    """Appends a rendered frame of each step to `frames`; `env` was made with `render_mode="rgb_array"`."""

    def __init__(self, env: gym.Env[Any, Any], frames: list[Frame]) -> None:
        super().__init__(env)
        self._frames = frames

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step and keep the frame.

        Raises:
            ValueError: If the environment gives none.
        """
        outcome = self.env.step(action)
        frame = self.env.render()
        if frame is None:
            raise ValueError("The environment's `render` gives no picture, so there is nothing to record.")
        self._frames.append(np.array(frame))  # a copy: the next may be drawn into the same array
        return outcome


def write_video(frames: Iterable[Frame], path: str | Path, fps: float) -> Path:
    """Write frames `(height, width, 3)` as an MP4.

    Raises:
        MissingExtraError: If imageio or its ffmpeg is not installed.
    """
    with needs("video"):
        import imageio.v2 as imageio
        import imageio_ffmpeg  # noqa: F401
    imageio.mimwrite(path, list(frames), fps=fps, macro_block_size=2)
    return Path(path)


def render_without_a_screen() -> None:
    """Have MuJoCo render off-screen on a Linux machine without a display; to be called before anything is made.

    MuJoCo reads `MUJOCO_GL` when it is imported, and would look for an X server otherwise.
    """
    if sys.platform == "linux" and not {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
        os.environ.setdefault("MUJOCO_GL", "egl" if ctypes.util.find_library("EGL") else "osmesa")


def record_apart(folder: Path, *words: str) -> str:
    """Run `torch-es record` as another process, which a broken OpenGL may end; return the file or what went wrong."""
    why = ""
    for backend in dict.fromkeys((os.environ.get("MUJOCO_GL", "egl"), "egl", "osmesa")):
        try:
            done = subprocess.run(  # noqa: S603 - our own command
                [sys.executable, "-m", "torch_es", "record", str(folder), *words],
                env={**os.environ, "MUJOCO_GL": backend},
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_GIVEN_UP,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"none: recording was given up after {_GIVEN_UP:g} seconds"
        if done.returncode == 0:
            return str(folder / "video.mp4")
        why = (done.stderr.strip().splitlines() or [f"it ended with code {done.returncode}"])[-1]
        if why.startswith("torch-es: "):  # our own message: another OpenGL would not help
            return f"none: {why.removeprefix('torch-es: ')}"
    return f"none: {why}; {_RENDERING}"
