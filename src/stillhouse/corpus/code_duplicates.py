"""Near-duplicates of code by MinHash: texts whose sets of character 5-grams overlap.

For tens of thousands of functions, so signatures are one table of numbers and no set of shingles is kept; `near_duplicates` compares
word runs of sentences exactly.

    J(A, B) = |A n B| / |A u B| = P(min h(A) = min h(B))

over random hash functions h, so the share of equal minima estimates J. Signatures of 256 minima are cut into bands; texts
that agree on a whole band are compared (Broder 1997; settings of SynthCoNL in arXiv 2503.03008: J >= 0.7).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SHINGLE, HASHES, BANDS = 5, 256, 32
"""Characters a shingle, hash functions, and bands of 8: a pair at J = 0.7 shares a band with probability 0.85, at 0.8 with 0.997."""
_PRIME = np.uint64(1_099_511_628_211)


def shingles(text: str) -> np.ndarray:
    """Hashes of the distinct character 5-grams of a text, blanks counted once; of a shorter text, the text's own."""
    data = np.frombuffer(" ".join(text.split()).encode().ljust(SHINGLE, b" "), np.uint8).astype(np.uint64)
    rolled = np.zeros(len(data) - SHINGLE + 1, np.uint64)
    for place in range(SHINGLE):
        rolled = rolled * _PRIME + data[place : place + len(rolled)]
    return np.unique(rolled)


def signature(grams: np.ndarray, seed: int = 0) -> np.ndarray:
    """[256] uint32 least values of random hash functions (a x + b) / 2^32 mod 2^32."""
    random = np.random.default_rng(seed)
    factors = random.integers(1, 2**63, HASHES, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    offsets = random.integers(0, 2**63, HASHES, dtype=np.uint64)
    least = np.full(HASHES, np.uint64(2**64 - 1))
    for start in range(0, len(grams), 1024):  # a chunk at a time keeps the table in the processor's cache
        least = np.minimum(least, (grams[start : start + 1024, None] * factors + offsets).min(0))
    return (least >> np.uint64(32)).astype(np.uint32)


def similarity(one: np.ndarray, other: np.ndarray) -> float:
    """Estimated Jaccard similarity of two signatures."""
    return float((one == other).mean())


def near_duplicates(texts: Sequence[str], threshold: float = 0.7) -> np.ndarray:
    """[texts] index of the first text that each is a near-duplicate of; its own where it is the first."""
    signatures = [signature(shingles(text)) for text in texts]
    first = np.arange(len(texts))
    buckets: dict[tuple[int, bytes], list[int]] = {}
    for i, mine in enumerate(signatures):
        keys = [(band, part.tobytes()) for band, part in enumerate(mine.reshape(BANDS, -1))]
        for candidate in sorted({j for key in keys for j in buckets.get(key, ())}):
            if similarity(mine, signatures[candidate]) >= threshold:
                first[i] = candidate
                break
        else:
            for key in keys:
                buckets.setdefault(key, []).append(i)
    return first
