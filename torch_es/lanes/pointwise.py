"""What an elementwise operation on a parameter answers for several members at once: norms, scales, offsets.

For what a rule is, see `torch_es.lanes.products`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from torch_es.lanes.each import Each, Rows
from torch_es.lanes.products import Rule, affine


def _layer_norm(
    rows: Rows, x: Tensor, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Tensor:
    y = functional.layer_norm(x, normalized_shape, None, None, eps)
    return affine(rows.split(y), weight, bias, tuple(normalized_shape))


def _rms_norm(rows: Rows, x: Tensor, normalized_shape: Any, weight: Any = None, eps: float | None = None) -> Tensor:
    return affine(
        rows.split(functional.rms_norm(x, normalized_shape, None, eps)), weight, None, tuple(normalized_shape)
    )


def _group_norm(
    rows: Rows, x: Tensor, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Tensor:
    y = functional.group_norm(x, num_groups, None, None, eps)
    return affine(rows.split(y), weight, bias, (-1, *[1] * (x.dim() - 2)))


def _batch_norm(
    rows: Rows, x: Tensor, running_mean: Any, running_var: Any, weight: Any = None, bias: Any = None,
    training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
) -> Any:  # fmt: skip
    """The rule in eval mode; in training, the statistics would be of all members' rows."""
    if training:
        return NotImplemented
    y = functional.batch_norm(x, running_mean, running_var, None, None, False, momentum, eps)
    return affine(rows.split(y), weight, bias, (-1, *[1] * (x.dim() - 2)))


def _cast(function: Rule, _: Rows, x: Any, *args: Any, **kwargs: Any) -> Any:
    return x.map(lambda tensor: function(tensor, *args, **kwargs)) if isinstance(x, Each) else NotImplemented


def _of_one(function: Rule, _: Rows, x: Each, **kwargs: Any) -> Any:
    """The rule of a function of one tensor; a matrix with factors would lose them."""
    if x.factors is not None:
        return NotImplemented
    return Each(x.name, function(x.value, **kwargs), own=function(x.whole(), **kwargs))


def _item(_: Rows, x: Any, index: Any) -> Any:
    index = index if isinstance(index, tuple) else (index,)
    if not isinstance(x, Each) or x.factors is not None or any(isinstance(i, (Each, Tensor, list)) for i in index):
        return NotImplemented
    return Each(x.name, x.value[index], own=x.whole()[(slice(None), *index)])


def _expand(rows: Rows, x: Each, *sizes: Any) -> Any:
    """The rule of a parameter `(1, ...)` that is repeated for all rows, as a token of a class is."""
    sizes = sizes[0] if len(sizes) == 1 else sizes
    if x.factors is not None or len(sizes) != x.value.dim() or len(x.value) != 1 or sizes[0] != rows.total:
        return NotImplemented
    return x.whole().expand(rows.members, rows.total // rows.members, *sizes[1:]).flatten(0, 1)


def _arithmetic(function: Rule, rows: Rows, a: Any, other: Any, **kwargs: Any) -> Any:
    """The rule of a sum, a product, ... of a parameter with a number, with another, or with a tensor of all rows."""
    if any(isinstance(x, Each) and x.factors is not None for x in (a, other)):
        return NotImplemented
    each, beside = (a, other) if isinstance(a, Each) else (other, a)
    dims = each.value.dim()
    if isinstance(beside, Tensor) and beside.dim():
        shape = (1,) * (beside.dim() - dims) + each.value.shape
        if beside.dim() < max(dims, 2) or shape[0] != 1:
            return NotImplemented
        whole, x = each.whole().view(rows.members, 1, *shape[1:]), rows.split(beside)
        y: Tensor = function(*((whole, x) if each is a else (x, whole)), **kwargs)
        return y.flatten(0, 1)
    if isinstance(beside, Each) and beside.value.dim() != dims:
        return NotImplemented
    values, wholes = zip(*((x.value, x.whole()) if isinstance(x, Each) else (x, x) for x in (a, other)), strict=True)
    return Each(each.name, function(*values, **kwargs), own=function(*wholes, **kwargs))


def _of_rows(rule: Rule, rows: Rows, x: Any, *args: Any, **kwargs: Any) -> Any:
    """The rule of a norm, whose input must not be a parameter itself."""
    return rule(rows, x, *args, **kwargs) if isinstance(x, Tensor) else NotImplemented


_CASTS = Tensor.float, Tensor.double, Tensor.half, Tensor.bfloat16, Tensor.to, Tensor.type_as, Tensor.contiguous
_OF_ONE = ("exp", "log", "neg", "sigmoid", "tanh", "relu", "abs", "square", "sqrt", "rsqrt")
_SIGNS = ("add", "sub", "mul", "div", "true_divide")
_OPERATORS = ("__add__", "__radd__", "__sub__", "__rsub__", "__mul__", "__rmul__", "__truediv__", "__rtruediv__")

POINTWISE: dict[Any, Rule] = {
    functional.layer_norm: partial(_of_rows, _layer_norm),
    functional.rms_norm: partial(_of_rows, _rms_norm),
    functional.group_norm: partial(_of_rows, _group_norm),
    functional.batch_norm: partial(_of_rows, _batch_norm),
    Tensor.__getitem__: _item,
    Tensor.expand: _expand,
    **{cast: partial(_cast, cast) for cast in _CASTS},
    **{f: partial(_of_one, f) for name in _OF_ONE for f in (getattr(torch, name), getattr(Tensor, name))},
    **{f: partial(_arithmetic, f) for name in _SIGNS for f in (getattr(torch, name), getattr(Tensor, name))},
    **{f: partial(_arithmetic, f) for f in (getattr(Tensor, name) for name in _OPERATORS)},
}
"""By the function that torch was called with."""
