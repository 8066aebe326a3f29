"""Evolve a CleanRL agent: one line replaces storage, advantages and minibatches."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.distributions import Categorical

from torch_es import ES
from torch_es.adapters import from_cleanrl


class Agent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.critic = nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 1))
        self.actor = nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 2))

    def get_action_and_value(self, x: Tensor, action: Tensor | None = None) -> tuple[Tensor, ...]:
        probs = Categorical(logits=self.actor(x))
        action = probs.sample() if action is None else action
        return action, probs.log_prob(action), probs.entropy(), self.critic(x)


torch.manual_seed(0)
agent = Agent()
adam = partial(torch.optim.Adam, lr=0.02)
with ES(from_cleanrl(agent), "CartPole-v1", optimizer=adam, sigma=0.1, num_pairs=16) as es:
    es.learn(total_timesteps=150_000, progress_bar=True)
    returns = [episode.return_ for episode in es.evaluate(episodes=10)]
print(f"mean return {sum(returns) / len(returns):.1f}; the agent itself was trained")
