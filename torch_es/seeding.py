"""Seeds by hashing: every random stream of a run is named by what it is for, never by `seed + i`."""

from __future__ import annotations

import hashlib
import struct
from typing import Literal

from torch_es.checks import check_count

Purpose = Literal["noise", "environment", "evaluation", "action", "reference", "probe", "search"]
_PURPOSES: dict[Purpose, int] = {
    "noise": 1, "environment": 2, "evaluation": 3, "action": 4, "probe": 5, "reference": 6, "search": 7,
}  # fmt: skip


def derive(purpose: Purpose, *path: int, size: int = 8) -> bytes:
    """Hash a purpose and a path of whole numbers into `size` independent random bytes (BLAKE2b).

    Neighbouring paths give unrelated bytes, and all of them count, where torch's CPU generator would read the low 32
    bits of a seed only.

    Example:
        >>> derive("noise", 0, 1) == derive("noise", 1, 0)
        False
    """
    words = struct.pack(f"<{len(path) + 1}q", _PURPOSES[purpose], *path)
    return hashlib.blake2b(words, digest_size=size).digest()


def derive_seed(purpose: Purpose, *path: int) -> int:
    """Like `derive`, as a whole number in [0, 2**32) that any library takes for a seed.

    Example:
        >>> 0 <= derive_seed("environment", 7, 0, 3) < 2**32
        True
    """
    return int.from_bytes(derive(purpose, *path, size=4), "little")


def check_seed(seed: object) -> int:
    """Return `seed` if it is a whole number in [0, 2**63); 0 is a seed like any other.

    Raises:
        TypeError: If it is no whole number.
        ValueError: If it is out of range.

    Example:
        >>> check_seed(0)
        0
    """
    value = check_count("seed", seed, minimum=0)
    if value >= 2**63:
        raise ValueError(f"`seed` must be below 2**63, got {value}.")
    return value
