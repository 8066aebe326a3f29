"""Every torch function that gets a perturbed parameter, answered for several members or refused."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._pytree import tree_leaves

from torch_es.lanes.each import Each, Rows
from torch_es.lanes.pointwise import POINTWISE
from torch_es.lanes.products import PRODUCTS

WAY_OUT = "pass `members_per_call=1`, which answers for one member at a time."
_RULES = {**PRODUCTS, **POINTWISE}
_FACTS = {"size", "dim", "ndimension", "numel", "nelement", "stride", "element_size", "is_floating_point", "is_complex"}
_FACTS |= {"__get__", "__len__", "__hash__", "__repr__", "is_contiguous", "data_ptr", "get_device"}


class Interception:
    """From `begin` to `end`, the parameters that it was given are what the members have of their own. It is used once.

    They stay the same objects, of a class whose torch functions come here: so one is found wherever it is used, and
    all other calls cost what they cost without.

    Args:
        module: Whose parameters they are.
        members: How many answer.
    """

    num_active = 0

    def __init__(self, module: nn.Module, members: int) -> None:
        self._module = module
        fixed = [*module.buffers(), *(p for p in module.parameters() if not p.requires_grad)]
        constants = frozenset(tensor.untyped_storage().data_ptr() for tensor in fixed) - {0}  # where a device says so
        self._rows = self._unknown = Rows(members, members, constants=constants)
        self._depth = 0  # of calls of modules in each other
        self._parameters: list[Tensor] = []
        self.active = False

    def begin(self, parameters: Iterable[tuple[Tensor, Each]]) -> None:
        """Take what stands for parameters from now on."""
        self.active = True
        Interception.num_active += 1
        for p, each in parameters:
            self._hold(p, each)
            self._parameters.append(p)

    def end(self) -> None:
        """Let the parameters be what they were."""
        self.active = False
        Interception.num_active -= 1
        while self._parameters:
            p = self._parameters.pop()
            p.__class__ = type(p).__bases__[1]
            del cast(_Held, p)._members_have

    def _hold(self, tensor: Tensor, each: Each) -> Tensor:
        if not isinstance(tensor, _Held):
            tensor.__class__ = _held(type(tensor))
        cast(_Held, tensor)._members_have = self, each
        return tensor

    def before(self, module: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Learn how many rows there are, if this call of a module is not part of another."""
        self._depth += 1
        if self._depth > 1:
            return
        given = [dict(x) if isinstance(x, Mapping) else x for x in (*args, *kwargs.values())]
        tensors = [x for x in tree_leaves(given) if isinstance(x, Tensor) and x.dim()]
        if not tensors:
            return
        # beside the batch, a call may have vectors that belong to none of its rows
        batch = next((x for x in tensors if x.dim() > 1), tensors[0])
        members, total = self._rows.members, len(batch)
        if total % members == 0:
            self._rows = self._unknown._replace(total=total, vectors=batch.dim() == 1)
        elif module is self._module:
            raise ValueError(
                f"the module must get the rows of all {members} members, members first, got {total} rows; "
                f"give it `x.repeat({members}, 1)`."
            )

    def after(self, module: object, _: object, answer: Any) -> None:
        """Forget the rows of a call that ends; a module that has lost them is refused."""
        self._depth -= 1
        if self._depth > 0:
            return
        rows, self._rows = self._rows, self._unknown
        if module is not self._module or rows is self._unknown:
            return
        shapes = [tuple(x.shape) for x in tree_leaves(answer) if isinstance(x, Tensor) and x.dim()]
        if shapes and all(shape[0] % rows.total for shape in shapes):
            raise ValueError(
                f"the module must answer with the rows of all {rows.members} members first, {rows.total} in this call, "
                f"but a {type(module).__name__} answers {shapes[0]}; {WAY_OUT}"
            )

    def called(self, each: Each, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return what a torch function answers that got a parameter, or what was made of one."""
        if getattr(function, "__name__", "") in _FACTS and function not in _RULES:
            fact = function(*args, **kwargs)
            answer = NotImplemented if isinstance(fact, Tensor) else fact
        else:
            answer = self._answer(function, args, kwargs)
        if answer is NotImplemented:
            raise _without_rule(f"`{each.name}`", function)
        # another object than the one that `answer` keeps, since a cycle of references would not be freed at once
        return self._hold(answer.value.view_as(answer.value), answer) if isinstance(answer, Each) else answer

    def _answer(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        rule = _RULES.get(function)
        if rule is None or kwargs.get("out") is not None:
            return NotImplemented
        named = {name: _own(value) for name, value in kwargs.items()}
        first = (named.pop("input"),) if "input" in named else ()  # as torch calls the first argument of most
        return rule(self._rows, *first, *map(_own, args), **named)


def check_free(parameters: Iterable[Tensor]) -> None:
    """Raise a RuntimeError if one of some parameters stands for members already."""
    if any(isinstance(p, _Held) for p in parameters):
        raise RuntimeError("`Together` must not be entered while its module is in another one; leave that before.")


class _Held:
    """A tensor whose torch functions an `Interception` answers."""

    _members_have: tuple[Interception, Each] | None = None

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        found = [*_held_in(args), *_held_in(kwargs.values())]
        with torch._C.DisableTorchFunctionSubclass():
            if old := next((each for interception, each in found if not interception.active), None):
                if Interception.num_active:
                    raise ValueError(
                        f"`{old.name}` is used by what the module keeps from an earlier call, where it belonged to "
                        f"other members; {WAY_OUT}"
                    )
                return function(*args, **kwargs)
            if not found:  # one that was made with the class of a parameter, or one in a dict, say
                if any(isinstance(x, _Held) and x._members_have for x in tree_leaves((args, kwargs))):
                    raise _without_rule("a parameter", function)
                return function(*args, **kwargs)
            interception, each = found[0]
            return interception.called(each, function, args, kwargs)


class Unseen(TorchFunctionMode):
    """Refuses calls that get a parameter in a place where torch does not ask its class what to do.

    Such are a tensor in place of a number, and `torch.tensor`. It makes every call slower, so it is for a first one.
    """

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if not any(issubclass(kind, _Held) for kind in types):
            for _, each in (*_held_in(args), *_held_in(kwargs.values())):
                raise _without_rule(f"`{each.name}`", function)
        return function(*args, **kwargs)


def _without_rule(what: str, function: Any) -> ValueError:
    used = resolve_name(function) or function
    return ValueError(f"{what} is used by `{used}` in a way that has no rule for several members at once; {WAY_OUT}")


@functools.cache
def _held(cls: type) -> type:
    return type(cls.__name__, (_Held, cls), {})


def _held_in(values: Iterable[Any]) -> Iterator[tuple[Interception, Each]]:
    for value in values:
        if isinstance(value, _Held):
            if value._members_have is not None:
                yield value._members_have
        elif isinstance(value, (list, tuple)):
            yield from _held_in(value)


def _own(value: Any) -> Any:
    return value._members_have[1] if isinstance(value, _Held) and value._members_have else value
