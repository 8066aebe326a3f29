"""Evolve a TorchRL actor, without data collector, loss and replay buffer."""

from functools import partial

import torch
from tensordict.nn import TensorDictModule
from torch import nn
from torchrl.modules import OneHotCategorical, ProbabilisticActor

from torch_es import ES
from torch_es.adapters import from_tensordict

torch.manual_seed(0)
network = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 2))
module = TensorDictModule(network, in_keys=["observation"], out_keys=["logits"])
actor = ProbabilisticActor(module, in_keys=["logits"], distribution_class=OneHotCategorical)

adam = partial(torch.optim.Adam, lr=0.05)
with ES(from_tensordict(actor), "CartPole-v1", optimizer=adam, sigma=0.1, num_pairs=16, num_workers=0) as es:
    es.learn(total_timesteps=60_000, progress_bar=True)
    returns = [episode.return_ for episode in es.evaluate(episodes=10)]
print(f"mean return {sum(returns) / len(returns):.1f}; the actor itself was trained")
