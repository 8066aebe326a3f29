"""Modules that pickle refuses, as bytes, and copies of those that `copy` gets wrong."""

from __future__ import annotations

import copy
import io
import warnings
from typing import Any

import cloudpickle
import torch
from torch import nn
from torch.nn.utils import parametrize


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Pickles scripted and parametrized modules too: by `torch.jit.save`, and by their plain class and its contents."""

    def reducer_override(self, obj: Any) -> Any:
        """Return how an object is made again."""
        if isinstance(obj, torch.jit.ScriptModule):
            return _scripted, (_script(obj),)
        if isinstance(obj, nn.Module) and parametrize.is_parametrized(obj):
            return _parametrized, (type(obj).__bases__[0], obj.__dict__)
        return super().reducer_override(obj)


def dumps(value: Any) -> bytes:
    """Return a value as bytes for `pickle.loads`.

    Example:
        >>> import pickle
        >>> layer = nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))
        >>> bool((pickle.loads(dumps(layer)).weight == layer.weight).all())
        True
    """
    file = io.BytesIO()
    Pickler(file).dump(value)
    return file.getvalue()


def copied(network: nn.Module) -> nn.Module:
    """Return a copy of a network, in eval mode.

    Raises:
        TypeError: If the network holds something that cannot be copied.
    """
    # of a scripted module, `deepcopy` makes tensors that are no parameters
    memo = {id(m): _scripted(_script(m)) for m in network.modules() if isinstance(m, torch.jit.ScriptModule)}
    try:
        return copy.deepcopy(network, memo).eval()
    except (TypeError, RuntimeError) as error:
        raise TypeError(
            f"`policy` ({type(network).__name__}) must be a module that can be copied, since each lane runs a copy: "
            f"{error}. Keep what cannot be copied out of it, or give it a `__deepcopy__`."
        ) from error


def _script(module: torch.jit.ScriptModule) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that torch.export is to be used: the user chose to script
        torch.jit.save(module, file)
    return file.getvalue()


def _scripted(saved: bytes) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module: nn.Module = torch.jit.load(io.BytesIO(saved))
    return module


def _parametrized(kind: type[nn.Module], contents: dict[str, Any]) -> nn.Module:
    module = kind.__new__(kind)
    module.__dict__.update(contents)
    parametrize._inject_new_class(module)
    for name in module.parametrizations:  # type: ignore[union-attr]
        parametrize._inject_property(module, name)
    return module
