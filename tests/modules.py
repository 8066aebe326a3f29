"""Networks that are hard to batch: they branch, leave torch, or keep a state in buffers."""

import networkx as nx
import numpy as np
import torch
from torch import nn


class Branching(nn.Module):
    """Control flow that depends on data."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 2), nn.Linear(4, 2)

    def forward(self, x):
        return self.a(x) if x.sum() > 0 else self.b(x)


class UsesNumpy(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 2)

    def forward(self, x):
        return torch.from_numpy(np.sort(self.linear(x).detach().numpy(), axis=1))


class SearchesPath(nn.Module):
    """The cheapest way across a 3x3 grid whose costs the network gives; answers whether two of the cells are on it."""

    def __init__(self):
        super().__init__()
        self.costs = nn.Linear(4, 9)

    def forward(self, x):
        grid = nx.grid_2d_graph(3, 3)
        rows = []
        for costs in self.costs(x).exp().reshape(-1, 3, 3).tolist():
            way = nx.shortest_path(grid, (0, 0), (2, 2), weight=lambda _, cell, __, c=costs: c[cell[0]][cell[1]])
            rows.append([float((0, 1) in way), float((1, 1) in way)])
        return torch.tensor(rows)


class Counting(nn.Module):
    """A buffer that changes in place with every call."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 2)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x):
        self.calls.add_(1)
        return self.linear(x) * self.calls
