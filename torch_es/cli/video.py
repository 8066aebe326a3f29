"""A policy's episode as `video.mp4`, played by the same rollout that trains."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from torch_es.errors import MissingExtraError

Frame = np.ndarray[Any, np.dtype[np.uint8]]


class FrameRecorder(gym.Wrapper[Any, Any, Any, Any]):
    """Keeps a rendered frame of each step in `frames`.

    Args:
        env: Made with `render_mode="rgb_array"`.
        frames: Where to append.
    """

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
    try:
        import imageio.v2 as imageio
        import imageio_ffmpeg  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("imageio", "video") from error
    imageio.mimwrite(path, list(frames), fps=fps, macro_block_size=2)
    return Path(path)
