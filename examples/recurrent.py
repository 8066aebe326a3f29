"""Balance a pole whose velocities are hidden: a recurrent policy infers them from what it saw before."""

from functools import partial

import gymnasium as gym
import torch
from gymnasium.wrappers import TransformObservation

from torch_es import ES, RecurrentNetwork


def positions_only() -> gym.Env:
    seen = gym.spaces.Box(-5, 5, (2,))
    return TransformObservation(gym.make("CartPole-v1"), lambda observation: observation[[0, 2]], seen)


network = RecurrentNetwork(inputs=2, outputs=2, kind="gru", hidden=16, output_scale=1.0)
optimizer = partial(torch.optim.Adam, lr=0.05)
with ES(network, positions_only, optimizer=optimizer, sigma=0.1, num_pairs=32, eval_every=0) as es:
    es.learn(total_timesteps=700_000, progress_bar=True)
    returns = [episode.return_ for episode in es.evaluate(episodes=20)]
print(f"mean return {sum(returns) / len(returns):.1f} over {len(returns)} episodes")
