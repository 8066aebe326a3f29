"""Put a search into a module: the network gives each cell a cost, and networkx finds the cheapest path across.

No gradient passes through the search. The only feedback is what the whole walk costs; nothing says what grass, mud or
water cost by themselves.
"""

from functools import partial

import networkx as nx
import torch
from torch import nn

from torch_es import ES

SIZE, START, GOAL = 5, (0, 0), (4, 4)
GRID = nx.grid_2d_graph(SIZE, SIZE)


def shortest_path(costs: list[list[float]]) -> list[tuple[int, int]]:
    return nx.shortest_path(GRID, START, GOAL, weight=lambda _, cell, __: costs[cell[0]][cell[1]])


class Planner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cost = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1), nn.Softplus(), nn.Flatten(2))

    def forward(self, looks: torch.Tensor) -> list[list[tuple[int, int]]]:
        return [shortest_path(costs) for costs in self.cost(looks).reshape(-1, SIZE, SIZE).tolist()]


random = torch.Generator().manual_seed(0)
ground = torch.randint(3, (64, SIZE, SIZE), generator=random)  # grass, mud, water
true_costs = torch.tensor([1.0, 3.0, 10.0])[ground]
looks = torch.rand(3, 4, generator=random)[ground] + 0.05 * torch.randn(64, SIZE, SIZE, 4, generator=random)
train, test = slice(0, 32), slice(32, 64)


def cost_of(paths: list[list[tuple[int, int]]], part: slice) -> float:
    walks = zip(paths, true_costs[part].tolist(), strict=True)
    return sum(sum(costs[row][column] for row, column in path[1:]) for path, costs in walks) / len(paths)


torch.manual_seed(0)
planner = Planner()
before = cost_of(planner(looks[test]), test)
adam = partial(torch.optim.Adam, lr=0.1)
with ES(planner, fitness_fn=lambda module: -cost_of(module(looks[train]), train), optimizer=adam, sigma=0.3) as es:
    es.learn(total_timesteps=40 * 2 * es.strategy.num_pairs)
after, best = cost_of(planner(looks[test]), test), cost_of([shortest_path(c) for c in true_costs[test].tolist()], test)
print(f"cost of a walk on new maps: {before:.2f} before, {after:.2f} after, {best:.2f} at best")
