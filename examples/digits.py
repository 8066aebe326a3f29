"""Classify digits by ES and by backpropagation. Where there is a gradient, following it is far cheaper.

Both start from the same weights, see the same batches and stop at the same accuracy on held-out digits. Cost is counted
in seconds and in forward passes of one digit, where a backward pass counts as two. Needs scikit-learn for the digits.
`python benchmarks/supervised.py` measures this over several seeds.
"""

import time
from collections.abc import Callable
from functools import partial

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from torch_es import OpenAIES

Step = Callable[[Tensor], int]  # takes a batch, returns the forward passes it cost

torch.set_num_threads(1)  # batches are small
pixels, labels = (torch.from_numpy(array) for array in load_digits(return_X_y=True))
pixels = pixels.float() / 16
order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
train, held_out = order[:1437], order[1437:]  # four fifths and one
adam = partial(torch.optim.Adam, lr=0.02)


def loss(network: nn.Module, batch: Tensor) -> Tensor:
    return nn.functional.cross_entropy(network(pixels[batch]), labels[batch])


@torch.no_grad()
def accuracy(network: nn.Module) -> float:
    return float((network(pixels[held_out]).argmax(dim=1) == labels[held_out]).float().mean())


def by_backpropagation(network: nn.Module) -> Step:
    optimizer = adam(network.parameters())

    def step(batch: Tensor) -> int:
        optimizer.zero_grad()
        loss(network, batch).backward()
        optimizer.step()
        return 3 * len(batch)

    return step


def by_es(network: nn.Module) -> Step:
    es = OpenAIES(network, adam, sigma=0.02, num_pairs=32, seed=torch.initial_seed())

    @torch.no_grad()
    def step(batch: Tensor) -> int:
        es.tell([-loss(member, batch) for member in es.ask()])
        return 64 * len(batch)

    return step


def cost(method: Callable[[nn.Module], Step], target: float, seed: int) -> tuple[int, float]:
    """Return the forward passes and the seconds until the target is reached."""
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
    step, passes, seconds = method(network), 0, 0.0
    while accuracy(network) < target:
        batch = train[torch.randint(len(train), (128,))]
        start = time.perf_counter()
        passes += step(batch)
        seconds += time.perf_counter() - start
    return passes, seconds


if __name__ == "__main__":
    backpropagation, es = (cost(method, target=0.9, seed=0) for method in (by_backpropagation, by_es))
    for name, (passes, seconds) in (("backpropagation", backpropagation), ("ES", es)):
        print(f"{name}: 90% after {passes:,} forward passes, {seconds:.2f} s")
