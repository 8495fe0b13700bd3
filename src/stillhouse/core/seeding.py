"""Random numbers that are a function of where we are, not of how we got there.

Every update seeds the generators from (run seed, stage, update). So a resumed run draws what an uninterrupted one
draws, an evaluation in between changes nothing, and N processes that draw the whole batch and keep their part see
the same numbers as one process.
"""

from __future__ import annotations

import hashlib
import random

import numpy as np
import torch


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed from the parts; different parts give unrelated seeds."""
    digest = hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def seed_everything(*parts: int | str) -> None:
    """Seed Python's, numpy's and torch's global generators (CUDA included) from the parts."""
    seed = derive_seed(*parts)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 (libraries that draw from the global state must repeat too)
    torch.manual_seed(seed)


def generator(*parts: int | str) -> torch.Generator:
    """A CPU generator of its own, seeded from the parts."""
    return torch.Generator().manual_seed(derive_seed(*parts))
