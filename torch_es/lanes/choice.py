"""Lanes: one slot for each perturbed copy of a network, all answering in one batched call.

A chain of linear layers and activations runs as stacked matrix-vector products in NumPy (16 lanes of 17-64-64-6: 30 us,
where 16 calls of the module take 500). Any other module is traced through `vmap(functional_call)`. What cannot be
traced (control flow that depends on data, NumPy inside), or is too large to be batched, runs as one copy of the module
for each lane; a large network on pictures as NumPy products, its virtual batch norms folded away. The way is found by
trying it against the plain call.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from torch_es.lanes.folded import FoldedLanes
from torch_es.lanes.matmul import MatmulLanes
from torch_es.lanes.modules import CopiedLanes, TracedLanes
from torch_es.lanes.protocol import Lanes, default_num_lanes
from torch_es.search.parameters import FlatParameters
from torch_es.spaces.layout import Layout
from torch_es.types import Float32Array


@torch.no_grad()
def make_lanes(network: nn.Module, num_lanes: int, layout: Layout, reference: Float32Array | None = None) -> Lanes:
    """Return the fastest lanes that answer as the plain module does, in eval mode.

    Args:
        network: Answers observations `(batch, ...)` with outputs `(batch, size)`; recurrent or not.
        num_lanes: Slots.
        layout: Of the observations.
        reference: Rows `(batch, size)` for virtual batch norm, where the network has any.

    Example:
        >>> from gymnasium.spaces import Box
        >>> layout = Layout(Box(-1, 1, (3,)))
        >>> type(make_lanes(nn.Sequential(nn.Linear(3, 2), nn.Tanh()), 4, layout)).__name__
        'MatmulLanes'
    """
    network = copy.deepcopy(network).eval()
    theta = FlatParameters(network).read_masters()
    candidates: list[Callable[[], Lanes]] = [lambda: MatmulLanes(network, num_lanes)]
    # a network too large to be batched answers faster as it is, or with what can be folded
    larger = TracedLanes if default_num_lanes(len(theta)) > 1 else FoldedLanes
    candidates.append(lambda: larger(network, num_lanes, layout, reference))
    plain = CopiedLanes(network, num_lanes, layout, reference)
    for candidate in candidates:
        try:
            lanes = candidate()
            if _answers_as(plain, lanes, theta, num_lanes, layout.size):
                return lanes
        except Exception:  # noqa: BLE001, S112 - whatever a foreign module raises when traced, copies still work
            continue
    return plain


def _answers_as(plain: Lanes, lanes: Lanes, theta: Tensor, num_lanes: int, size: int) -> bool:
    """Whether both answer alike for perturbed weights, twice in a row so that state would show."""
    generator = np.random.default_rng(0)
    for lane in range(num_lanes):
        noise = torch.from_numpy(generator.standard_normal(len(theta), dtype=np.float32))
        for each in (plain, lanes):
            each.write(lane, theta + 0.1 * noise)
    for _ in range(2):
        rows = 2 * generator.standard_normal((num_lanes, size), dtype=np.float32)
        expected = plain.forward(rows, range(num_lanes)).copy()
        if not np.allclose(lanes.forward(rows, range(num_lanes)), expected, rtol=1e-3, atol=1e-4, equal_nan=True):
            return False
    return True
