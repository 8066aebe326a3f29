"""A module's trainable parameters as one flat vector, and back; and its buffers, put back."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

_MASTER_DTYPES = (torch.float32, torch.float64)
LARGE = 1 << 25  # parameters; beyond it, no vector of all is made besides the masters


class FlatParameters:
    """The trainable parameters of a module, each once, in the order of `named_parameters()`.

    Frozen parameters (`requires_grad=False`) are left alone, tied ones count once, and non-contiguous ones keep their
    layout. A parameter of low precision, or on another device than the CPU, gets a master in the memory of the CPU, of
    float32 at least, which is what an optimiser should step.

    A large module, or one on another device, is treated one parameter at a time (`by_parts`). Theta is then one vector
    in the memory of the CPU that is changed in place, and masters are views of it. So besides the module there is only
    theta.

    Args:
        module: Its current weights are the start.

    Raises:
        ValueError: If nothing is trainable, a parameter is not finite or has no values, or two share memory.
        TypeError: If a parameter is complex, sparse, of 8 bits, or no plain tensor.

    Example:
        >>> parameters = FlatParameters(nn.Linear(2, 3))
        >>> parameters.read_masters().shape
        torch.Size([9])
    """

    def __init__(self, module: nn.Module) -> None:
        named = {name: p for name, p in module.named_parameters() if p.requires_grad}
        if not named:
            packed = any(hasattr(m, "_packed_params") for m in module.modules())
            way_out = "quantize it after training" if packed else "give it some, or set `requires_grad=True`"
            raise ValueError(
                f"the module ({type(module).__name__}) has no trainable parameters{' but quantized ones' * packed}; "
                f"{way_out}."
            )
        starts: dict[int, str] = {}
        for name, p in named.items():
            _check_parameter(name, p)
            # 0 on devices that do not say where
            if (at := p.data_ptr()) and (other := starts.setdefault(at, name)) != name:
                raise ValueError(
                    f"`{other}` and `{name}` must not be two parameters in the same memory, where one would be written "
                    "over the other; make them one, and transpose it in `forward`."
                )
        self.module = module
        self.named = named
        self.sizes = [p.numel() for p in named.values()]
        self.dim = sum(self.sizes)
        self.on_cpu = all(p.is_cpu for p in named.values())
        self.by_parts = self.dim > LARGE or not self.on_cpu
        self.dtype = torch.float64 if any(p.dtype == torch.float64 for p in named.values()) else torch.float32

    @cached_property
    def masters(self) -> list[nn.Parameter]:
        """What an optimiser steps: the parameters themselves, or what is kept of them in higher precision."""
        named = self.named.values()
        kept = self.parts(self._theta) if self.by_parts else [p.detach().float() for p in named]
        return [
            p if p.dtype in _MASTER_DTYPES and p.is_cpu else nn.Parameter(own.view(p.shape))
            for p, own in zip(named, kept, strict=True)
        ]

    @cached_property
    def _theta(self) -> Tensor:
        """Theta, if it is changed in place. For a GPU its memory is locked, since copies are several times faster."""
        theta = self.read_module()
        gpu = next((p.device for p in self.named.values() if p.is_cuda), None)
        if gpu is not None and _lock(theta, gpu):
            weakref.finalize(self, torch.cuda.cudart().cudaHostUnregister, theta.data_ptr()).atexit = False
        return theta

    @torch.no_grad()
    def read_masters(self) -> Tensor:
        """Return a copy of the masters as one vector, shape `(dim,)`; if `by_parts`, theta itself, made equal."""
        if not self.by_parts:
            return self._flat(self.masters)
        for p, part in zip(self.masters, self.parts(self._theta), strict=True):
            part.copy_(p.reshape(-1))
        return self._theta

    def parts(self, theta: Tensor) -> tuple[Tensor, ...]:
        """Return theta, `(dim,)`, as a view for each parameter."""
        parts: tuple[Tensor, ...] = theta.split(self.sizes)
        return parts

    @torch.no_grad()
    def read_module(self) -> Tensor:
        """Return a copy of the module's own weights as they are now, shape `(dim,)`."""
        return self._flat(self.named.values())

    def _flat(self, parameters: Iterable[Tensor]) -> Tensor:
        flat = torch.empty(self.dim, dtype=self.dtype, device="cpu")
        for p, part in zip(parameters, self.parts(flat), strict=True):
            part.copy_(p.reshape(-1))
        return flat

    def trainable(self) -> dict[str, nn.Parameter]:
        """Return the module's trainable parameters.

        Raises:
            ValueError: If they are others than at the start.
        """
        now = {name: p for name, p in self.module.named_parameters() if p.requires_grad}
        other = [name for name in {**self.named, **now} if now.get(name) is not self.named.get(name)]
        if other:
            raise ValueError(
                f"`policy` must keep the trainable parameters that it was given with; {', '.join(other)} was replaced, "
                "frozen, added or taken away. Copy new values into them, or make a new trainer."
            )
        return now

    def finite(self) -> bool:
        """Whether the weights of lower precision are finite, to which those of float32 are rounded."""
        low = (torch.float16, torch.bfloat16)
        return all(bool(p.isfinite().all()) for p in self.named.values() if p.dtype in low)

    def changed(self, theta: Tensor) -> bool:
        """Return whether the module's weights differ from `theta`, shape `(dim,)`, which was written into it.

        Raises:
            ValueError: If other parameters are trainable than at the start, or one is not finite.
        """
        now = self.trainable()
        parts = self.parts(theta)
        same = [torch.equal(p, sent(part, p).to(p.dtype)) for p, part in zip(now.values(), parts, strict=True)]
        for name, p in () if all(same) else now.items():
            _check_parameter(name, p)
        return not all(same)

    @torch.no_grad()
    def write_module(self, theta: Tensor) -> None:
        """Write `theta`, shape `(dim,)`, into the module; parameters of lower precision are rounded."""
        for p, part in zip(self.named.values(), self.parts(theta), strict=True):
            p.copy_(sent(part, p))
        torch.clear_autocast_cache()  # or it would go on with the rounded weights of before

    @torch.no_grad()
    def write_parts(self, theta: Tensor, part: Callable[[Tensor, int, Tensor], Tensor]) -> None:
        """Write into the module what `part(own, start, out)` makes of each parameter's own elements of `theta`.

        `start` is their place in theta, `out` is room for as many; both tensors are on the parameter's device.
        """
        start = 0
        for p, own in zip(self.named.values(), self.parts(theta), strict=True):
            there = own.to(p.device)
            p.copy_(part(there, start, torch.empty_like(there)).view(p.shape))
            start += len(own)
        torch.clear_autocast_cache()

    @torch.no_grad()
    def write_all(self, theta: Tensor) -> None:
        """Write `theta` into the masters and the module."""
        for p, part in zip(self.masters, self.parts(theta), strict=True):
            p.copy_(part.view(p.shape))
        self.write_module(theta)

    def set_grad(self, gradient: Tensor) -> None:
        """Write `-gradient` into `.grad` of the masters: we maximise, `torch.optim` minimises.

        The tensor is negated in place and kept, to save the memory of another copy.
        """
        for p, part in zip(self.masters, gradient.neg_().split(self.sizes), strict=True):
            p.grad = in_layout(part, p)

    @torch.no_grad()
    def add_grad(self, gradients: Iterable[Tensor]) -> None:
        """Subtract each parameter's gradient from `.grad` of the module's, which autograd may have written before."""
        for p, own in zip(self.named.values(), gradients, strict=True):
            if p.grad is None:
                p.grad = torch.zeros_like(p)
            elif p.grad.is_sparse:  # of an embedding
                p.grad = p.grad.to_dense()
            p.grad.sub_(own.view(p.shape))

    def views(self, flat: Tensor) -> dict[str, Tensor]:
        """Return the parameters by name as views of `flat`, shape `(..., dim)`.

        Example:
            >>> parameters = FlatParameters(nn.Linear(2, 3))
            >>> parameters.views(torch.zeros(16, 9))["weight"].shape
            torch.Size([16, 3, 2])
        """
        parts = flat.split(self.sizes, dim=-1)
        lead = flat.shape[:-1]
        return {name: part.view((*lead, *p.shape)) for (name, p), part in zip(self.named.items(), parts, strict=True)}


