"""Which kind of lanes a network gets: the fastest that answers as the network itself does.

A chain of linear layers and activations runs as stacked matrix-vector products in NumPy (16 lanes of 17-64-64-6: 30 us,
where 16 calls of the module take 500). Any other module is traced through `vmap(functional_call)`. A module that cannot
be traced (control flow that depends on data, NumPy inside), or is too large to be batched, runs as one copy for each
lane. A large network on pictures runs as NumPy products, with its virtual batch norms folded into them.

Under noise of low rank, a network that does not fit into the cache once for each lane runs in lanes that share its
weights, if most of them are shared, and the answers of a lane then have the same bits beside any others.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from torch_es.lanes.factored import FactoredLanes
from torch_es.lanes.folded import FoldedLanes
from torch_es.lanes.matmul import MatmulLanes
from torch_es.lanes.modules import CopiedLanes, TracedLanes
from torch_es.lanes.protocol import MAX_LANES, Lanes, default_num_lanes
from torch_es.lanes.shared import ROWS, SharedLanes
from torch_es.lanes.trials import (
    answer_as,
    check_stands_alone,
    normal_rows,
    passes,
    sampled_rows,
    share_as,
    tolerance_of,
)
from torch_es.nn import find_norm
from torch_es.nn.carried import copied
from torch_es.nn.observation_norm import normalize
from torch_es.policies.policy import Policy
from torch_es.policies.recurrent import dtype_of
from torch_es.search.low_rank import Part
from torch_es.search.parameters import FlatParameters
from torch_es.spaces.layout import Layout
from torch_es.types import Float32Array

_LARGE = 1e6  # as pressures in pascal are
_SHARING_LANES = 48  # by trial on Humanoid: more cost little, and what a step costs once is shared by more

Parts = tuple[Part, ...]

_log = logging.getLogger(__name__)

_KINDS: dict[str, Callable[[nn.Module, int, Layout, Float32Array | None], Lanes]] = {
    "matmul": MatmulLanes,
    "traced": TracedLanes,
    "folded": FoldedLanes,
    "copied": CopiedLanes,
}
_SHARED: dict[str, Callable[[nn.Module, int, Layout, Float32Array | None, Parts], Lanes]] = {
    "shared": SharedLanes,
    "factored": FactoredLanes,
}


class LaneChoice(NamedTuple):
    """The kind of lanes that a network gets; small, so that it can be sent to every worker.

    Attributes:
        kind: One of matmul, traced, folded, copied; or shared, factored, which share the weights.
        normalized: Whether the lanes get normalised rows, computed for all lanes at once, instead of using the
            network's own `ObservationNorm`.
        parts: How the parameters are perturbed, where lanes share the weights.
    """

    kind: str
    normalized: bool
    parts: Parts | None = None

    def network(self, network: nn.Module) -> nn.Module:
        """Return a copy of the network as the lanes run it."""
        return _without_norm(copied(network)) if self.normalized else copied(network)

    def num_lanes(self, dim: int) -> int:
        """Return how many lanes a worker gets by default for a network of `dim` parameters."""
        return default_num_lanes(dim) if self.parts is None else _SHARING_LANES

    def make(self, network: nn.Module, num_lanes: int, layout: Layout, reference: Float32Array | None = None) -> Lanes:
        """Make the lanes; for the arguments see `choose_lanes`."""
        own = self.network(network)
        if self.parts is None:
            return _KINDS[self.kind](own, num_lanes, layout, reference)
        return _SHARED[self.kind](own, num_lanes, layout, reference, self.parts)


def lanes_for(policy: Policy, num_lanes: int | None = None, parts: Parts | None = None) -> LaneChoice:
    """Return the lanes that a policy's network gets; see `choose_lanes`."""
    reference = None if policy.reference is None else policy.reference.numpy().astype(np.float32)
    return choose_lanes(policy.network, num_lanes, policy.layout, reference, parts)


def make_lanes(network: nn.Module, num_lanes: int, layout: Layout, reference: Float32Array | None = None) -> Lanes:
    """Return the lanes that `choose_lanes` chooses."""
    return choose_lanes(network, num_lanes, layout, reference).make(network, num_lanes, layout, reference)


