"""TorchRL's actors, and any `TensorDictModule`, as networks: from observations to their deterministic actions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from torch_es.errors import needs

_SCORES = ("logits", "action_value", "probs", "scores")  # what TorchRL's actors choose by
_HINT = "give `ES` the module that turns observations into means or logits."


class _Acting(nn.Module):
    """A TensorDict module, called with an observation; it returns what the module writes for the action.

    It is recurrent if the module has a state: what it writes below `next` and reads at the next step.
    """

    def __init__(self, actor: Any, key: str, initial: dict[str, Tensor]) -> None:
        super().__init__()
        self.actor, self.key, self._initial = actor, key, initial
        self._reads: Any = next((name for name in actor.in_keys if name != "is_init" and name not in initial), None)
        if initial:
            self.initial_state = self._initial_state  # its presence makes a network recurrent

    def _initial_state(self, batch_size: int) -> dict[str, Tensor]:
        return {key: zero.expand(batch_size, *zero.shape).clone() for key, zero in self._initial.items()}

    def forward(self, inputs: Any, state: dict[str, Tensor] | None = None) -> Any:
        from tensordict import TensorDict
        from tensordict.nn import InteractionType, set_interaction_type

        given = inputs if isinstance(inputs, dict) else {self._reads: inputs}
        size = len(next(iter(given.values())))
        if state is not None:
            given = {**given, **state, "is_init": torch.zeros(size, 1, dtype=torch.bool)}
        with set_interaction_type(InteractionType.DETERMINISTIC):
            written = self.actor(TensorDict(given, batch_size=[size]))
        action: Tensor = written.get(self.key)
        if not action.is_floating_point() and action.numel() == size:  # the index of a choice
            action = self._one_hot(action, written)
        return action if state is None else (action, {key: written.get(("next", key)) for key in state})

    def _one_hot(self, action: Tensor, written: Any) -> Tensor:
        """Return scores for the index of a choice; what it was chosen by shows how many choices there are."""
        keys = list(self.actor.out_keys)
        before = keys[: keys.index(self.key)]  # the last is what the choice was made by
        scores = next((key for key in (*_SCORES, *reversed(before)) if key in keys), None)
        if scores is None:
            raise ValueError(
                f"`actor` writes the index of a choice as `{self.key}`, and nothing that tells how many there are; let "
                "it write `logits`, or the action one-hot."
            )
        return nn.functional.one_hot(action.flatten(), written.get(scores).shape[-1])


def from_tensordict(actor: nn.Module) -> nn.Module:
    """Return a network that computes the deterministic actions of a TorchRL actor, or of any `TensorDictModule`.

    Args:
        actor: Reads an observation, or with several keys the leaves of a Dict by name. Writes `action`: of a Box,
            one-hot, or the index of a choice; or the `logits` of a discrete one. It is trained in place. A distribution
            returns what `InteractionType.DETERMINISTIC` means for it. With an `LSTMModule` or `GRUModule` the network
            is recurrent.

    Raises:
        MissingExtraError: If tensordict is not installed.
        TypeError: If `actor` is not such a module.
        ValueError: If it has a state and does not tell its shape, as `LSTMModule` does by `make_tensordict_primer`.

    Example:
        >>> from tensordict.nn import TensorDictModule
        >>> actor = TensorDictModule(nn.Linear(3, 1), in_keys=["observation"], out_keys=["action"])
        >>> from_tensordict(actor)(torch.zeros(5, 3)).shape
        torch.Size([5, 1])
    """
    with needs("torchrl"):
        from tensordict.nn import TensorDictModuleBase
    if not isinstance(actor, TensorDictModuleBase):
        raise TypeError(f"`actor` must be a TensorDictModule, got {type(actor).__name__}. Otherwise {_HINT}")
    kinds = {m.distribution_class.__name__ for m in actor.modules() if hasattr(m, "distribution_class")}
    plain = bool(kinds) and kinds <= {"Categorical", "OneHotCategorical"}  # others may choose against the logits
    keys = ("logits", "action") if plain else ("action", "logits")
    key = next((key for key in keys if key in actor.out_keys), None)
    if key is None:
        raise TypeError(f"`actor` must write `logits` or `action`, but writes {', '.join(map(str, actor.out_keys))}.")
    remembered = [name for name in actor.in_keys if ("next", name) in actor.out_keys]
    primers = [m.make_tensordict_primer().primers for m in actor.modules() if hasattr(m, "make_tensordict_primer")]
    initial = {name: spec.zero() for primer in primers for name, spec in primer.items() if name in remembered}
    if missing := sorted(set(remembered) - set(initial)):
        raise ValueError(
            f"`actor` reads its state {', '.join(missing)}, whose shape is unknown; use an LSTMModule or GRUModule, or "
            "have the module that holds it tell the shape by `make_tensordict_primer`."
        )
    return _Acting(actor, key, initial)
