"""The one interface that the trainer knows of a strategy."""

from __future__ import annotations

from typing import Any, Protocol

from torch_es.search.centre import Centre, Population, Sigma
from torch_es.search.gradient import NoiseSum


class Strategy(Protocol):
    """Ask for a population, tell its returns; knows no environment, no process and no config."""

    centre: Centre

    @property
    def sigma(self) -> Sigma:
        """Standard deviation of the perturbation: a number or one for each parameter."""
        ...

    def ask(self) -> Population:
        """Return the members to evaluate; asking twice gives the same ones."""
        ...

    def tell(self, returns: Any, noise_sum: NoiseSum | None = None) -> dict[str, float]:
        """Move the centre by the members' returns, `(num_pairs, 2)` or flat, higher is better; returns metrics."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return all that the next generation depends on, as tensors and plain values."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        ...
