"""Every torch function that gets a perturbed parameter, answered for several members or refused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name

from torch_es.lanes.each import Each, Rows
from torch_es.lanes.pointwise import POINTWISE
from torch_es.lanes.products import PRODUCTS

WAY_OUT = "pass `members_per_call=1`, which answers for one member at a time."

_RULES = {**PRODUCTS, **POINTWISE}
_FACTS = {"size", "dim", "ndimension", "numel", "nelement", "stride", "element_size", "is_floating_point", "is_complex"}
_FACTS |= {"__get__", "__len__", "__hash__", "__repr__", "is_contiguous", "data_ptr", "get_device"}


class Interception(TorchFunctionMode):
    """While it is entered, the parameters that it was given are what the members have of their own.

    Args:
        module: Whose parameters they are.
        members: How many answer.
    """

    def __init__(self, module: nn.Module, members: int) -> None:
        super().__init__()
        self._module = module
        self._rows = Rows(members, members)
        self._depth = 0  # of calls of modules in each other
        self._parameters: dict[int, Each] = {}
        self._derived: dict[int, Each] = {}  # what was made of parameters in a call

    def begin(self, parameters: Iterable[tuple[Tensor, Each]]) -> None:
        """Take what stands for parameters from now on."""
        self._parameters = {id(p): each for p, each in parameters}
        self._depth = 0
        self._forget()

    def before(self, module: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Learn how many rows there are, if this call of a module is not part of another."""
        self._depth += 1
        tensors = [x for x in (*args, *kwargs.values()) if isinstance(x, Tensor) and x.dim()]
        if self._depth > 1 or not tensors:
            return
        # beside the batch, a call may have vectors that belong to none of its rows
        batch = next((x for x in tensors if x.dim() > 1), tensors[0])
        members, total = self._rows.members, len(batch)
        if total % members == 0:
            self._rows = Rows(members, total, batch.dim() == 1)
        elif module is self._module:
            raise ValueError(
                f"the module must get the rows of all {members} members, members first, got {total} rows; "
                f"give it `x.repeat({members}, 1)`."
            )

    def after(self, *_: object) -> None:
        """Forget what belonged to a call that ends."""
        self._depth -= 1
        if self._depth == 0:
            self._forget()

    def _forget(self) -> None:
        self._rows, self._derived = Rows(self._rows.members, self._rows.members), {}

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        held = [found for value in _flat((*args, *kwargs.values())) if (found := self._find(value)) is not None]
        if not held:
            return function(*args, **kwargs)
        if getattr(function, "__name__", "") in _FACTS and function not in _RULES:
            fact = function(*args, **kwargs)
            answer = NotImplemented if isinstance(fact, Tensor) else fact
        else:
            answer = self._answer(function, args, dict(kwargs))
        if answer is NotImplemented:
            raise ValueError(
                f"`{held[0].name}` is used by `{resolve_name(function) or function}` in a way that has no rule for "
                f"several members at once; {WAY_OUT}"
            )
        if isinstance(answer, Each):
            self._derived[id(answer.value)] = answer
            return answer.value
        return answer

    def _answer(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        rule = _RULES.get(function)
        if rule is None or kwargs.get("out") is not None:
            return NotImplemented
        if "input" in kwargs:  # as torch calls the first argument of most
            args = (kwargs.pop("input"), *args)
        return rule(self._rows, *map(self._own, args), **{key: self._own(value) for key, value in kwargs.items()})

    def _find(self, value: Any) -> Each | None:
        return self._parameters.get(id(value)) or self._derived.get(id(value))

    def _own(self, value: Any) -> Any:
        return self._find(value) or value


def _flat(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, (list, tuple)):
            yield from _flat(value)
        else:
            yield value
