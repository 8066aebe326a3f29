"""Balance a pole with a network of bits: every weight and every activation is -1 or 1 (arXiv:1602.02830).

Backpropagation would need a made-up gradient for such a network; ES needs none. `python benchmarks/binary.py` compares
this network with its floating-point twin.
"""

from functools import partial

import torch
from torch import nn

from torch_es import ES
from torch_es.nn import ObservationNorm, QuantizedWeights, Sign, binarize

torch.manual_seed(0)
bits = QuantizedWeights(nn.Sequential(nn.Linear(4, 32), Sign(), nn.Linear(32, 2)), binarize)
policy = nn.Sequential(ObservationNorm(4), bits)
adam = partial(torch.optim.Adam, lr=0.02)
with ES(policy, "CartPole-v1", optimizer=adam, sigma=0.05, num_pairs=16) as es:
    es.learn(total_timesteps=200_000, progress_bar=True)
    returns = [episode.return_ for episode in es.evaluate(episodes=10)]

weight = binarize(bits.network[0].weight.detach())
print(f"mean return {sum(returns) / len(returns):.1f} with weights {weight.unique().tolist()}")
