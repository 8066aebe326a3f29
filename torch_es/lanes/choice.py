"""Which kind of lanes a network gets: the fastest that answers as the network itself does.

A chain of linear layers and activations runs as stacked matrix-vector products in NumPy (16 lanes of 17-64-64-6: 30 us,
where 16 calls of the module take 500). Any other module is traced through `vmap(functional_call)`. A module that cannot
be traced (control flow that depends on data, NumPy inside), or is too large to be batched, runs as one copy for each
lane. A large network on pictures runs as NumPy products, with its virtual batch norms folded into them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from torch_es.lanes.folded import FoldedLanes
from torch_es.lanes.matmul import MatmulLanes
from torch_es.lanes.modules import CopiedLanes, TracedLanes
from torch_es.lanes.protocol import Lanes, default_num_lanes
from torch_es.nn import find_norm
from torch_es.nn.carried import copied
from torch_es.nn.observation_norm import Statistics, normalize
from torch_es.policies.policy import Policy
from torch_es.search.parameters import FlatParameters
from torch_es.spaces.layout import Layout
from torch_es.types import Float32Array, Float64Array

_log = logging.getLogger(__name__)

_KINDS: dict[str, Callable[[nn.Module, int, Layout, Float32Array | None], Lanes]] = {
    "matmul": MatmulLanes,
    "traced": TracedLanes,
    "folded": FoldedLanes,
    "copied": CopiedLanes,
}


class LaneChoice(NamedTuple):
    """The kind of lanes that a network gets; small, so that it can be sent to every worker.

    Attributes:
        kind: One of matmul, traced, folded, copied.
        normalized: Whether the lanes get normalised rows, computed for all lanes at once, instead of using the
            network's own `ObservationNorm`.
    """

    kind: str
    normalized: bool

    def network(self, network: nn.Module) -> nn.Module:
        """Return a copy of the network as the lanes run it."""
        return _without_norm(copied(network)) if self.normalized else copied(network)

    def make(self, network: nn.Module, num_lanes: int, layout: Layout, reference: Float32Array | None = None) -> Lanes:
        """Make the lanes; for the arguments see `choose_lanes`."""
        return _KINDS[self.kind](self.network(network), num_lanes, layout, reference)


def lanes_for(policy: Policy, num_lanes: int | None = None) -> LaneChoice:
    """Return the lanes that a policy's network gets; see `choose_lanes`."""
    number = num_lanes or default_num_lanes(FlatParameters(policy.network).dim)
    reference = None if policy.reference is None else policy.reference.numpy().astype(np.float32)
    return choose_lanes(policy.network, number, policy.layout, reference)


def make_lanes(network: nn.Module, num_lanes: int, layout: Layout, reference: Float32Array | None = None) -> Lanes:
    """Return the lanes that `choose_lanes` chooses."""
    return choose_lanes(network, num_lanes, layout, reference).make(network, num_lanes, layout, reference)


@torch.no_grad()
def choose_lanes(
    network: nn.Module, num_lanes: int, layout: Layout, reference: Float32Array | None = None
) -> LaneChoice:
    """Try the kinds of lanes on perturbed weights, and return the fastest that answers as the network in eval mode.

    Args:
        network: Answers observations `(batch, ...)` with outputs `(batch, size)`; recurrent or not.
        num_lanes: Slots.
        layout: Of the observations.
        reference: Rows `(batch, size)` for what the network prepares, as virtual batch norm does.

    Example:
        >>> from gymnasium.spaces import Box
        >>> choose_lanes(nn.Sequential(nn.Linear(3, 2), nn.Tanh()), 4, Layout(Box(-1, 1, (3,))))
        LaneChoice(kind='matmul', normalized=False)
    """
    theta = FlatParameters(network).read_masters()
    # a network too large to be batched answers faster as it is, or with what can be folded
    larger = "traced" if default_num_lanes(len(theta)) > 1 else "folded"
    normalized = find_norm(network) is not None and _normalizes_first(network, layout, reference, theta)
    plain = LaneChoice("copied", normalized).make(network, num_lanes, layout, reference)

    def answers(kind: str) -> bool:
        make = partial(LaneChoice(kind, normalized).make, network, num_lanes, layout, reference)
        return _answers_as(plain, make, theta, num_lanes, layout.size, kind)

    kind = next(filter(answers, ("matmul", larger)), "copied")
    _log.info("Lanes: %d in each worker, %s parameters each, run as %s.", num_lanes, f"{len(theta):,}", kind)
    return LaneChoice(kind, normalized)


def _normalizes_first(network: nn.Module, layout: Layout, reference: Float32Array | None, theta: Tensor) -> bool:
    """Whether the network is its `ObservationNorm`, and then the rest of it."""
    norm = find_norm(network)
    assert norm is not None
    generator, measured = np.random.default_rng(1), norm.measured.numpy()
    mean, std = generator.normal(size=norm.size), generator.uniform(0.5, 2.0, norm.size)
    scale = np.where(measured, mean, 0.0), np.where(measured, std, 1.0)
    whole = CopiedLanes(copied(network), 1, layout, reference)
    whole.begin(reference, scale)

    def rest() -> Lanes:
        seen = None if reference is None else normalize(reference, scale, norm.limits).astype(np.float32)
        return LaneChoice("copied", normalized=True).make(network, 1, layout, seen)

    return _answers_as(whole, rest, theta, 1, layout.size, "normalised", (scale, norm.limits))


def _answers_as(
    plain: Lanes,
    make: Callable[[], Lanes],
    theta: Tensor,
    num_lanes: int,
    size: int,
    kind: str,
    normalizing: tuple[Statistics, Float64Array] | None = None,
) -> bool:
    """Whether both answer alike for perturbed weights, twice in a row so that state would show."""
    generator = np.random.default_rng(0)
    try:
        lanes = make()
        for lane in range(num_lanes):
            noise = torch.from_numpy(generator.standard_normal(len(theta), dtype=np.float32))
            for each in (plain, lanes):
                each.write(lane, theta + 0.1 * noise)
        for _ in range(2):
            rows = 2 * generator.standard_normal((num_lanes, size), dtype=np.float32)
            expected = plain.forward(rows, range(num_lanes)).copy()
            if normalizing is not None:
                rows = normalize(rows, *normalizing).astype(np.float32)
            answer = lanes.forward(rows, range(num_lanes))
            if not np.allclose(answer, expected, rtol=1e-3, atol=1e-4, equal_nan=True):
                _log.debug("Lanes are not %s: their answers differ from the network's.", kind)
                return False
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a user's module raises when it is traced; the next kind is tried
        _log.debug("Lanes are not %s: %s: %s", kind, type(error).__name__, error)
        return False
    return True


def _without_norm(network: nn.Module) -> nn.Module:
    """Let observations pass where the network normalises them."""
    norm = find_norm(network)
    for module in network.modules():
        for name, child in module._modules.items():
            if child is norm and norm is not None:
                module._modules[name] = nn.Identity()
    return network
