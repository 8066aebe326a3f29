"""Gymnasium's HalfCheetah-v5, Hopper-v5, Walker2d-v5, Ant-v5 and Humanoid-v5 with the same bits in less Python.

A step of Hopper-v5 spends a fifth of its time in NumPy calls on arrays of a dozen numbers. Each class here is
gymnasium's, with those parts rewritten in Python floats and ufuncs. Observations, rewards, endings and `info` have the
same bits, as a test checks. Gymnasium gives a task a new version when its behaviour changes, so v5 will stay as it is.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from gymnasium.envs.mujoco import MujocoEnv
from gymnasium.envs.mujoco.ant_v5 import AntEnv
from gymnasium.envs.mujoco.half_cheetah_v5 import HalfCheetahEnv
from gymnasium.envs.mujoco.hopper_v5 import HopperEnv
from gymnasium.envs.mujoco.humanoid_v5 import HumanoidEnv
from gymnasium.envs.mujoco.walker2d_v5 import Walker2dEnv
from mujoco import get_mju_user_warning, mj_rnePostConstraint, mj_step, set_mju_user_warning  # after gymnasium's check

from torch_es.types import Float64Array


class _Lean(MujocoEnv):
    """The simulation of an action, and its cost."""

    _ctrl_cost_weight: float
    _exclude_current_positions_from_observation: bool

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
        return np.concatenate((data.qpos[bool(self._exclude_current_positions_from_observation) :], data.qvel))

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


class _Walking(_Lean):
    """What Hopper-v5 and Walker2d-v5 have in common."""

    def step(self: Any, action: Any) -> tuple[Float64Array, Any, bool, bool, dict[str, Any]]:
        """Step once, and check the health once, which gymnasium does twice."""
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
            self.render()
        terminated = not healthy and self._terminate_when_unhealthy
        return self._get_obs(), forward + survive - cost, terminated, False, info

    def _get_obs(self) -> Float64Array:
        position, velocity = self.data.qpos, np.minimum(self.data.qvel, 10.0)
        np.maximum(velocity, -10.0, out=velocity)
        return np.concatenate((position[bool(self._exclude_current_positions_from_observation) :], velocity))


class Hopper(_Walking, HopperEnv):
    """Hopper-v5, whose health is that of its whole state."""

    @property
    def is_healthy(self) -> bool:
        """Whether height, angle and state are in range."""
        _, z, angle, *joints = self.data.qpos.tolist()
        (lowest, highest), (least, most), (low, high) = (
            self._healthy_z_range, self._healthy_angle_range, self._healthy_state_range
        )  # fmt: skip
        within = [low < value < high for value in (angle, *joints, *self.data.qvel.tolist())]  # faster than a generator
        return bool(lowest < z < highest and least < angle < most and all(within))


class Walker2d(_Walking, Walker2dEnv):
    """Walker2d-v5."""


class _Touching(_Lean):
    """What Ant-v5 and Humanoid-v5 have in common: they move in the plane, and contacts cost."""

    def step(self: Any, action: Any) -> tuple[Float64Array, Any, bool, bool, dict[str, Any]]:
        """Step once, and check the health once, which gymnasium does twice."""
        before = self._place()
        self.do_simulation(action, self.frame_skip)
        velocity_x, velocity_y = (self._place() - before) / self.dt
        x, y = plane = self.data.qpos[:2]
        healthy, control, contact = self.is_healthy, self.control_cost(action), self.contact_cost
        forward, survive = velocity_x * self._forward_reward_weight, healthy * self._healthy_reward
        info = {
            "x_position": x, "y_position": y, "distance_from_origin": np.sqrt(plane.dot(plane)),
            "x_velocity": velocity_x, "y_velocity": velocity_y, "reward_forward": forward, "reward_survive": survive,
            "reward_ctrl": -control, "reward_contact": -contact, **self._tendons(),
        }  # fmt: skip
        if self.render_mode == "human":
            self.render()
        terminated = not healthy and self._terminate_when_unhealthy
        return self._get_obs(), forward + survive - (control + contact), terminated, False, info

    def _tendons(self) -> dict[str, Any]:
        return {}


class Ant(_Touching, AntEnv):
    """Ant-v5."""

    _body: tuple[Any, int] = None, 0  # the main body, and its number

    def _place(self) -> Any:
        body, number = self._body
        if body != self._main_body:
            number = self.model.body(self._main_body).id
            self._body = self._main_body, number
        return self.data.xpos[number, :2].copy()

    @property
    def contact_forces(self) -> Any:
        """The contact forces, clipped to their range."""
        low, high = self._contact_force_range
        forces = np.maximum(self.data.cfrc_ext, low)
        return np.minimum(forces, high, out=forces)

    @property
    def contact_cost(self) -> Any:
        """The weighted sum of squares of the contact forces."""
        return self._contact_cost_weight * np.add.reduce(np.square(self.contact_forces), axis=None)

    @property
    def is_healthy(self) -> Any:
        """Whether the height is in range and the state is finite."""
        position, velocity = self.data.qpos, self.data.qvel
        low, high = self._healthy_z_range
        return low <= position[2] <= high and bool(np.isfinite(position).all() and np.isfinite(velocity).all())

    def _get_obs(self) -> Float64Array:
        parts = [self.data.qpos[2 * self._exclude_current_positions_from_observation :], self.data.qvel]
        if self._include_cfrc_ext_in_observation:
            parts.append(self.contact_forces[1:].ravel())
        return np.concatenate(parts)


class Humanoid(_Touching, HumanoidEnv):
    """Humanoid-v5."""

    _bodies: tuple[bytes, bytes] | None = None  # whose centre of mass this is
    _centre: Float64Array

    def _place(self) -> Any:
        """Return the centre of mass, which is usually that after the step before."""
        masses, places = self.model.body_mass, self.data.xipos
        bodies = masses.tobytes(), places.tobytes()
        if bodies != self._bodies:
            column = masses[:, None]
            self._centre = (np.add.reduce(column * places) / np.add.reduce(column, axis=None))[:2]
            self._bodies = bodies
        return self._centre

    def _tendons(self) -> dict[str, Any]:
        return {"tendon_length": self.data.ten_length.copy(), "tendon_velocity": self.data.ten_velocity.copy()}

    def _get_obs(self) -> Float64Array:
        data = self.data
        parts = [data.qpos[2 * self._exclude_current_positions_from_observation :], data.qvel]
        if self._include_cinert_in_observation:
            parts.append(data.cinert[1:].ravel())
        if self._include_cvel_in_observation:
            parts.append(data.cvel[1:].ravel())
        if self._include_qfrc_actuator_in_observation:
            parts.append(data.qfrc_actuator[6:])
        if self._include_cfrc_ext_in_observation:
            parts.append(data.cfrc_ext[1:].ravel())
        return np.concatenate(parts)

    def control_cost(self, action: Any) -> Any:
        """Return the cost of the action that the simulation holds."""
        return super().control_cost(self.data.ctrl)

    @property
    def contact_cost(self) -> Any:
        """The weighted sum of squares of the contact forces, clipped to its range."""
        cost = self._contact_cost_weight * np.add.reduce(np.square(self.data.cfrc_ext), axis=None)
        low, high = self._contact_cost_range
        return min(max(cost, low), high)  # in this order NaN stays NaN
