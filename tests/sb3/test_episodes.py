"""Monitors, buffers and callbacks get the episodes that workers played."""

import csv

import gymnasium as gym
import numpy as np
from helpers import Stepper
from sb3_helpers import SMALL
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure
from stable_baselines3.common.monitor import Monitor

from torch_es.sb3 import ES


class Judged(Stepper):
    """Says at its end whether it went well, how well, and in words."""

    def step(self, action):
        *step, info = super().step(action)
        if self.at >= self.length:
            info = {"is_success": self.target > 0, "target": np.float32(self.target), "word": "over"}
        return *step, info


def test_monitors_hold_what_workers_played(tmp_path):
    env = Monitor(gym.make("CartPole-v1"), str(tmp_path / "run"))
    model = ES("MlpPolicy", env, **{**SMALL, "num_workers": 1}).learn(200)
    model.es.close()
    env.close()
    played = model.es.trainer
    assert len(env.get_episode_rewards()) == played.total_episodes
    assert env.get_total_steps() == played.total_timesteps
    lines = (tmp_path / "run.monitor.csv").read_text().splitlines()
    assert lines[1] == "r,l,t"
    assert len(lines) == 2 + played.total_episodes


def test_success_and_what_monitors_look_for_come_back_from_workers(tmp_path):
    env = make_vec_env(Judged, 2, monitor_dir=str(tmp_path), monitor_kwargs={"info_keywords": ("target", "word")})
    model = ES("MlpPolicy", env, **{**SMALL, "num_workers": 1})
    rates = []
    model.set_logger(configure(str(tmp_path / "log"), ["csv"]))
    model.learn(80, lambda locals_, _: rates.append([info["is_success"] for info in locals_["infos"]]) or True)
    model.es.close()
    env.close()
    model.logger.close()
    logged = list(csv.DictReader((tmp_path / "log" / "progress.csv").read_text().splitlines()))
    assert float(logged[-1]["rollout/success_rate"]) == np.mean(model.ep_success_buffer)
    assert list(model.ep_success_buffer) == [success for one in rates for success in one]
    assert 0 < np.mean(model.ep_success_buffer) < 1
    rows = [row for file in tmp_path.glob("*.monitor.csv") for row in csv.DictReader(file.read_text().splitlines()[1:])]
    assert len(rows) == model.es.trainer.total_episodes
    assert sorted(float(row["target"]) > 0 for row in rows) == sorted(model.ep_success_buffer)
    assert {row["word"] for row in rows} == {""}  # numbers alone come back


def test_an_environment_without_success_has_no_rate(tmp_path):
    model = ES("MlpPolicy", Monitor(Stepper()), **SMALL).learn(40)
    assert not model.ep_success_buffer
    model.save(tmp_path / "m")
    judged = ES.load(tmp_path / "m", Monitor(Judged()), num_workers=0)
    judged.learn(40, EvalCallback(Monitor(Judged()), eval_freq=20, verbose=0))
    assert len(judged.ep_success_buffer) == judged._episode_num
