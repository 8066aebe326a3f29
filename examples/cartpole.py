"""Train, evaluate, save and reload a policy."""

import gymnasium as gym
import torch

from torch_es import ES


def build() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.Tanh(), torch.nn.Linear(16, 2))


policy = build()  # any module; its weights are the start, and it is trained in place
with ES(policy, "CartPole-v1", sigma=0.1, num_pairs=16, seed=1) as es:
    es.learn(total_timesteps=200_000, progress_bar=True)
    returns = [episode.return_ for episode in es.evaluate(episodes=10)]
    print(f"mean return {sum(returns) / len(returns):.1f} over {len(returns)} episodes")
    es.save("cartpole")

es = ES.load("cartpole", build())
env = gym.make("CartPole-v1")
observation, _ = env.reset(seed=0)
total, done = 0.0, False
while not done:
    action, _ = es.predict(observation)
    observation, reward, terminated, truncated, _ = env.step(action)
    total, done = total + float(reward), terminated or truncated
print(f"the reloaded policy's return: {total:.0f}")
