"""Ready-made networks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor, nn

from torch_es.checks import check_choice, check_count
from torch_es.nn import ObservationNorm, Sign, Step, convert_batch_norm
from torch_es.policies.recurrent import RecurrentNetwork
from torch_es.seeding import check_seed
from torch_es.spaces.layout import Inputs, Layout, concatenated

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "silu": nn.SiLU,
    "sign": Sign,
    "step": Step,
}


def mlp(
    inputs: int,
    outputs: int,
    hidden: Sequence[int] = (64, 64),
    activation: str = "tanh",
    output_scale: float = 0.01,
    seed: int = 0,
    normalize_observations: bool = True,
) -> nn.Sequential:
    """A multilayer perceptron, as in Salimans et al. 2017's released code.

    Weights are Gaussian, each unit's incoming vector scaled to length 1 (`output_scale` in the last layer); biases
    are zero. A small last layer starts every run from near-zero actions.

    Args:
        inputs: Elements of an observation.
        outputs: Elements of the output.
        hidden: Units of the hidden layers; empty gives a linear policy.
        activation: One of tanh, relu, elu, silu, or sign and step, which have no gradient.
        output_scale: Length of the last layer's incoming vectors.
        seed: The weights follow from it; torch's global generator is neither read nor seeded.
        normalize_observations: Whether an `ObservationNorm` comes first, which `ES` updates as it trains.

    Example:
        >>> [tuple(p.shape) for p in mlp(3, 2, hidden=(8,)).parameters()]
        [(8, 3), (8,), (2, 8), (2,)]
    """
    layer_type = ACTIVATIONS[check_choice("activation", activation, ACTIVATIONS)]
    sizes = [
        check_count("inputs", inputs),
        *(check_count("hidden", h) for h in hidden),
        check_count("outputs", outputs),
    ]
    generator = torch.Generator().manual_seed(check_seed(seed))
    layers: list[nn.Module] = [ObservationNorm(inputs)] if normalize_observations else []
    for i, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        last = i == len(sizes) - 2
        linear = _initialised(nn.Linear(fan_in, fan_out, device="meta"), generator, output_scale if last else 1.0)
        layers += [linear] if last else [linear, layer_type()]
    return nn.Sequential(*layers)


def _initialised(layer: nn.Linear | nn.Conv2d, generator: torch.Generator, length: float = 1.0) -> nn.Module:
    """Give a layer made on the meta device, which skips torch's own random init, its weights."""
    layer.to_empty(device="cpu")
    assert layer.bias is not None
    with torch.no_grad():
        weight = torch.empty(len(layer.weight), layer.weight[0].numel()).normal_(generator=generator)
        layer.weight.copy_((weight / weight.norm(dim=1, keepdim=True) * length).reshape(layer.weight.shape))
        layer.bias.zero_()
    return layer


class Concatenate(nn.Module):
    """Turns pictures, dicts or tuples of observations into rows, for a network that takes rows.

    Example:
        >>> Concatenate()({"arm": torch.zeros(5, 2), "gear": torch.zeros(5, 4)}).shape
        torch.Size([5, 6])
    """

    def forward(self, inputs: Inputs) -> Tensor:
        """Return `(batch, size)`."""
        return concatenated(inputs)


class Scale(nn.Module):
    """Multiplies by a fixed number."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """Return `x * factor`."""
        return x * self.factor


def atari_cnn(
    observation_shape: Sequence[int],
    outputs: int,
    channels: Sequence[int] = (16, 32),
    hidden: int = 256,
    batch_norm: bool = True,
    output_scale: float = 0.01,
    seed: int = 0,
) -> nn.Sequential:
    """The network of Mnih et al. 2016 for Atari, with the virtual batch norm of Salimans et al. 2017.

    Two convolutions and a layer of units, each followed by virtual batch norm (eps 1e-3, as in uber-research's
    deep-neuroevolution) and ReLU. It is initialised like `mlp`, and scales pictures from 0..255 to 0..1 itself. The
    default sizes are those of the papers, which played a billion frames. A small network costs less time in each step.

    Args:
        observation_shape: Shape of the stacked square pictures, `(frames, size, size)`.
        outputs: Elements of the output.
        channels: Filters of the two convolutions, 8x8 with stride 4 and 4x4 with stride 2.
        hidden: Units of the layer that follows them.
        batch_norm: Whether to use virtual batch norm. Salimans et al. found that without it most perturbed policies
            always take the same action.
        output_scale: Length of the last layer's incoming vectors.
        seed: The weights follow from it; torch's global generator is neither read nor seeded.

    Raises:
        ValueError: If the observations are not pictures of at least 36 x 36, or `channels` are not two.

    Example:
        >>> sum(p.numel() for p in atari_cnn((4, 84, 84), 6).parameters())
        678294
        >>> sum(p.numel() for p in atari_cnn((2, 42, 42), 6, channels=(8, 8), hidden=16).parameters())
        3398
    """
    if len(observation_shape) != 3 or min(observation_shape[1:]) < 36:
        raise ValueError(
            f"`observation_shape` must be (frames, size, size), size at least 36, got {observation_shape}."
        )
    frames, *sizes = observation_shape
    if not isinstance(channels, Sequence) or len(channels) != 2:
        raise ValueError(f"`channels` must be of two convolutions, as (16, 32), got {channels}.")
    first, second = (check_count("channels", number) for number in channels)
    check_count("hidden", hidden)
    cells = [((size - 8) // 4 + 1 - 4) // 2 + 1 for size in sizes]
    generator = torch.Generator().manual_seed(check_seed(seed))

    def block(layer: nn.Linear | nn.Conv2d, norm: nn.Module) -> list[nn.Module]:
        return [_initialised(layer, generator), *([norm] if batch_norm else []), nn.ReLU()]

    network = nn.Sequential(
        Scale(1 / 255),
        *block(nn.Conv2d(frames, first, 8, 4, device="meta"), nn.BatchNorm2d(first, eps=1e-3)),
        *block(nn.Conv2d(first, second, 4, 2, device="meta"), nn.BatchNorm2d(second, eps=1e-3)),
        nn.Flatten(),
        *block(nn.Linear(second * cells[0] * cells[1], hidden, device="meta"), nn.BatchNorm1d(hidden, eps=1e-3)),
        _initialised(nn.Linear(hidden, check_count("outputs", outputs), device="meta"), generator, output_scale),
    )
    convert_batch_norm(network)
    return network


NETWORKS = ("mlp", "recurrent", "atari_cnn")


def make_network(space: gym.Space[Any], outputs: int, name: str = "mlp", seed: int = 0, **options: Any) -> nn.Module:
    """Return a network by its name, for observations of a space.

    Args:
        space: The observation space.
        outputs: Elements of the output.
        name: mlp, recurrent or atari_cnn.
        seed: The weights follow from it.
        options: Further arguments of `mlp`, `RecurrentNetwork` or `atari_cnn`.

    Raises:
        ValueError: If no network has this name, or it does not take these observations.

    Example:
        >>> make_network(gym.spaces.Box(0, 1, (2, 3)), 4, hidden=[8])[0]
        Concatenate()
    """
    check_choice("name", name, NETWORKS)
    if name == "atari_cnn":
        return atari_cnn(space.shape or (), outputs, seed=seed, **options)
    size = Layout(space).size
    if name == "recurrent":
        return RecurrentNetwork(size, outputs, seed=seed, **options)
    network = mlp(size, outputs, seed=seed, **options)
    flat = isinstance(space, gym.spaces.Box) and len(space.shape) == 1
    return network if flat else nn.Sequential(Concatenate(), network)
