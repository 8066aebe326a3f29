"""What a product with a parameter answers for several members at once: layers that are linear in a matrix.

A rule takes the rows of the call and the operation's own arguments, with `Each` in place of what the members have of
their own. It answers with a tensor that has the rows of all members, with another `Each`, or with `NotImplemented`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from torch_es.lanes.each import Each, Rows

Rule = Callable[..., Any]


def affine(y: Tensor, weight: Any, bias: Any, shape: tuple[int, ...]) -> Tensor:
    """Return `y * weight + bias` with all rows in one dimension, for y `(members, n, ...)` and weights of a shape."""
    ones = [1] * (y.dim() - 1 - len(shape))
    for value, apply in ((weight, operator.mul), (bias, operator.add)):
        if isinstance(value, Each):
            y = apply(y, value.whole().view(len(y), *ones, *shape).to(y.dtype))
        elif value is not None:
            y = apply(y, value.view(shape).to(y.dtype))
    return y.flatten(0, 1)


def _product(rows: Rows, x: Any, matrix: Any, bias: Any = None) -> Any:
    """The rule of `x @ matrix + bias`."""
    if not isinstance(x, Tensor) or x.dim() < 2 or _value(matrix).dim() != 2:
        return NotImplemented
    each = rows.split(x)
    flat = each if each.dim() == 3 else each.flatten(1, -2)
    y = matrix.times(flat) if isinstance(matrix, Each) else flat @ matrix
    if bias is not None:
        if _value(bias).numel() not in (1, y.shape[-1]):
            return NotImplemented
        own = bias.whole().view(len(y), 1, -1) if isinstance(bias, Each) else bias.view(-1)
        y = y + own.to(y.dtype)
    return y.view(each.shape[0] * each.shape[1], *each.shape[2:-1], y.shape[-1])


def _linear(rows: Rows, x: Any, weight: Any, bias: Any = None) -> Any:
    if _value(weight).dim() != 2:
        return NotImplemented
    return _product(rows, x, weight.transposed() if isinstance(weight, Each) else weight.t(), bias)


def _addmm(rows: Rows, bias: Any, x: Any, matrix: Any, **scales: Any) -> Any:
    return NotImplemented if scales else _product(rows, x, matrix, bias)


def _transpose(_: Rows, x: Any, *dims: int) -> Any:
    return x.transposed() if x.value.dim() == 2 and dims in {(), (0, 1), (1, 0), (-2, -1), (-1, -2)} else NotImplemented


def _embedding(rows: Rows, index: Tensor, weight: Any, *options: Any, **named: Any) -> Any:
    """The rule of a look-up; `max_norm` would write into the table."""
    max_norm = options[1] if len(options) > 1 else named.get("max_norm")
    if not isinstance(weight, Each) or weight.value.dim() != 2 or max_norm is not None or index.dim() == 0:
        return NotImplemented
    if index.dim() == 1 and not rows.vectors:
        if len(index) in (1, rows.total) and not _follow_each_other(index):
            raise ValueError(
                f"`{weight.name}` is looked up by indices of shape ({len(index)},), which may be "
                "positions or belong to the rows: give it `index[None]` for positions, or `index[:, None]` and take "
                "`[:, 0]` of the answer for rows."
            )
        index = index[None]  # positions, which are the same for all rows
    each = rows.split(index)
    return weight.looked_up(each.flatten(1)).view(-1, *each.shape[2:], weight.value.shape[1])


def _follow_each_other(index: Tensor) -> bool:
    """Whether indices are those of positions: several, each one more than the one before."""
    return len(index) > 1 and bool((index.diff() == 1).all())


def _convolution(
    convolve: Rule, rows: Rows, x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0,
    dilation: Any = 1, groups: int = 1,
) -> Any:  # fmt: skip
    if not isinstance(x, Tensor) or x.dim() != _value(weight).dim():
        return NotImplemented
    if isinstance(weight, Each):
        y = weight.convolved(rows.split(x), convolve, groups, stride, padding, dilation)
    else:
        y = rows.split(convolve(x, weight, None, stride, padding, dilation, groups))
    return affine(y, None, bias, (-1, *[1] * (x.dim() - 2)))


def _value(weight: Any) -> Any:
    return weight.value if isinstance(weight, Each) else weight


PRODUCTS: dict[Any, Rule] = {
    functional.linear: _linear,
    functional.embedding: _embedding,
    **dict.fromkeys((torch.addmm, Tensor.addmm), _addmm),
    **dict.fromkeys((torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.mm, Tensor.mm), _product),
    **dict.fromkeys((torch.t, Tensor.t, torch.transpose, Tensor.transpose), _transpose),
    **dict.fromkeys((Tensor.T.__get__, Tensor.mT.__get__), _transpose),  # type: ignore[attr-defined]
    **{c: partial(_convolution, c) for c in (functional.conv1d, functional.conv2d, functional.conv3d)},
}
"""By the function that torch was called with."""
