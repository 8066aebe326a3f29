"""TorchRL's actors, and any `TensorDictModule`, as networks: from observations to their deterministic actions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from torch_es.errors import MissingExtraError

_HINT = "give `ES` the module that turns observations into means or logits."


class _Acting(nn.Module):
    """A TensorDict module that is called with an observation and answers with what it writes for the action."""

    def __init__(self, actor: Any, key: Any) -> None:
        super().__init__()
        self.actor, self.key = actor, key
        self._reads = [name for name in actor.in_keys if name != "is_init" and ("next", name) not in actor.out_keys]

    def forward(self, inputs: Any) -> Tensor:
        return self.answer(inputs, {})[0]

    def answer(self, inputs: Any, others: dict[str, Tensor]) -> tuple[Tensor, Any]:
        """Return the action, or its scores, and all that the actor wrote."""
        from tensordict import TensorDict
        from tensordict.nn import InteractionType, set_interaction_type

        given = inputs if isinstance(inputs, dict) else {self._reads[0]: inputs}
        size = len(next(iter(given.values())))
        with set_interaction_type(InteractionType.DETERMINISTIC):
            written = self.actor(TensorDict({**given, **others}, batch_size=[size]))
        action: Tensor = written.get(self.key)
        return (self._one_hot(action, written) if _is_index(action) else action), written

    def _one_hot(self, action: Tensor, written: Any) -> Tensor:
        """Return scores for the index of a choice; how many choices there are, what it was chosen by shows."""
        sizes = [written.get(key).shape[-1] for key in self.actor.out_keys if key != self.key]
        if not sizes:
            raise ValueError(
                f"`actor` writes the index of a choice as `{self.key}`, and nothing that tells how many there are; let "
                "it write `logits`, or the action one-hot."
            )
        return nn.functional.one_hot(action.flatten(), sizes[0])


def _is_index(action: Tensor) -> bool:
    return not action.is_floating_point() and action.numel() == len(action)


class _Remembering(nn.Module):
    """The same for an actor with a state: what it writes below `next`, and reads at the next step."""

    def __init__(self, acting: _Acting, initial: dict[str, Tensor]) -> None:
        super().__init__()
        self.acting = acting
        self._initial = initial

    def initial_state(self, batch_size: int) -> dict[str, Tensor]:
        return {key: zero.expand(batch_size, *zero.shape).clone() for key, zero in self._initial.items()}

    def forward(self, inputs: Any, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        size = len(next(iter(state.values())))
        action, written = self.acting.answer(inputs, {**state, "is_init": torch.zeros(size, 1, dtype=torch.bool)})
        return action, {key: written.get(("next", key)) for key in state}


def from_tensordict(actor: nn.Module) -> nn.Module:
    """Return a network that computes the deterministic actions of a TorchRL actor, or of any `TensorDictModule`.

    Args:
        actor: Reads an observation, or with several keys the leaves of a Dict by name. Writes `logits` of a discrete
            action, or otherwise `action`: of a Box, one-hot, or the index of a choice. It is trained in place. A
            distribution returns what `InteractionType.DETERMINISTIC` means for it. With an `LSTMModule` or `GRUModule`
            the network is recurrent.

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
    try:
        from tensordict.nn import TensorDictModuleBase
    except ImportError as error:
        raise MissingExtraError("tensordict", "torchrl") from error
    if not isinstance(actor, TensorDictModuleBase):
        raise TypeError(f"`actor` must be a TensorDictModule, got {type(actor).__name__}. Otherwise {_HINT}")
    key = next((key for key in ("logits", "action") if key in actor.out_keys), None)
    if key is None:
        raise TypeError(f"`actor` must write `logits` or `action`, but writes {', '.join(map(str, actor.out_keys))}.")
    acting = _Acting(actor, key)
    remembered = [name for name in actor.in_keys if ("next", name) in actor.out_keys]
    if not remembered:
        return acting
    primers = [m.make_tensordict_primer().primers for m in actor.modules() if hasattr(m, "make_tensordict_primer")]
    initial = {name: spec.zero() for primer in primers for name, spec in primer.items() if name in remembered}
    if missing := sorted(set(remembered) - set(initial)):
        raise ValueError(
            f"`actor` reads its state {', '.join(missing)}, whose shape is unknown; use an LSTMModule or GRUModule, or "
            "have the module that holds it tell the shape by `make_tensordict_primer`."
        )
    return _Remembering(acting, initial)
