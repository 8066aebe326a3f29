"""Train on a function of the module instead of an environment. Nothing in it is differentiable.

A network whose neurons fire or do not fire tells points inside a circle from points outside. The function returns the
share that it gets right. Both have a gradient of zero almost everywhere, so backpropagation has nothing to follow.
"""

from functools import partial

import torch

from torch_es import ES
from torch_es.nn import Step

points = 2 * torch.rand(512, 2, generator=torch.Generator().manual_seed(0)) - 1
inside = (points.norm(dim=1) < 0.8).long()


def accuracy(module: torch.nn.Module) -> float:
    return float((module(points).argmax(dim=1) == inside).float().mean())


torch.manual_seed(0)
network = torch.nn.Sequential(torch.nn.Linear(2, 32), Step(), torch.nn.Linear(32, 2))
adam = partial(torch.optim.Adam, lr=0.05)
with ES(network, fitness_fn=accuracy, optimizer=adam, sigma=0.1, num_pairs=32, num_workers=0) as es:
    before = accuracy(network)
    es.learn(total_timesteps=64 * 150)  # a call of the function counts as a step: 150 generations
    print(f"accuracy {before:.3f} before, {accuracy(network):.3f} after {es.strategy.generation} generations")
