"""What the bits of a run depend on besides its seed: the machine's arithmetic and the installed versions."""

from __future__ import annotations

import functools
import hashlib
import platform
import re
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

_PACKAGES = ("torch-evolution", "torch", "numpy", "gymnasium", "mujoco", "ale-py")


@functools.cache
def version(package: str) -> str | None:
    """Return the installed version of a package, or None.

    Example:
        >>> version("no-such-package") is None
        True
    """
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


@functools.cache
def processor() -> str:
    """Return the name of the CPU, and its generation: virtual machines say "AMD EPYC" of several."""
    info = Path("/proc/cpuinfo")
    return _named(info.read_text() if info.is_file() else "")


def _named(cpuinfo: str) -> str:
    found: dict[str, str] = dict(re.findall(r"^(model name|cpu family|model)\s*:\s*(.*)$", cpuinfo, re.MULTILINE))
    name = found.get("model name", platform.processor())
    if "cpu family" not in found:  # only x86 numbers its generations so
        return name
    return f"{name} (family {found['cpu family']}, model {found['model']})"


@functools.cache
def arithmetic() -> str:
    """Return a digest of a small fixed computation with the routines that episodes and updates use.

    On another CPU, matrix products, tanh, exp and sums use other instructions and round differently. Two machines with
    the same digest most likely give a run the same bits; two with different digests do not.

    Example:
        >>> len(arithmetic())
        16
    """
    draws = np.random.Generator(np.random.SFC64(1))
    weights = draws.standard_normal((4, 64, 67), dtype=np.float32)
    inputs = draws.standard_normal((4, 67, 1), dtype=np.float32)
    images = torch.from_numpy(draws.standard_normal((2, 3, 12, 12), dtype=np.float32))
    filters = torch.from_numpy(draws.standard_normal((5, 3, 3, 3), dtype=np.float32))
    flat = torch.from_numpy(weights)
    parameter = torch.nn.Parameter(flat.reshape(-1).clone())
    parameter.grad = parameter.detach() * 0.3
    torch.optim.Adam([parameter], lr=0.01).step()
    results = [
        np.tanh(np.matmul(weights, inputs)),
        np.exp(inputs.astype(np.float64)).sum(keepdims=True),
        torch.tanh(flat @ torch.from_numpy(inputs)).numpy(),
        torch.nn.functional.conv2d(images, filters).numpy(),
        flat.norm().numpy(),
        parameter.detach().numpy(),
    ]
    return hashlib.blake2b(b"".join(np.ascontiguousarray(r).tobytes() for r in results), digest_size=8).hexdigest()


def describe() -> dict[str, Any]:
    """Return the processor, the digest of its arithmetic, and the versions that a run's bits depend on."""
    versions = {name: found for name in _PACKAGES if (found := version(name))}
    return {"processor": processor(), "arithmetic": arithmetic(), "versions": versions}


def difference(then: dict[str, Any]) -> str:
    """Say how this machine differs from the one described; "" if the bits will be the same.

    Example:
        >>> difference(describe())
        ''
        >>> difference({**describe(), "arithmetic": "0", "processor": "another"}).startswith("arithmetic of another")
        True
    """
    now = describe()
    parts = []
    if then["arithmetic"] != now["arithmetic"]:
        parts.append(f"arithmetic of {then['processor']}, here {now['processor']}")
    for name in sorted({*then["versions"], *now["versions"]} - {"torch-evolution"}):
        one, other = then["versions"].get(name), now["versions"].get(name)
        if one != other:
            parts.append(f"{name} {one}, here {other}")
    return "; ".join(parts)
