"""Seeds that derive from a recipe's one integer and never collide."""

from __future__ import annotations

import zlib

import numpy as np


def derive_seed(seed: int, purpose: str, *indices: int) -> int:
    """A 32-bit seed for one purpose, independent of those of other purposes and indices.

    Args:
        seed: The recipe's seed.
        purpose: What the numbers are for, such as ``mixing``.
        *indices: Process rank, epoch, sample and the like.
    """
    entropy = (seed, zlib.crc32(purpose.encode("utf-8", "surrogateescape")), *indices)
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])
