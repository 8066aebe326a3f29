"""Attention to a single position, chosen by argmax (the "hard" attention of Xu et al. 2015, arXiv:1502.03044).

Xu et al. train it with a sampled surrogate. ES needs none, as Tang et al. 2020 showed (arXiv:2003.08165).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from torch_es.checks import check_count


class HardAttention(nn.Module):
    """Self-attention in which each position takes the value of the one that scores highest; of several, the first.

    Args:
        inputs: Elements of a position's input.
        size: Elements of queries and keys.
        outputs: Elements of a position's output.

    Example:
        >>> HardAttention(inputs=3, size=4, outputs=2)(torch.zeros(1, 5, 3)).shape
        torch.Size([1, 5, 2])
    """

    def __init__(self, inputs: int, size: int, outputs: int) -> None:
        super().__init__()
        check_count("inputs", inputs)
        self.query = nn.Linear(inputs, check_count("size", size))
        self.key = nn.Linear(inputs, size)
        self.value = nn.Linear(inputs, check_count("outputs", outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Map `(batch, positions, inputs)` to `(batch, positions, outputs)`."""
        value = self.value(x)
        chosen = (self.query(x) @ self.key(x).transpose(-2, -1)).argmax(dim=-1, keepdim=True)
        # not torch.take_along_dim: with it, torch.export fixes the batch size
        return torch.gather(value, -2, chosen.expand(*chosen.shape[:-1], value.shape[-1]))
