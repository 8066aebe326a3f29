"""Atari games, preprocessed as in Mnih et al. 2016 (arXiv:1602.01783), and fast for many short episodes.

Pictures and rewards are those of ale-py's `AtariVectorEnv` and of gymnasium's `AtariPreprocessing`, bit for bit. Only
the start of an episode differs. Seeding either of those loads the game again, which takes 90 ms, longer than a short
game of Breakout; without a seed they continue from what was played before. This class keeps the console's state just
after power-on and restores it, and draws no-ops and sticky actions itself. So an episode follows from its seed alone.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.utils import EzPickle

from torch_es.checks import check_count, suggestion
from torch_es.errors import needs

Pictures = npt.NDArray[np.uint8]

_SETTLING = 2  # no-ops before the state is saved: saved earlier, Q*bert is not restored as it was


class Atari(gym.Env[Pictures, Any], EzPickle):
    """One game; observations are the latest `frame_stack` pictures, uint8 `(frame_stack, screen_size, screen_size)`.

    Each action is repeated for `frame_skip` frames. A picture is the brighter of the last two frames, grey and scaled
    down. Rewards are the game's own, never clipped, and an episode is a whole game, not one life.

    Args:
        env_id: As Gymnasium names it, for example ALE/Pong-v5.
        frame_skip: Frames for which each action is repeated.
        frame_stack: Pictures in an observation; at the start of an episode the missing ones are black.
        screen_size: Height and width of a picture.
        noop_max: Each episode starts with 3 to this many no-ops of one frame each.
        repeat_action_probability: Sticky actions (Machado et al. 2018, arXiv:1709.06009): the probability, at each
            frame, that the joystick stays where it was.
        full_action_space: Whether to offer all eighteen actions instead of those that the game uses.
        max_frames: Frames after which an episode is truncated; by default half an hour of the console's time.
        render_mode: "rgb_array" lets `render()` return the console's picture.

    Raises:
        ValueError: If the game is unknown or an argument is out of its range.
        MissingExtraError: If ale-py or OpenCV is not installed.

    Example:
        >>> env = Atari("ALE/Pong-v5")
        >>> observation, _ = env.reset(seed=0)
        >>> observation.shape, env.action_space.n
        ((4, 84, 84), np.int64(6))
    """

    def __init__(
        self,
        env_id: str,
        frame_skip: int = 4,
        frame_stack: int = 4,
        screen_size: int = 84,
        noop_max: int = 30,
        repeat_action_probability: float = 0.0,
        full_action_space: bool = False,
        max_frames: int = 108_000,
        render_mode: str | None = None,
    ) -> None:
        EzPickle.__init__(
            self, env_id, frame_skip, frame_stack, screen_size, noop_max, repeat_action_probability, full_action_space,
            max_frames, render_mode,
        )  # fmt: skip
        if not 0 <= repeat_action_probability < 1:
            raise ValueError(
                f"`repeat_action_probability` must be at least 0 and below 1, got {repeat_action_probability}."
            )
        self.frame_skip = check_count("frame_skip", frame_skip)
        self._size = (check_count("screen_size", screen_size),) * 2
        self._noop_max = check_count("noop_max", noop_max, minimum=_SETTLING + 1)
        self._stickiness = repeat_action_probability
        self._ale: Any = _powered_on(env_id, check_count("max_frames", max_frames))
        self._start = self._ale.cloneState(include_rng=True)
        self._actions = self._ale.getLegalActionSet() if full_action_space else self._ale.getMinimalActionSet()
        self._held = self._actions[0]
        height, width = self._ale.getScreenDims()
        self._screens = np.zeros((2, height, width), np.uint8)
        self._stack = np.zeros((check_count("frame_stack", frame_stack), *self._size), np.uint8)
        self.observation_space = gym.spaces.Box(0, 255, self._stack.shape, np.uint8)
        self.action_space = gym.spaces.Discrete(len(self._actions))
        self.render_mode = render_mode
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": 60 / frame_skip}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Pictures, dict[str, Any]]:
        """Power the console on and wait a random number of frames."""
        super().reset(seed=seed)
        self._ale.restoreState(self._start)
        self._held = self._actions[0]  # no-op, in every game
        for _ in range(self.np_random.integers(1, self._noop_max - _SETTLING + 1)):
            self._ale.act(self._held)
        self._screens[1] = 0
        self._ale.getScreenGrayscale(self._screens[0])
        self._stack[:] = 0
        return self._observe(), {"episode_frame_number": self._ale.getEpisodeFrameNumber()}

    def step(self, action: Any) -> tuple[Pictures, float, bool, bool, dict[str, Any]]:
        """Repeat the action for `frame_skip` frames; the reward is the sum of their rewards."""
        wanted, reward, over = self._actions[action], 0, False
        for left in reversed(range(self.frame_skip)):
            if not self._stickiness or self.np_random.random() >= self._stickiness:
                self._held = wanted
            reward += self._ale.act(self._held)
            over = self._ale.game_over()  # or out of time
            if over:
                break
            if left < 2:
                self._ale.getScreenGrayscale(self._screens[left])
        terminated = over and self._ale.game_over(with_truncation=False)
        return self._observe(), float(reward), terminated, over and not terminated, {}

    def _observe(self) -> Pictures:
        import cv2

        last, before = self._screens
        if self.frame_skip > 1:  # games draw some things in every second frame only
            np.maximum(last, before, out=last)
        self._stack[:-1] = self._stack[1:]
        self._stack[-1] = cv2.resize(last, self._size, interpolation=cv2.INTER_AREA)
        return self._stack.copy()

    def render(self) -> Any:
        """Return the console's picture `(210, 160, 3)`."""
        return self._ale.getScreenRGB()


def _powered_on(env_id: str, max_frames: int) -> Any:
    """Return ale-py's console with the game in it, powered on and settled."""
    with needs("atari"):
        import ale_py
        import cv2  # noqa: F401
        from ale_py import roms
    known = {name: spec.kwargs["game"] for name, spec in gym.registry.items() if name.startswith("ALE/")}
    if env_id not in known:
        raise ValueError(f"`env` {env_id!r} is not registered.{suggestion(env_id, known)}")
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    ale: Any = ale_py.ALEInterface()
    ale.setFloat("repeat_action_probability", 0.0)
    ale.setInt("max_num_frames_per_episode", max_frames)
    ale.loadROM(roms.get_rom_path(known[env_id]))
    ale.reset_game()
    for _ in range(_SETTLING):
        ale.act(ale_py.Action.NOOP)
    return ale
