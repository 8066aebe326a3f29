"""Buffers that keep their dtype, and digests of what is not searched."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping

import torch
from torch import Tensor, nn


class Constants(nn.Module):
    """A module whose buffers follow it to another device and keep their dtype.

    `policy.half()` changes the network's arithmetic. The bounds of an action, or a mean over a million observations,
    must not lose digits by it.

    Example:
        >>> import torch
        >>> module = Constants()
        >>> module.register_buffer("bound", torch.tensor(0.4))
        >>> module.half().bound
        tensor(0.4000)
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        def moved(tensor: Tensor) -> Tensor:
            made = fn(tensor)
            return made if made.dtype == tensor.dtype else tensor.to(made.device)

        return super()._apply(moved, recurse)  # type: ignore[no-untyped-call, no-any-return]


def unsearched(module: nn.Module, but: Collection[Tensor] = ()) -> dict[str, Tensor]:
    """Return what a module's answers depend on besides trainable parameters: frozen ones, and buffers that are saved.

    Args:
        module: Any module.
        but: Those of its buffers that are left out.

    Example:
        >>> list(unsearched(nn.Sequential(nn.Linear(1, 1).requires_grad_(False), nn.BatchNorm1d(1))))
        ['0.weight', '0.bias', '1.running_mean', '1.running_var', '1.num_batches_tracked']
    """
    saved, frozen = module.state_dict(), {n: p for n, p in module.named_parameters() if not p.requires_grad}
    apart = {id(buffer) for buffer in but}
    return {n: b for n, b in [*frozen.items(), *module.named_buffers()] if n in saved and id(b) not in apart}


def shapes(tensors: Mapping[str, Tensor] | None, prefix: str = "") -> dict[str, list[int]]:
    """Return the shape of each tensor, as JSON has it, under its name behind a prefix.

    Example:
        >>> shapes({"weight": torch.zeros(2, 3)})
        {'weight': [2, 3]}
    """
    return {prefix + name: list(tensor.shape) for name, tensor in (tensors or {}).items()}


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Return a digest of tensors and their names.

    Example:
        >>> digest({"a": Tensor([1])}) == digest({"a": Tensor([2])})
        False
    """
    hashed = hashlib.blake2b(digest_size=8)
    for name, tensor in tensors.items():
        hashed.update(name.encode())
        dense = tensor.detach().cpu() if tensor.layout is torch.strided else tensor.detach().cpu().to_dense()
        hashed.update(dense.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return hashed.hexdigest()


def same_tensors(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether both hold the same names with equal tensors.

    Example:
        >>> same_tensors({"a": Tensor([1])}, {"a": Tensor([1])}), same_tensors({"a": Tensor([1])}, {})
        (True, False)
    """
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())