def _lock(memory: Tensor, gpu: torch.device) -> bool:
    """Lock memory of the CPU where it is, and return whether that succeeded."""
    with torch.cuda.device(gpu):
        if int(torch.cuda.cudart().cudaHostRegister(memory.data_ptr(), memory.nbytes, 0)) == 0:
            return True
        with contextlib.suppress(RuntimeError):  # the next operation would raise the error, so let it be this one
            torch.zeros(1, device=gpu)
        return False


def sent(part: Tensor, p: Tensor) -> Tensor:
    """Return a parameter's elements of theta in its shape and on its device; rounded there, which is faster."""
    return part.to(p.device).view(p.shape)


def in_layout(gradient: Tensor, p: Tensor) -> Tensor:
    """Return a gradient, `(size,)`, as the parameter stands in memory: fused optimisers read the two side by side."""
    shaped = gradient.view(p.shape).to(p.dtype)
    return shaped if p.is_contiguous() else torch.empty_like(p).copy_(shaped)


class Vector(nn.Module):
    """A vector as a module, so that the same code searches functions of a vector."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value = nn.Parameter(value.detach().clone())


def as_module(target: nn.Module | Tensor) -> nn.Module:
    """Return the module itself, or a module that holds a copy of the vector.

    Raises:
        TypeError: If `target` is neither, or a tensor of whole numbers.
        ValueError: If it is a tensor of more than one dimension.

    Example:
        >>> as_module(torch.zeros(3)).value.shape
        torch.Size([3])
    """
    if isinstance(target, nn.Module):
        return target
    if not isinstance(target, Tensor):
        raise TypeError(f"`target` must be a torch.nn.Module or a tensor, got {type(target).__name__}.")
    if not target.is_floating_point():
        raise TypeError(f"`target` must be a tensor of floating point, got {target.dtype}; call `.float()` on it.")
    if target.dim() > 1:  # members are vectors, and a function of a matrix would broadcast them
        raise ValueError(f"`target` must be a vector, got the shape {tuple(target.shape)}; call `.flatten()` on it.")
    return Vector(target)


@contextlib.contextmanager
def kept_buffers(network: nn.Module, but: Collection[Tensor] = ()) -> Iterator[None]:
    """Put the buffers of a network back afterwards, whatever its forward does to them.

    Args:
        network: Any module.
        but: Those of its buffers that may change.

    Example:
        >>> network = nn.BatchNorm1d(1)
        >>> with kept_buffers(network):
        ...     _ = network(Tensor([[1.0], [3.0]]))
        >>> network.running_mean
        tensor([0.])
    """
    put_back = remembered_buffers(network, but)
    try:
        yield
    finally:
        put_back()


def remembered_buffers(network: nn.Module, but: Collection[Tensor] = ()) -> Callable[[], None]:
    """Remember the buffers of a network; return what puts them back, as often as it is called.

    Args:
        network: Any module.
        but: Those of its buffers that are left as they are.

    Example:
        >>> network = nn.BatchNorm1d(1)
        >>> put_back = remembered_buffers(network)
        >>> network.running_mean = torch.ones(7)
        >>> put_back()
        >>> network.running_mean
        tensor([0.])
    """
    free = {id(buffer) for buffer in but}
    before = [
        (owner, name, buffer, buffer.detach().clone())
        for owner in network.modules()
        for name, buffer in owner.named_buffers(recurse=False)
        if id(buffer) not in free
    ]

    @torch.no_grad()
    def put_back() -> None:
        for owner, name, buffer, value in before:
            if getattr(owner, name) is not buffer:  # another tensor was put in its place, perhaps of another shape
                setattr(owner, name, buffer)
            if not torch.equal(buffer, value):  # an expanded view, as masks are, cannot be written
                buffer.copy_(value)

    return put_back


def _check_parameter(name: str, p: nn.Parameter) -> None:
    if is_lazy(p):
        raise ValueError(f"`{name}` has no shape yet: call the module once with a batch of observations.")
    if not p.is_floating_point():
        raise TypeError(f"`{name}` must be real floating point to be perturbed, got {p.dtype}; freeze it.")
    if type(p).__torch_dispatch__ is not Tensor.__torch_dispatch__:
        raise TypeError(
            f"`{name}` must be a plain tensor to be perturbed, got {type(p).__name__}, a quantized or distributed one; "
            "freeze it, and evolve an adapter beside it."
        )
    if p.is_meta:
        raise ValueError(f"`{name}` must have values, and is on the meta device; load the weights first.")
    if p.layout is not torch.strided or p.dtype.itemsize < 2:
        raise TypeError(f"`{name}` must be dense and of 16 bits at least, got {p.layout} of {p.dtype}; freeze it.")
    if p.is_inference():
        raise ValueError(f"`{name}` was made in `torch.inference_mode()`, so it cannot be changed: make it outside.")
    if not torch.isfinite(p).all():
        raise ValueError(f"`{name}` must be finite, got NaN or infinity; initialise it again or load other weights.")
