"""The score of an episode: how the log-probability of its noisy actions changes with the weights.

A search by noise on actions alone learns from it (Salimans et al. 2017, section 3: smoothing in action space). Its
gradient estimate is the sum of `weight * score`, as in REINFORCE (Williams 1992). Unlike everything else here, this
needs a differentiable network.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - as torch names it

from torch_es.heads.boxes import BinnedHead
from torch_es.heads.choices import MultiBinaryHead, MultiDiscreteHead
from torch_es.heads.noise import (
    ActionNoise,
    CompositeNoise,
    DiagonalGaussianNoise,
    EpsilonNoise,
    GaussianNoise,
    ScoreNoise,
)
from torch_es.nn import find_norm, virtual_batch_norms
from torch_es.nn.carried import copied
from torch_es.nn.observation_norm import Statistics
from torch_es.policies.recurrent import dtype_of, is_recurrent
from torch_es.search.parameters import FlatParameters
from torch_es.spaces.layout import Layout
from torch_es.types import Float32Array


def log_probability(noise: ActionNoise, output: Tensor, draws: Tensor) -> Tensor:
    """Return the sum over steps of the log-density of the actions that `draws` make from `output`, up to a constant.

    Args:
        noise: Gaussian, or sampling by scores or from a Gaussian head.
        output: `(steps, head.size)`, with a gradient.
        draws: `(steps, noise.size)`.

    Raises:
        ValueError: For epsilon-random choices, whose probabilities do not change with the scores.
    """
    if isinstance(noise, GaussianNoise):
        mean: Tensor = noise.head(output).flatten(1)
        deviations = ((mean + draws).detach() - mean) / noise.std
        return -deviations.square().sum() / 2
    if isinstance(noise, DiagonalGaussianNoise):
        mean, log_std = output[:, : noise.size], output[:, noise.size :]
        sampled = (mean + log_std.exp() * draws).detach()
        return -((((sampled - mean) / log_std.exp()).square() / 2) + log_std).sum()
    if isinstance(noise, ScoreNoise):
        return _choices(noise, output, (output + draws).detach())
    if isinstance(noise, CompositeNoise):
        rows = zip(noise.noises, noise.head.parts, noise.parts, strict=True)
        parts = [log_probability(n, output[:, out], draws[:, own]) for n, out, own in rows if n is not None]
        return torch.stack(parts).sum()
    assert isinstance(noise, EpsilonNoise)
    raise ValueError(
        "`action_noise` epsilon:P alone cannot be searched by: its probabilities do not follow the scores; use sample."
    )


def _choices(noise: ScoreNoise, scores: Tensor, noisy: Tensor) -> Tensor:
    head = noise.head
    if isinstance(head, MultiBinaryHead):
        return F.logsigmoid(torch.where(noisy > 0, scores, -scores)).sum()
    if isinstance(head, MultiDiscreteHead):
        parts = [(scores[:, part], noisy[:, part]) for part in head.parts]
    else:
        count = head.count if isinstance(head, BinnedHead) else head.size
        parts = [(scores.reshape(-1, count), noisy.reshape(-1, count))]
    return torch.stack([-F.cross_entropy(own, chosen.argmax(-1), reduction="sum") for own, chosen in parts]).sum()


class Scorer:
    """Computes scores under fixed weights.

    Args:
        network: Feed-forward and differentiable; copied.
        layout: Of its observations.
        noise: Of its actions.

    Raises:
        ValueError: If the network is recurrent or holds virtual batch norm, autograd finds no way through it, or the
            noise has no score.

    Example:
        >>> import gymnasium as gym
        >>> from torch_es.heads import make_action_noise, make_head
        >>> space = gym.spaces.Box(-1, 1, (1,))
        >>> noise = make_action_noise(space, make_head(space), "gaussian:0.5")
        >>> scorer = Scorer(nn.Linear(1, 1), Layout(space), noise)
        >>> scorer.begin(torch.zeros(2))
        >>> scorer.score(torch.tensor([[1.0]]).numpy(), torch.tensor([[0.25]]).numpy())
        tensor([1., 1.])
    """

    def __init__(self, network: nn.Module, layout: Layout, noise: ActionNoise) -> None:
        if is_recurrent(network):
            raise ValueError("`sigma` 0 searches by action noise alone, which is for networks without a state.")
        if virtual_batch_norms(network):
            raise ValueError(
                "`sigma` 0 searches by action noise alone, which is for networks without VirtualBatchNorm: its "
                "statistics follow the weights, which the score cannot see. Use LayerNorm, or a `sigma` above 0."
            )
        self._network, self._layout, self._noise = copied(network), layout, noise
        self._parameters = FlatParameters(self._network)
        self._check()

    def begin(self, theta: Tensor, scale: Statistics | None = None) -> None:
        """Take the weights of the members to come, and what an `ObservationNorm` in the network normalises by."""
        if scale is not None and (norm := find_norm(self._network)) is not None:
            norm.freeze(*scale)
        self._parameters.write_module(theta)

    def score(self, rows: Float32Array, draws: Float32Array) -> Tensor:
        """Return the score `(dim,)` of an episode with these inputs `(steps, size)` and draws."""
        with torch.inference_mode(False), torch.enable_grad():
            inputs = self._layout.inputs(torch.from_numpy(rows).to(dtype_of(self._network)))
            chosen = log_probability(self._noise, self._network(inputs), torch.from_numpy(draws))
            parameters = list(self._parameters.named.values())
            gradients = torch.autograd.grad(chosen, parameters, materialize_grads=True)
        return torch.cat([gradient.reshape(-1).float() for gradient in gradients])

    def _check(self) -> None:
        generator = torch.Generator().manual_seed(0)
        rows = torch.randn(2, self._layout.size, generator=generator).numpy()
        draws = torch.randn(2, self._noise.size, generator=generator).numpy()
        try:
            norm = float(self.score(rows, draws).norm())
        except RuntimeError as error:
            raise ValueError(f"`sigma` 0 needs a network that autograd can go through: {error}") from error
        if norm == 0.0 or not math.isfinite(norm):
            raise ValueError(
                "`sigma` 0 needs a network and a head that autograd can go through, and the gradient of these is zero; "
                "for a head that chooses (uniform:N, custom:...) use `action_noise` sample."
            )
