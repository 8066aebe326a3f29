"""The score of an episode: how the log-probability of its noisy actions changes with the weights.

A search by noise on actions alone learns from it (Salimans et al. 2017, section 3: smoothing in action space). Its
gradient estimate is the sum of `weight * score`, as in REINFORCE (Williams 1992). Unlike everything else here, this
needs a differentiable network.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from torch_es.heads import ActionNoise
from torch_es.nn import find_norm, virtual_batch_norms
from torch_es.nn.carried import copied
from torch_es.nn.observation_norm import Statistics
from torch_es.policies.recurrent import dtype_of, is_recurrent
from torch_es.search.parameters import FlatParameters
from torch_es.spaces.layout import Layout
from torch_es.types import Float32Array


class Scorer:
    """Computes scores of a network, which is copied, under fixed weights.

    Args:
        network: Has outputs that autograd can go through.
        layout: Of the observations.
        noise: Has a `log_probability`.
        together: Whether it answers all steps of an episode in one call, as it does unless it decides by their values.

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

    def __init__(self, network: nn.Module, layout: Layout, noise: ActionNoise, together: bool = True) -> None:
        if is_recurrent(network):
            raise ValueError("`sigma` 0 searches by action noise alone, which is for networks without a state.")
        if virtual_batch_norms(network):
            raise ValueError(
                "`sigma` 0 searches by action noise alone, which is for networks without VirtualBatchNorm: its "
                "statistics follow the weights, which the score cannot see. Use LayerNorm, or a `sigma` above 0."
            )
        law = getattr(noise, "log_probability", None)
        if law is None:
            raise ValueError(
                "`sigma` 0 needs an `action_noise` whose probabilities follow the outputs: sample, or gaussian:STD for "
                "a Box; epsilon:P alone cannot be searched by, nor noise of your own without a `log_probability`."
            )
        self._network, self._layout, self._law, self._together = copied(network), layout, law, together
        self._parameters = FlatParameters(self._network)
        self._check(noise.size)

    def begin(self, theta: Tensor, scale: Statistics | None = None) -> None:
        """Take the weights of the members to come, and what an `ObservationNorm` in the network normalises by."""
        if scale is not None and (norm := find_norm(self._network)) is not None:
            norm.freeze(*scale)
        self._parameters.write_module(theta)

    def score(self, rows: Float32Array, draws: Float32Array) -> Tensor:
        """Return the score `(dim,)` of an episode with these inputs `(steps, size)` and draws."""
        with torch.inference_mode(False), torch.enable_grad():
            every = torch.from_numpy(rows).to(dtype_of(self._network))
            calls = [every] if self._together else every.split(1)
            outputs = torch.cat([self._network(self._layout.inputs(some)) for some in calls])
            chosen = self._law(outputs, torch.from_numpy(draws))
            parameters = list(self._parameters.named.values())
            gradients = torch.autograd.grad(chosen, parameters, materialize_grads=True)
        return torch.cat([gradient.reshape(-1).float() for gradient in gradients])

    def _check(self, num_draws: int) -> None:
        generator = torch.Generator().manual_seed(0)
        rows = torch.randn(2, self._layout.size, generator=generator, device="cpu").numpy()
        draws = torch.randn(2, num_draws, generator=generator, device="cpu").numpy()
        try:
            norm = float(self.score(rows, draws).norm())
        except RuntimeError as error:
            raise ValueError(f"`sigma` 0 needs a network that autograd can go through: {error}") from error
        if norm == 0.0 or not math.isfinite(norm):
            raise ValueError(
                "`sigma` 0 needs a network and a head that autograd can go through, and the gradient of these is zero; "
                "for a head that chooses (uniform:N, custom:...) use `action_noise` sample."
            )