@torch.no_grad()
def choose_lanes(
    network: nn.Module,
    num_lanes: int | None,
    layout: Layout,
    reference: Float32Array | None = None,
    parts: Parts | None = None,
) -> LaneChoice:
    """Try the kinds of lanes on perturbed weights, and return the fastest that answers as the network in eval mode.

    Args:
        network: Answers observations `(batch, ...)` with outputs `(batch, size)`; recurrent or not.
        num_lanes: Slots; None for as many as the kind gets by default.
        layout: Of the observations.
        reference: Rows `(batch, size)` for what the network prepares, as virtual batch norm does.
        parts: How noise of low rank perturbs the parameters, or None.

    Raises:
        ValueError: If copies of the network use its own parameters.

    Example:
        >>> from gymnasium.spaces import Box
        >>> choose_lanes(nn.Sequential(nn.Linear(3, 2), nn.Tanh()), 4, Layout(Box(-1, 1, (3,))))
        LaneChoice(kind='matmul', normalized=False, parts=None)
    """
    theta = FlatParameters(network).read_masters()
    # a network too large to be batched answers faster as it is, or with what can be folded
    larger = "traced" if default_num_lanes(len(theta)) > 1 else "folded"
    normalized = find_norm(network) is not None and _normalizes_first(network, layout, reference, theta)
    candidates = [LaneChoice(kind, normalized) for kind in ("matmul", larger)]
    if parts is not None and default_num_lanes(len(theta)) < MAX_LANES and _mostly_shared(parts):
        candidates = [*(LaneChoice(kind, normalized, parts) for kind in _SHARED), *candidates]
    draw, tolerance = normal_rows(layout.size) if normalized else sampled_rows(layout), tolerance_of(network)

    copies = LaneChoice("copied", normalized).make(network, 1, layout, reference)
    check_stands_alone(network, copies, theta, draw(np.random.default_rng(0), 1))

    def fits(choice: LaneChoice) -> bool:
        shares = choice.parts is not None
        number = 1 if shares else num_lanes or default_num_lanes(len(theta))
        plain = LaneChoice("copied", normalized).make(network, number, layout, reference)
        make = partial(choice.make, network, ROWS if shares else number, layout, reference)
        trial = partial(share_as, choice.parts) if choice.parts else partial(answer_as, number)
        return passes(partial(trial, plain, make, theta, draw, tolerance), choice.kind)

    chosen = next(filter(fits, candidates), LaneChoice("copied", normalized))
    number = num_lanes or chosen.num_lanes(len(theta))
    _log.info("Lanes: %d in each worker, %s parameters each, run as %s.", number, f"{len(theta):,}", chosen.kind)
    return chosen


def _mostly_shared(parts: Parts) -> bool:
    """Whether a member differs from the centre in fewer than half as many numbers as it has; in a GRU it does not."""
    return 2 * (parts[-1].first + parts[-1].num_draws) < parts[-1].stop


def _normalizes_first(network: nn.Module, layout: Layout, reference: Float32Array | None, theta: Tensor) -> bool:
    """Whether the network is its `ObservationNorm`, and then the rest of it.

    It is tried on large observations too: in what a network makes of `x / 1e5` beside the norm, small ones do not show.
    """
    large = min(_LARGE, 0.01 * torch.finfo(dtype_of(network)).max)  # float16 ends at 65,504
    return all(_normalizes_at(size, network, layout, reference, theta) for size in (1.0, large))


def _normalizes_at(
    size: float, network: nn.Module, layout: Layout, reference: Float32Array | None, theta: Tensor
) -> bool:
    """Whether the network answers as if it were its `ObservationNorm` first, to observations of this size."""
    norm = find_norm(network)
    assert norm is not None
    generator, measured = np.random.default_rng(1), norm.measured.numpy()
    mean, std = generator.normal(size=norm.size), generator.uniform(0.5, 2.0, norm.size)
    scale = np.where(measured, size * mean, 0.0), np.where(measured, size * std, 1.0)
    whole = CopiedLanes(copied(network), 1, layout, reference)
    whole.begin(reference, scale)

    def rest() -> Lanes:
        seen = None if reference is None else normalize(reference, scale, norm.limits).astype(np.float32)
        return LaneChoice("copied", normalized=True).make(network, 1, layout, seen)

    def seen_by_rest(rows: Float32Array) -> Float32Array:
        return normalize(rows, scale, norm.limits).astype(np.float32)

    def draw(generator: np.random.Generator, number: int) -> Float32Array:
        return normal_rows(layout.size)(generator, number) * np.where(measured, np.float32(size), np.float32(1))

    trial = partial(answer_as, 1, whole, rest, theta, draw, tolerance_of(network), seen_by_rest)
    return passes(trial, "normalised")


def _without_norm(network: nn.Module) -> nn.Module:
    """Let observations pass where the network normalises them."""
    norm = find_norm(network)
    for module in network.modules():
        for name, child in module._modules.items():
            if child is norm and norm is not None:
                module._modules[name] = nn.Identity()
    return network
