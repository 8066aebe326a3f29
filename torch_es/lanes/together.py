"""Several members in one call of an ordinary module, for noise of low rank: neither traced, nor copied, nor changed.

Inside the `with`, every torch function that gets a perturbed parameter is answered by a rule that adds what the members
differ by. One without a rule is refused. That covers tied weights, wherever they are used, and layers of any class. The
first call also refuses a parameter where torch would not ask its class, as in `torch.tensor(parameter)`.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from torch_es.checks import check_count
from torch_es.lanes.each import Each
from torch_es.lanes.interception import WAY_OUT, Interception, Unseen, check_free
from torch_es.search.low_rank import Part
from torch_es.search.noise import room

_REFUSED = nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention, torch.jit.ScriptModule


class Together:
    """A module that answers for several members at once, inside `with`.

    Its rows are those of all members, members first: `module(x.repeat(members, 1))` gives each member the rows x. They
    are the first dimension, for every layer. Its own parameters are the centre's weights, and stay so.

    Args:
        module: In eval mode.
        parts: How its parameters are perturbed; from `factored`.
        members: How many answer at once.

    Raises:
        TypeError: If `members` is not a whole number.
        ValueError: If it is below 1, or a perturbed layer is recurrent, scripted or `nn.MultiheadAttention`.

    Example:
        >>> from torch_es.search.low_rank import LowRank, factored
        >>> from torch_es.search.parameters import FlatParameters
        >>> module = nn.Linear(8, 4)
        >>> parts = factored(FlatParameters(module), rank=1)
        >>> noise = LowRank(seed=0, generation=0, dim=36, sigma=0.5, parts=parts)
        >>> together = Together(module, parts, members=3)
        >>> together.write(noise.draws([0, 1, 2], torch.device("cpu")))
        >>> with together:
        ...     answers = module(torch.ones(1, 8).repeat(3, 1))
        >>> answers.shape
        torch.Size([3, 4])
    """

    def __init__(self, module: nn.Module, parts: tuple[Part, ...], members: int) -> None:
        self.module, self.parts, self.members = module, parts, check_count("members", members)
        named = dict(module.named_parameters())
        self._parameters = [named[part.name] for part in parts]
        _check_layers(module, {id(p) for p in self._parameters})
        self._draws = room(0, 0)
        self._entered: contextlib.ExitStack | None = None
        self._seen = False  # whether a call has ended

    def write(self, draws: Tensor) -> None:
        """Let the slots be members, `(members, num_draws)`; the module's own weights stand for the centre.

        The draws are those of `LowRank.draws`, and must not change.
        """
        self._draws = draws

    def __enter__(self) -> Together:
        check_free(self._parameters)
        eaches = self._eaches()
        with contextlib.ExitStack() as stack:
            interception = Interception(self.module, self.members)
            stack.callback(interception.end)
            interception.begin(zip(self._parameters, eaches, strict=True))
            for module in self.module.modules():
                # a layer gets rows from these
                if module is self.module or any(True for _ in module.children()):
                    _hook(module, interception, stack)
            if "torch._dynamo" in sys.modules:  # what is compiled would not ask a parameter's class
                stack.enter_context(torch.compiler.set_stance("force_eager"))
            if not self._seen:
                stack.enter_context(Unseen())
            self._entered = stack.pop_all()
        return self

    def __exit__(self, *exception: Any) -> None:
        assert self._entered is not None
        self._entered.close()
        self._seen = exception[0] is None

    def _eaches(self) -> list[Each]:
        """Return what the members have of each parameter, from the weights as they are now."""
        return [_each(part, p.detach(), self._draws) for part, p in zip(self.parts, self._parameters, strict=True)]

    @torch.no_grad()
    def verify(self, call: Callable[[nn.Module, int], Any]) -> None:
        """Compare the answers of all members at once with those of the module that has each member's weights.

        For this, the module gets one member's weights after another, and then its own back.

        Args:
            call: Gets the module and how many members answer, and returns tensors with their rows, for example
                `lambda module, members: module(x.repeat(members, 1))`. They must be numbers, not choices between
                numbers: of two that are almost equal, rounding may choose either.

        Raises:
            ValueError: If they differ by more than rounding.
        """
        with self:
            together = _tensors(call(self.module, self.members))
        kept = [p.detach().clone() for p in self._parameters]
        eaches = self._eaches()
        try:
            for slot in range(self.members):
                for p, own, each in zip(self._parameters, kept, eaches, strict=True):
                    p.copy_(each.of(slot, own))
                torch.clear_autocast_cache()
                alone = _tensors(call(self.module, 1))
                if not _same(alone, together, slot, self.members):
                    raise ValueError(
                        f"`module` ({type(self.module).__name__}) must answer for several members as for one, but "
                        f"member {slot} of {self.members} gets other answers: its rows depend on each other or "
                        f"on chance, or are not the first dimension of what a layer gets; {WAY_OUT}"
                    )
        finally:
            for p, own in zip(self._parameters, kept, strict=True):
                p.copy_(own)
            torch.clear_autocast_cache()


def _hook(module: nn.Module, interception: Interception, stack: contextlib.ExitStack) -> None:
    if isinstance(module, torch.jit.ScriptModule):  # which takes no hooks, and has no perturbed parameters
        return
    for hook in (
        module.register_forward_pre_hook(interception.before, with_kwargs=True),
        module.register_forward_hook(interception.after, always_call=True),
    ):
        stack.callback(hook.remove)


def _each(part: Part, value: Tensor, draws: Tensor) -> Each:
    if not part.rank:
        own = part.dense(draws).to(value.device, value.dtype)
        return Each(part.name, value, None, value + own.view(len(draws), *value.shape))
    left, right = (factor.to(value.device, value.dtype) for factor in part.factors(draws))
    return Each(part.name, value, (left, right))


def _check_layers(module: nn.Module, perturbed: set[int]) -> None:
    for name, layer in module.named_modules():
        if isinstance(layer, _REFUSED) and any(id(p) in perturbed for p in layer.parameters()):
            raise ValueError(
                f"`{name or 'module'}` ({type(layer).__name__}) has no rule for several members at once; {WAY_OUT}"
            )


def _tensors(answer: Any) -> list[Tensor]:
    return [x for x in tree_leaves(answer) if isinstance(x, Tensor) and x.dim()]


def _same(alone: list[Tensor], together: list[Tensor], slot: int, members: int) -> bool:
    """Return whether a member's answers, alone and as one of several, differ by rounding at most."""
    if len(alone) != len(together):
        return False
    for one, every in zip(alone, together, strict=True):
        if len(every) != members * len(one) or one.shape[1:] != every.shape[1:]:
            return False
        rounding = max(torch.finfo(one.dtype).eps, 1e-6) if one.is_floating_point() else 0.0
        near = 64 * rounding * float(one.abs().max()) if one.numel() else 0.0
        own = every.unflatten(0, (members, -1))[slot]
        if not torch.allclose(own.double(), one.double(), rtol=0.0, atol=near, equal_nan=True):
            return False
    return True
