import gymnasium as gym
import mujoco as simulation
import numpy as np
import pytest

from torch_es.envs import env_factory, mujoco

TASKS = ["HalfCheetah-v5", "Hopper-v5", "Walker2d-v5", "Ant-v5", "Humanoid-v5"]
OTHERWISE = {
    "Walker2d-v5": {
        "healthy_angle_range": (-0.5, 0.4),
        "healthy_z_range": (0.7, 1.4),
        "healthy_reward": 0.7,
        "terminate_when_unhealthy": False,
        "ctrl_cost_weight": 0.3,
    },
    "Ant-v5": {
        "main_body": 3,
        "contact_cost_weight": 0.1,
        "contact_force_range": (-0.2, 0.3),
        "healthy_z_range": (0.3, 0.6),
        "include_cfrc_ext_in_observation": False,
        "ctrl_cost_weight": 0.3,
    },
    "HalfCheetah-v5": {"ctrl_cost_weight": 0.3},
    "Hopper-v5": {
        "healthy_state_range": (-3.0, 3.0),
        "healthy_z_range": (0.4, 2.0),
        "healthy_reward": 0.7,
        "terminate_when_unhealthy": False,
    },
    "Humanoid-v5": {"contact_cost_weight": 1e-3, "contact_cost_range": (0.02, 0.5), "ctrl_cost_weight": 0.3},
}
SEEN = {"exclude_current_positions_from_observation": False}


def both(env_id, **kwargs):
    return env_factory(env_id, **kwargs)().unwrapped, gym.make(env_id, **kwargs).unwrapped


def bits(stepped):
    observation, reward, terminated, truncated, info = stepped
    values = {name: np.asarray(value, np.float64).tobytes() for name, value in info.items()}
    return observation.dtype, observation.tobytes(), np.float64(reward).tobytes(), terminated, truncated, values


def assert_alike(ours, plain, actions, seed):
    """Step both on after the end too, so that healthy and unhealthy states are seen; return how often it ended."""
    ended = 0
    assert (ours.reset(seed=seed)[0] == plain.reset(seed=seed)[0]).all()
    for action in actions:
        mine, theirs = ours.step(action), plain.step(action)
        assert bits(mine) == bits(theirs)
        ended += theirs[2]
    return ended


@pytest.mark.parametrize("kwargs", ["", "otherwise", "positions"])
@pytest.mark.parametrize("env_id", TASKS)
def test_every_bit_of_a_step_is_gymnasiums(env_id, kwargs):
    given = {"": {}, "otherwise": OTHERWISE[env_id], "positions": SEEN}[kwargs]
    ours, plain = both(env_id, **given)
    assert type(ours).__module__ == "torch_es.envs.mujoco"
    assert isinstance(ours, type(plain))
    generator = np.random.default_rng(0)
    for seed, dtype in ((0, np.float32), (1, np.float64)):
        actions = generator.uniform(-1, 1, (150, ours.model.nu)).astype(dtype) * ours.action_space.high
        ended = assert_alike(ours, plain, actions, seed)
        if env_id != "HalfCheetah-v5" and kwargs != "otherwise":
            assert 0 < ended < 150


def test_health_is_gymnasiums_in_any_state():
    ranges = {"healthy_z_range": (-1.0, 2.0), "healthy_angle_range": (-1.2, 2.0), "healthy_state_range": (-1.0, 1.5)}
    ours, plain = both("Hopper-v5", **ranges)
    generator = np.random.default_rng(0)
    healthy = []
    for _ in range(500):
        qpos, qvel = (generator.uniform(-1.1, 1.6, size) for size in (ours.model.nq, ours.model.nv))
        qpos[1:3] *= 2.0
        for env in (ours, plain):
            env.data.qpos[:], env.data.qvel[:] = qpos, qvel
        healthy.append(ours.is_healthy)
        assert healthy[-1] == plain.is_healthy
    assert 0 < sum(healthy) < 500


@pytest.mark.parametrize("where", ["qpos", "qvel", "cfrc_ext"])
@pytest.mark.parametrize("env_id", TASKS[1:])
def test_what_is_not_a_number_is_treated_alike(env_id, where):
    ours, plain = both(env_id)
    for env in (ours, plain):
        env.reset(seed=0)
        getattr(env.data, where)[-1] = np.nan
    assert ours.is_healthy == plain.is_healthy
    np.testing.assert_array_equal(ours._get_obs(), plain._get_obs())
    if env_id in ("Ant-v5", "Humanoid-v5"):
        np.testing.assert_array_equal(ours.contact_cost, plain.contact_cost)


def test_a_contact_cost_outside_its_range_is_clipped():
    ours, plain = both("Humanoid-v5", contact_cost_range=(0.5, 2.0))
    for force in (0.0, 1000.0, 1e9):
        for env in (ours, plain):
            env.data.cfrc_ext[:] = force
        assert ours.contact_cost == plain.contact_cost


def test_a_body_that_was_moved_or_made_heavier_between_two_steps_is_seen():
    ours, plain = both("Humanoid-v5")
    generator = np.random.default_rng(0)
    for env in (ours, plain):
        env.reset(seed=0)
    for change in ("moved", "heavier"):
        action = generator.uniform(-0.4, 0.4, 17).astype(np.float32)
        assert bits(ours.step(action)) == bits(plain.step(action))
        for env in (ours, plain):
            if change == "moved":
                env.set_state(env.data.qpos + 0.1, env.data.qvel)
            else:
                env.model.body_mass[3] *= 2.0
        assert bits(ours.step(action)) == bits(plain.step(action))


def test_an_action_of_another_shape_is_refused():
    ours, _ = both("HalfCheetah-v5")
    ours.reset(seed=0)
    for action in (np.zeros(1), np.zeros(7), 0.0):
        with pytest.raises(ValueError, match=r"`action` must have shape \(6,\), got"):
            ours.step(action)


def test_a_task_registered_anew_stays_as_it_was_registered(monkeypatch):
    class Own(gym.Env):
        pass

    monkeypatch.setitem(gym.registry, "Hopper-v5", gym.envs.registration.EnvSpec("Hopper-v5", entry_point=Own))
    assert isinstance(env_factory("Hopper-v5")().unwrapped, Own)


def test_the_registry_keeps_gymnasiums_own():
    assert isinstance(env_factory("Hopper-v5")().unwrapped, mujoco.Hopper)
    assert gym.spec("Hopper-v5").entry_point == "gymnasium.envs.mujoco.hopper_v5:HopperEnv"
    assert env_factory("Hopper-v5")().spec.id == "Hopper-v5"
    assert env_factory("Hopper-v5")().spec.max_episode_steps == 1000


def test_half_cheetahs_old_model_is_loaded_in_silence(capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    env_factory("HalfCheetah-v5")()
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_what_else_mujoco_warns_of_is_said(monkeypatch):
    def load(_):
        simulation.get_mju_user_warning()("the inertia is odd")
        return load

    before = simulation.get_mju_user_warning()
    monkeypatch.setattr(mujoco.HalfCheetahEnv, "_initialize_simulation", load)
    with pytest.warns(UserWarning, match="the inertia is odd"):
        mujoco.HalfCheetah._initialize_simulation(mujoco.HalfCheetah.__new__(mujoco.HalfCheetah))
    assert simulation.get_mju_user_warning() == before


@pytest.mark.parametrize("env_id", ["HalfCheetah-v5", "Hopper-v5"])
def test_a_flag_of_numpy_counts_as_one(env_id):
    ours, plain = both(env_id, exclude_current_positions_from_observation=np.True_)
    assert (ours.reset(seed=0)[0] == plain.reset(seed=0)[0]).all()
