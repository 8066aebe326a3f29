"""Process-wide settings of the user's script, which workers adopt so that they compute as their parent does."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from torch_es.envs.make import register, registered

Settings = tuple[Any, ...]


def _autocast() -> dict[str, tuple[bool, torch.dtype]]:
    return {kind: (torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)) for kind in ("cpu", "cuda")}


def _set_autocast(value: dict[str, tuple[bool, torch.dtype]]) -> None:
    for kind, (enabled, dtype) in value.items():
        torch.set_autocast_enabled(kind, enabled)
        torch.set_autocast_dtype(kind, dtype)


_SETTINGS: tuple[tuple[Callable[[], Any], Callable[[Any], object]], ...] = (
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch.get_default_device, torch.set_default_device),
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    (lambda: torch.backends.mkldnn.enabled, lambda on: setattr(torch.backends.mkldnn, "enabled", on)),
    (lambda: torch.backends.quantized.engine, lambda name: setattr(torch.backends.quantized, "engine", name)),
    (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
    (lambda: sys.float_info.min / 2 == 0.0, torch.set_flush_denormal),  # torch cannot be asked for it
    (_autocast, _set_autocast),
    (np.geterr, lambda how: np.seterr(**how)),
    (lambda: gym.logger.min_level, lambda level: setattr(gym.logger, "min_level", level)),
    (registered, register),
    (sys.getrecursionlimit, sys.setrecursionlimit),
)


def settings() -> Settings:
    """Return the settings of this process.

    Example:
        >>> settings()[0]
        torch.float32
    """
    return tuple(ask() for ask, _ in _SETTINGS)


def adopt(given: Settings) -> None:
    """Apply the settings that differ from this process's own."""
    for (ask, tell), value in zip(_SETTINGS, given, strict=True):
        if ask() != value:
            tell(value)
