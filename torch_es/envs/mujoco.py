"""Gymnasium's Hopper-v5, HalfCheetah-v5 and Humanoid-v5 with the same bits in less Python.

A step of Hopper-v5 spends a fifth of its time in NumPy calls on arrays of a dozen numbers. Each class here is
gymnasium's, with those parts rewritten in Python floats and ufuncs. Observations, rewards, endings and `info` have the
same bits, as a test checks. Gymnasium gives a task a new version when its behaviour changes, so v5 will stay as it is.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from gymnasium.envs.mujoco import MujocoEnv
from gymnasium.envs.mujoco.half_cheetah_v5 import HalfCheetahEnv
from gymnasium.envs.mujoco.hopper_v5 import HopperEnv
from gymnasium.envs.mujoco.humanoid_v5 import HumanoidEnv
from mujoco import get_mju_user_warning, mj_rnePostConstraint, mj_step, set_mju_user_warning  # after gymnasium's check

from torch_es.types import Float64Array


class _Lean(MujocoEnv):
    """The simulation of an action, and its cost."""

    _ctrl_cost_weight: float

    def do_simulation(self, ctrl: Any, n_frames: int) -> None:
        """Apply the action for `n_frames` steps of the simulation.

        Raises:
            ValueError: If the action has another shape.
        """
        if np.shape(ctrl) != (self.model.nu,):
            raise ValueError(f"`action` must have shape {(self.model.nu,)}, got {np.shape(ctrl)}.")
        self.data.ctrl[:] = ctrl
        mj_step(self.model, self.data, n_frames)
        mj_rnePostConstraint(self.model, self.data)

    def control_cost(self, action: Any) -> Any:
        """Return the weighted sum of squares."""
        return self._ctrl_cost_weight * np.add.reduce(np.square(action))


class HalfCheetah(_Lean, HalfCheetahEnv):
    """HalfCheetah-v5."""

    def _get_obs(self) -> Float64Array:
        data = self.data
        return np.concatenate((data.qpos[self._exclude_current_positions_from_observation :], data.qvel))

    def _initialize_simulation(self) -> Any:
        """Load the model without MuJoCo 4's warning, in a log file too, that each model is of an older format."""
        before = get_mju_user_warning()
        set_mju_user_warning(_warn)
        try:
            return super()._initialize_simulation()
        finally:
            set_mju_user_warning(before)


def _warn(text: str) -> None:
    if "settotalmass" not in text:
        warnings.warn(text, stacklevel=2)


class Hopper(_Lean, HopperEnv):
    """Hopper-v5, which checks its health, and with it the whole state, twice a step in gymnasium."""

    def step(self, action: Any) -> tuple[Float64Array, Any, bool, bool, dict[str, Any]]:
        """Step once, and check the health once."""
        before = self.data.qpos[0]
        self.do_simulation(action, self.frame_skip)
        x, z = self.data.qpos[:2]
        velocity, healthy, cost = (x - before) / self.dt, self.is_healthy, self.control_cost(action)
        forward, survive = self._forward_reward_weight * velocity, healthy * self._healthy_reward
        info = {
            "x_position": x, "z_distance_from_origin": z - self.init_qpos[1], "x_velocity": velocity,
            "reward_forward": forward, "reward_ctrl": -cost, "reward_survive": survive,
        }  # fmt: skip
        if self.render_mode == "human":
            self.render()  # type: ignore[no-untyped-call]
        terminated = not healthy and self._terminate_when_unhealthy
        return self._get_obs(), forward + survive - cost, terminated, False, info

    @property
    def is_healthy(self) -> bool:
        """Whether height, angle and state are in range."""
        _, z, angle, *joints = self.data.qpos.tolist()
        (lowest, highest), (least, most), (low, high) = (
            self._healthy_z_range, self._healthy_angle_range, self._healthy_state_range
        )  # fmt: skip
        within = [low < value < high for value in (angle, *joints, *self.data.qvel.tolist())]  # faster than a generator
        return bool(lowest < z < highest and least < angle < most and all(within))

    def _get_obs(self) -> Float64Array:
        position, velocity = self.data.qpos, np.minimum(self.data.qvel, 10.0)
        np.maximum(velocity, -10.0, out=velocity)
        return np.concatenate((position[self._exclude_current_positions_from_observation :], velocity))


class Humanoid(_Lean, HumanoidEnv):
    """Humanoid-v5."""

    def control_cost(self, action: Any) -> Any:
        """Return the cost of the action that the simulation holds."""
        return super().control_cost(self.data.ctrl)

    @property
    def contact_cost(self) -> Any:
        """The weighted sum of squares of the contact forces, clipped to its range."""
        cost = self._contact_cost_weight * np.add.reduce(np.square(self.data.cfrc_ext), axis=None)
        low, high = self._contact_cost_range
        return min(max(cost, low), high)  # in this order NaN stays NaN
