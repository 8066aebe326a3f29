"""Virtual batch norm (Salimans et al. 2016, arXiv:1606.03498; used for Atari by Salimans et al. 2017).

Activations are normalised by the statistics that a fixed reference batch has at that layer, so a member's answer
depends on its weights and its observation alone. The statistics belong to the weights: new weights, new statistics.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - as torch names it

from torch_es.checks import check_choice, check_count, check_positive
from torch_es.search.parameters import kept_buffers

Form = Literal["2017", "2016"]


class VirtualBatchNorm(nn.Module):
    """Normalise each channel by the reference batch's mean and variance at this layer.

    Inside a network it needs `collect_statistics(network, reference)` before it answers, and again whenever weights of
    the network change. `ES` does that.

    Args:
        num_features: Channels, dimension 1 of the input.
        eps: Added to the variance.
        affine: Whether a weight and a bias are learned for each channel.
        form: "2017" uses the reference batch alone; "2016" adds the example itself to the batch, with weight
            `1 / (batch + 1)`.

    Raises:
        RuntimeError: In the forward, if no statistics were collected.
        ValueError: If an argument is out of its range, the input has other channels, or the layer is used in two places
            of a network.

    Example:
        >>> layer = VirtualBatchNorm(2)
        >>> collect_statistics(layer, torch.tensor([[0.0, 1.0], [2.0, 5.0]]))
        >>> layer(torch.tensor([[1.0, 5.0]])).detach().round(decimals=3)
        tensor([[0., 1.]])
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, num_features: int, eps: float = 1e-5, affine: bool = True, form: Form = "2017") -> None:
        super().__init__()
        self.num_features = check_count("num_features", num_features)
        self.eps = check_positive("eps", eps)
        self.form = check_choice("form", form, ("2017", "2016"))
        self.weight = nn.Parameter(torch.ones(num_features)) if affine else None
        self.bias = nn.Parameter(torch.zeros(num_features)) if affine else None
        # derived from weights and reference batch, so they are no part of what is saved
        self.register_buffer("mean", torch.zeros(num_features), persistent=False)
        self.register_buffer("variance", torch.ones(num_features), persistent=False)
        self.reference_size = 0
        self.collecting = False

    def prepare(self, reference: Any) -> None:
        """Forget the statistics, which belong to other weights; `collect_statistics` measures new ones."""
        self.reference_size = 0

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `(batch, num_features, ...)`."""
        if x.dim() < 2 or x.shape[1] != self.num_features:
            raise ValueError(f"Input must have {self.num_features} channels in dimension 1, got {tuple(x.shape)}.")
        if self.collecting:
            if self.reference_size:
                raise ValueError(
                    "A VirtualBatchNorm must be used once a forward, since its statistics are those of one place, and "
                    "this one is used again; give each place a layer of its own."
                )
            mean, variance = _moments(x, (0, *range(2, x.dim())))
            self.mean.copy_(mean)
            self.variance.copy_(variance)
            self.reference_size = len(x)
            return self._scaled(x, mean, variance)
        if not self.reference_size:
            raise RuntimeError("VirtualBatchNorm has no statistics; call collect_statistics(network, reference) first.")
        if self.form == "2017":  # one kernel, where the lines of _scaled are six
            return F.batch_norm(x, self.mean, self.variance, self.weight, self.bias, eps=self.eps)
        own_mean, own_variance = _moments(x, tuple(range(2, x.dim())))
        share = 1 / (self.reference_size + 1)
        mean = share * own_mean + (1 - share) * self.mean
        within = share * own_variance + (1 - share) * self.variance
        between = share * (own_mean - mean).square() + (1 - share) * (self.mean - mean).square()
        return self._scaled(x, mean, within + between)

    def _scaled(self, x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        space = [1] * (x.dim() - 2)
        scale = torch.rsqrt(variance + self.eps)
        if self.weight is not None:
            scale = scale * self.weight
        x = (x - mean.reshape(*mean.shape, *space)) * scale.reshape(*scale.shape, *space)
        return x if self.bias is None else x + self.bias.reshape(self.num_features, *space)

    def extra_repr(self) -> str:
        """Say its channels and options."""
        return f"{self.num_features}, eps={self.eps}, form={self.form}"


def _moments(x: Tensor, dims: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    if not dims:
        return x, torch.zeros_like(x)
    variance, mean = torch.var_mean(x, dims, correction=0)
    return mean, variance


def virtual_batch_norms(network: nn.Module) -> dict[str, VirtualBatchNorm]:
    """Return the virtual batch norms of a network by name, each once.

    Example:
        >>> list(virtual_batch_norms(nn.Sequential(nn.Linear(3, 2), VirtualBatchNorm(2))))
        ['1']
    """
    return {name: layer for name, layer in network.named_modules() if isinstance(layer, VirtualBatchNorm)}


def batch_norms(network: nn.Module) -> dict[str, nn.modules.batchnorm._BatchNorm]:
    """Return the batch norms of a network that normalise by the batch they see, by name.

    One in eval mode with running statistics is left out: these are constants, which members may share.

    Example:
        >>> network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
        >>> list(batch_norms(network)), list(batch_norms(network.eval()))
        (['1'], [])
    """
    plain = nn.modules.batchnorm._BatchNorm
    found = {name: layer for name, layer in network.named_modules() if isinstance(layer, plain)}
    return {name: layer for name, layer in found.items() if layer.training or layer.running_mean is None}


@torch.no_grad()
def collect_statistics(network: nn.Module, *reference: Any) -> None:
    """Give every virtual batch norm the statistics of `reference` under the present weights, with one forward.

    Nothing else in the network changes.

    Args:
        network: Any module with virtual batch norms, each used once in a forward.
        reference: Arguments of the network: a batch of inputs `(batch, ...)`, 128 observations in Salimans et al. 2017;
            and then a state, if the network is recurrent.

    Example:
        >>> network = convert_batch_norm(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)))
        >>> collect_statistics(network, torch.arange(12.0).reshape(4, 3))
        >>> network(torch.zeros(1, 3)).shape
        torch.Size([1, 2])
    """
    layers = virtual_batch_norms(network).values()
    if not layers:
        return
    for layer in layers:
        layer.collecting, layer.reference_size = True, 0
    try:
        with kept_buffers(network, [buffer for layer in layers for buffer in layer.buffers()]):
            network(*reference)
    finally:
        for layer in layers:
            layer.collecting = False


def convert_batch_norm(module: nn.Module, form: Form = "2017") -> nn.Module:
    """Replace every BatchNorm1d, 2d and 3d in a module by virtual batch norm with the same weights, and return it.

    Args:
        module: The module; it is changed in place, unless it is a BatchNorm itself.
        form: See `VirtualBatchNorm`.

    Raises:
        ValueError: If a lazy batch norm has not seen an input yet.

    Example:
        >>> convert_batch_norm(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)))[1]
        VirtualBatchNorm(2, eps=1e-05, form=2017)
    """
    made: dict[int, VirtualBatchNorm] = {}

    def convert(layer: nn.Module) -> nn.Module:
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            if id(layer) not in made:
                made[id(layer)] = _virtual(layer, form)
            return made[id(layer)]
        for name, child in layer._modules.items():  # named_children() would leave out a shared one's other places
            if child is not None:
                layer._modules[name] = convert(child)
        return layer

    return convert(module)


def _virtual(layer: nn.modules.batchnorm._BatchNorm, form: Form) -> VirtualBatchNorm:
    if isinstance(layer, nn.modules.lazy.LazyModuleMixin) and layer.has_uninitialized_params():
        raise ValueError(
            f"{type(layer).__name__} does not know its features yet: call the network once before it is converted."
        )
    virtual = VirtualBatchNorm(layer.num_features, layer.eps, layer.affine, form)
    if layer.affine:
        virtual.weight, virtual.bias = layer.weight, layer.bias
    given = layer.weight if layer.affine else layer.running_mean
    if given is not None:
        virtual.to(given.dtype)
    return virtual.train(layer.training)
