"""A tensor as each of several members has it, and its products with what belongs to each."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


class Rows(NamedTuple):
    """The rows of a call, members first.

    Attributes:
        members: How many members answer.
        total: Rows of all members.
        vectors: Whether the module may have been called with one number a row.
        constants: Where the memory of the module's own buffers and frozen parameters starts, which hold no rows.
    """

    members: int
    total: int
    vectors: bool = True
    constants: frozenset[int] = frozenset()

    def split(self, x: Tensor) -> Tensor:
        """Return `x` as `(members, n, ...)`; one with a single row is the same for every row of the call.

        Raises:
            ValueError: If its first dimension does not hold the rows of all members.
        """
        size = x.shape
        if size[0] != 1 and x.stride(0) and x.untyped_storage().data_ptr() in self.constants:
            raise ValueError(
                f"a layer got a buffer or a frozen parameter of the module, {tuple(size)}, together with a perturbed "
                "parameter, and would take it for rows; pass `members_per_call=1`."
            )
        if size[0] % self.total:
            if size[0] != 1:
                raise ValueError(
                    f"the module must keep the rows of all {self.members} members first, {self.total} in this call, "
                    f"but a layer got {tuple(size)}; pass `members_per_call=1`."
                )
            if len(size) > 3 and size[1] == self.total:
                raise ValueError(
                    f"the rows of all members must come first, but a layer got {tuple(size)}: a table of positions "
                    "has answered for all rows already; look up `positions[None]`, in place of `[None]` afterwards."
                )
            x = x.expand(self.total, *size[1:])
        return x.reshape(self.members, -1, *size[1:])


class Each:
    """What the members have in place of one tensor: `value + left.T @ right`, or a tensor of its own for each.

    Args:
        name: Of the parameter that it comes from.
        value: The centre's, `(*shape)`.
        factors: `left` `(members, rank, rows)` and `right` `(members, rank, columns)`.
        own: `(members, *shape)`, instead of factors.

    Example:
        >>> left, right = torch.randn(3, 1, 5), torch.randn(3, 1, 4)
        >>> weight = Each("weight", torch.randn(5, 4), (left, right))
        >>> x = torch.randn(3, 7, 5)  # seven rows for each of three members
        >>> torch.allclose(weight.times(x), x @ weight.whole(), atol=1e-5)
        True
    """

    def __init__(
        self, name: str, value: Tensor, factors: tuple[Tensor, Tensor] | None = None, own: Tensor | None = None
    ) -> None:
        self.name, self.value, self.factors, self._own = name, value, factors, own
        self._transposed: Each | None = None

    def whole(self) -> Tensor:
        """Return the members' tensors, `(members, *shape)`."""
        if self._own is not None:
            return self._own
        assert self.factors is not None
        left, right = self.factors
        return self.value + (left.mT @ right).view(len(left), *self.value.shape)

    def of(self, member: int, value: Tensor) -> Tensor:
        """Return one member's tensor, with `value` for the centre's."""
        if self._own is not None:
            return self._own[member]
        assert self.factors is not None
        left, right = self.factors
        return value + (left[member].t() @ right[member]).view(value.shape)

    def map(self, function: Callable[[Tensor], Tensor]) -> Each:
        """Return it after a function that treats every element alike, and keeps sums and products."""
        factors = None if self.factors is None else (function(self.factors[0]), function(self.factors[1]))
        return Each(self.name, function(self.value), factors, None if self._own is None else function(self._own))

    def transposed(self) -> Each:
        """Return the transpose of a matrix."""
        if self._transposed is None:  # kept, since a layer asks for it in each call
            factors = None if self.factors is None else (self.factors[1], self.factors[0])
            own = None if self._own is None else self._own.mT
            self._transposed = Each(self.name, self.value.t(), factors, own)
        return self._transposed

    def times(self, x: Tensor) -> Tensor:
        """Return `x @ matrix` for x `(members, n, rows)`."""
        if self.factors is None:
            return torch.bmm(x, self.whole())
        left, right = self.factors
        y = torch.matmul(x, self.value)
        return y.baddbmm_(torch.bmm(x, left.mT), right.to(y.dtype))  # autocast chooses y's

    def looked_up(self, index: Tensor) -> Tensor:
        """Return the matrix's rows of the indices `(members, n)`, as `(members, n, columns)`."""
        if self.factors is None:
            return self.whole()[torch.arange(len(index), device=index.device)[:, None], index]
        left, right = self.factors
        kind = index.device.type
        rounding = torch.is_autocast_enabled(kind)  # of products, and not of a look-up
        with torch.autocast(kind, enabled=False) if rounding else contextlib.nullcontext():
            chosen = left.gather(2, index[:, None].expand(-1, left.shape[1], -1))
            return torch.baddbmm(functional.embedding(index, self.value), chosen.mT, right)

    def convolved(self, x: Tensor, convolve: Callable[..., Tensor], groups: int, *options: Any) -> Tensor:
        """Return `convolve` of x `(members, n, channels, ...)` with the tensors as filters.

        The members' filters, or their factors on the side of the input, are groups of one convolution.
        """
        members, n, channels, *size = x.shape
        filters, each, beside = self.value.shape[0], self.value.shape[1:], x.transpose(0, 1).reshape(n, -1, *size)
        if self.factors is None:
            whole = convolve(beside, self.whole().flatten(0, 1), None, *options, members * groups)
            return whole.view(n, members, filters, *whole.shape[2:]).transpose(0, 1)
        left, right = self.factors
        rank = left.shape[1]
        every = right.view(members, 1, rank, *each).expand(-1, groups, *[-1] * (1 + len(each))).flatten(0, 2)
        inner = convolve(beside, every, None, *options, members * groups).unflatten(1, (members, groups, rank))
        thin: Tensor = torch.einsum("nmgr...,mrgo->mngo...", inner, left.unflatten(2, (groups, -1))).flatten(2, 3)
        shared = convolve(x.reshape(members * n, channels, *size), self.value, None, *options, groups)
        return thin.add_(shared.view(thin.shape))
