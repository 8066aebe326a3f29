"""Evolve how a network learns, not what it knows.

All weights are zero when an episode begins. Each step changes them by a Hebbian rule, and ES evolves that rule
(arXiv:2007.02686).
"""

from functools import partial

import torch
from torch import Tensor, nn

from torch_es import ES
from torch_es.nn import HebbianLinear

State = tuple[Tensor, Tensor]


class Plastic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.out = HebbianLinear(4, 16), HebbianLinear(16, 2)

    def initial_state(self, batch_size: int) -> State:
        return self.hidden.initial_state(batch_size), self.out.initial_state(batch_size)

    def forward(self, observation: Tensor, state: State) -> tuple[Tensor, State]:
        hidden, first = self.hidden(observation, state[0])
        output, second = self.out(hidden, state[1])
        return output, (first, second)


torch.manual_seed(0)
adam = partial(torch.optim.Adam, lr=0.1)
with ES(Plastic(), "CartPole-v1", optimizer=adam, sigma=0.1, num_pairs=16) as es:
    es.learn(total_timesteps=200_000, progress_bar=True)
    returns = [episode.return_ for episode in es.evaluate(episodes=20)]
print(f"mean return {sum(returns) / len(returns):.1f} over {len(returns)} episodes that begin with weights of zero")
