"""Evolve a policy that Stable-Baselines3's PPO trained, with SB3's own callbacks and evaluation."""

import gymnasium as gym
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import EvalCallback, StopTrainingOnRewardThreshold
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from torch_es.sb3 import ES

ppo = PPO("MlpPolicy", "CartPole-v1", seed=0, device="cpu").learn(2_000)
before, _ = evaluate_policy(ppo, Monitor(gym.make("CartPole-v1")))
print(f"PPO's policy: {before:.1f}")

es = ES(ppo.policy, "CartPole-v1", learning_rate=0.02, sigma=0.05, num_pairs=16, seed=0)
stop = StopTrainingOnRewardThreshold(475)
evaluation = EvalCallback(Monitor(gym.make("CartPole-v1")), stop, eval_freq=10_000, verbose=0)
es.learn(300_000, callback=evaluation)
es.save("evolved")  # evolved.zip

after, _ = evaluate_policy(ES.load("evolved"), Monitor(gym.make("CartPole-v1")))
print(f"evolved for {es.num_timesteps:,} steps: {after:.1f}")
