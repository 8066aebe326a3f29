"""Agents of other libraries as networks for `ES`: from observations to means or scores of actions."""

from torch_es.adapters.cleanrl import from_cleanrl
from torch_es.adapters.torchrl import from_tensordict

__all__ = ["from_cleanrl", "from_tensordict"]
