"""Importing this makes `torch.device("other")`, for tests on machines that have the CPU alone.

Every operation on its tensors is done on CPU tensors that they hold. One that also gets a CPU tensor is refused, as a
GPU would refuse it, and none of its tensors has memory that NumPy could read. It changes torch for the whole process.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

_setup_privateuseone_for_python_backend("other")
torch.__future__.set_swap_module_params_on_conversion(True)  # `module.to` swaps whole tensors, with what they hold
_library = torch.library.Library("_", "IMPL", "PrivateUse1")
_aten = torch.library.Library("aten", "IMPL", "PrivateUse1")


class OtherTensor(torch.Tensor):
    """A tensor of the device; `held` is on the CPU."""

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> Any:
        made = torch._C._acc.create_empty_tensor(held.shape, held.dtype)
        made.__class__ = cls
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    def __init__(self, held: torch.Tensor) -> None:
        self.held = held


def _fallback(operation: Any, *args: Any, **kwargs: Any) -> Any:
    name = operation.name()
    flat, _ = tree_flatten((args, kwargs))
    tensors = [x for x in flat if isinstance(x, torch.Tensor)]
    if name not in ("aten::_copy_from", "aten::copy_") and any(x.is_cpu and x.dim() for x in tensors):
        raise RuntimeError(f"{name}: expected all tensors to be on the same device")
    known = {id(x.held): x for x in tensors if isinstance(x, OtherTensor)}
    held_args, held_kwargs = tree_map(_held, (args, kwargs))
    device = held_kwargs.get("device")
    if device is not None:
        held_kwargs["device"] = torch.device("cpu")
    if name == "aten::_copy_from":
        held_args[1].copy_(held_args[0])
        return args[1]
    if name == "aten::view":  # torch takes every tensor here for contiguous
        operation = torch.ops.aten.reshape.default
    answer = operation(*held_args, **held_kwargs)
    for x in known.values():
        if x.shape != x.held.shape:
            raise RuntimeError(f"stale {name} {operation._schema}")
    if device is not None and device.type == "cpu":
        return answer
    return tree_map(
        lambda x: known.get(id(x)) if id(x) in known else OtherTensor(x) if isinstance(x, torch.Tensor) else x, answer
    )


def _held(x: Any) -> Any:
    return x.held if isinstance(x, OtherTensor) else x


_library.fallback(_fallback, "PrivateUse1")


def _composite() -> Iterator[Any]:
    """Yield operations that torch answers by others, into tensors whose size it would change behind our back."""
    names = torch._C._dispatch_get_registrations_for_dispatch_key
    for name in {*names("CompositeExplicitAutograd"), *names("CompositeExplicitAutogradNonFunctional")}:
        space, _, rest = name.partition("::")
        base, _, overload = rest.partition(".")
        operation = getattr(getattr(getattr(torch.ops, space), base), overload or "default")
        if space == "aten" and base not in ("copy_", "_to_copy"):
            yield operation


for _operation in (*_composite(), torch.ops.aten.matmul.default):  # which changes the shape of a tensor in place
    _aten.impl(_operation, partial(_fallback, _operation))
