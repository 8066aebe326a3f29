"""Write a training loop that uses backpropagation where there is a gradient, and ES where there is none.

Four points lie on a board, and a cue says which one counts: is it inside the circle? One part of the model chooses a
point, and a choice has no gradient. The other part judges the chosen point and does have one. One optimiser steps both.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from torch_es import SearchGradient

torch.set_num_threads(1)  # batches are small
cues = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))  # what each place is called


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.choose = nn.Linear(8, 4)
        self.judge = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 2))

    def forward(self, cue: Tensor, points: Tensor) -> Tensor:
        chosen = self.choose(cue).argmax(dim=1)
        return self.judge(points[torch.arange(len(points)), chosen])


def batch(size: int) -> tuple[Tensor, Tensor, Tensor]:
    place, points = torch.randint(4, (size,)), 2 * torch.rand(size, 4, 2) - 1
    inside = points[torch.arange(size), place].norm(dim=1) < 0.8
    return cues[place], points, inside.long()


def train(mixed: bool, steps: int = 300) -> float:
    """Return the accuracy on new boards."""
    torch.manual_seed(0)
    model = Model()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    es = SearchGradient(model.choose, sigma=0.3, num_pairs=16)
    for _ in range(steps):
        cue, points, inside = batch(256)
        optimizer.zero_grad()
        cross_entropy(model(cue, points), inside).backward()  # reaches `judge` alone
        if mixed:
            es.backward(lambda _: -cross_entropy(model(cue, points), inside))  # noqa: B023 - called at once
        optimizer.step()
    cue, points, inside = batch(4096)
    return float((model(cue, points).argmax(dim=1) == inside).float().mean())


if __name__ == "__main__":
    accuracy = {name: train(mixed) for name, mixed in (("backpropagation alone", False), ("both", True))}
    for name, value in accuracy.items():
        print(f"{name}: {value:.1%}")
