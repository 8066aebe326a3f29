"""Seeds by hashing: each random stream of a run is named by its purpose; none is `seed + i`."""

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

    Neighbouring paths give unrelated bytes. All bits of the result count, whereas torch's CPU generator uses only the
    low 32 bits of a seed.

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
        TypeError: If it is not a whole number.
        ValueError: If it is out of range.

    Example:
        >>> check_seed(0)
        0
    """
    value = check_count("seed", seed, minimum=0)
    if value >= 2**63:
        raise ValueError(f"`seed` must be below 2**63, got {value}.")
    return value
