"""Callbacks, loggers and schedules of Stable-Baselines3, once a generation."""

import csv
from itertools import pairwise

import gymnasium as gym
import numpy as np
import pytest
import torch
from sb3_helpers import SMALL, Counting, make
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CallbackList,
    CheckpointCallback,
    EvalCallback,
    EveryNTimesteps,
    LogEveryNTimesteps,
    StopTrainingOnMaxEpisodes,
    StopTrainingOnNoModelImprovement,
    StopTrainingOnRewardThreshold,
)
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure
from stable_baselines3.common.monitor import Monitor

from torch_es.sb3 import ES


def test_callbacks_are_called_once_a_generation_in_sb3s_order():
    counting = Counting()
    model = make().learn(300, counting)
    generations = model.es.strategy.generation
    assert "".join(counting.calls) == "start" + "[.]" * generations + "end"
    assert counting.steps == sorted(counting.steps)
    assert counting.steps[-1] == counting.n_calls == model.num_timesteps


@pytest.mark.parametrize("num_envs", [1, 4])
def test_frequencies_count_steps_as_ppo_counts_them(tmp_path, num_envs):
    asked = []

    class Asking(BaseCallback):
        def _on_step(self):
            asked.append((self.n_calls % 500 == 0, self.num_timesteps))
            return True

    env = make_vec_env("CartPole-v1", num_envs)
    saving = CheckpointCallback(2000 // num_envs, tmp_path)
    evaluation = EvalCallback(make_vec_env("CartPole-v1"), eval_freq=1000 // num_envs, log_path=tmp_path, verbose=0)
    ES("MlpPolicy", env, **SMALL).learn(3000, [CallbackList([saving, Asking()]), evaluation])
    steps = [0, *(at for _, at in asked)]
    passed = {n: [b for a, b in pairwise(steps) if a // n < b // n] for n in (500 * num_envs, 1000, 2000)}
    assert [at for multiple, at in asked if multiple] == passed[500 * num_envs] != []
    assert evaluation.evaluations_timesteps == passed[1000]
    assert len(passed[1000]) >= 2
    assert [path.name for path in tmp_path.glob("*.zip")] == [f"rl_model_{at}_steps.zip" for at in passed[2000]]


def test_training_stops_where_a_callback_returns_false():
    model = make().learn(10**9, [Counting(last=3), Counting()])
    assert model.es.strategy.generation == 3
    model.learn(10**9, lambda locals_, globals_: locals_["metrics"]["time/iterations"] < 5)
    assert model.es.strategy.generation == 5


def test_eval_callback_stops_at_a_threshold_and_keeps_the_best(tmp_path):
    stop = StopTrainingOnRewardThreshold(60)
    evaluation = EvalCallback(
        Monitor(gym.make("CartPole-v1")),
        stop,
        eval_freq=2000,
        best_model_save_path=tmp_path,
        log_path=tmp_path,
        verbose=0,
    )
    model = ES("MlpPolicy", "CartPole-v1", learning_rate=0.05, **{**SMALL, "num_pairs": 16}).learn(10**6, evaluation)
    assert evaluation.best_mean_reward >= 60
    with np.load(tmp_path / "evaluations.npz") as written:
        assert written["timesteps"][-1] == model.num_timesteps
    best = ES.load(tmp_path / "best_model", num_workers=0)
    assert torch.equal(best.es.strategy.theta, model.es.strategy.theta)


def test_the_other_callbacks_of_sb3_work(tmp_path):
    model = make().learn(10**6, StopTrainingOnMaxEpisodes(24))
    assert model.es.trainer.total_episodes == 24
    patience = StopTrainingOnNoModelImprovement(max_no_improvement_evals=1)
    stuck = EvalCallback(Monitor(gym.make("CartPole-v1")), callback_after_eval=patience, eval_freq=1, verbose=0)
    stopped = make(learning_rate=1e-30).learn(10**6, stuck)
    assert stopped.es.strategy.generation < 40
    model.set_logger(configure(str(tmp_path), ["csv"]))
    counting = Counting()
    model.learn(600, CallbackList([EveryNTimesteps(300, counting), LogEveryNTimesteps(200)]), log_interval=None)
    model.logger.close()
    assert len(counting.steps) <= 3
    assert (tmp_path / "progress.csv").read_text().count("\n") > 1


def test_loggers_of_sb3_get_every_generation(tmp_path):
    model = make(tensorboard_log=str(tmp_path / "board"))
    model.learn(200, tb_log_name="try")
    model.logger.close()
    assert list((tmp_path / "board" / "try_1").glob("events.out.tfevents.*"))
    model.set_logger(configure(str(tmp_path), ["csv", "json"]))
    model.learn(400, reset_num_timesteps=False)
    model.logger.close()
    rows = list(csv.DictReader((tmp_path / "progress.csv").read_text().splitlines()))
    assert {"rollout/ep_rew_mean", "rollout/ep_len_mean", "time/fps", "train/learning_rate"} <= set(rows[0])
    assert int(rows[-1]["time/total_timesteps"]) == model.num_timesteps


def test_a_schedule_is_followed_to_its_end():
    seen = []
    model = make(learning_rate=lambda left: 0.1 * left)
    model.learn(2000, lambda locals_, _: seen.append(locals_["metrics"]["train/learning_rate"]) or True)
    assert seen[0] == 0.1
    assert seen == sorted(seen, reverse=True)
    assert 0 < seen[-1] < 0.1
