"""What a network does once after its weights changed, before the first observation."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from torch_es.nn.virtual_batch_norm import collect_statistics
from torch_es.spaces.layout import Inputs


@runtime_checkable
class Prepared(Protocol):
    """A module that derives something from its weights once, for all observations of an episode.

    Virtual batch norm measures the reference batch. A module that generates the weights of another generates them here,
    once for each episode instead of once for each step.
    """

    def prepare(self, reference: Inputs | None) -> None:
        """Derive it from the present weights and the reference batch, if there is one; called without gradients."""
        ...


def prepared_parts(network: nn.Module) -> list[Prepared]:
    """Return the parts of a network that are to be prepared, the outer before the inner."""
    return [module for module in network.modules() if isinstance(module, Prepared)]


@torch.no_grad()
def prepare(network: nn.Module, *reference: Any) -> None:
    """Prepare every part of a network for the weights that it has now.

    Args:
        network: Any module.
        reference: What the network is called with: a batch of observations, and a state if it is recurrent. Without
            it, virtual batch norms forget what they measured.

    Example:
        >>> class Grown(nn.Linear):
        ...     def prepare(self, reference):
        ...         self.grown = self.weight * 2
        >>> network = nn.Sequential(Grown(3, 2))
        >>> prepare(network)
        >>> network[0].grown.shape
        torch.Size([2, 3])
    """
    for part in prepared_parts(network):
        part.prepare(reference[0] if reference else None)
    if reference:
        collect_statistics(network, *reference)
