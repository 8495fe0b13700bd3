"""Near-duplicate texts by MinHash signatures and locality-sensitive hashing (Broder 1997).

    J(A, B) = |A n B| / |A u B| = P(min h(A) = min h(B))

over random hash functions h, so the share of equal minima estimates J. Signatures of 256 minima are cut into bands; texts that
agree on a whole band of r minima, which happens with probability 1 - (1 - J^r)^(256 / r), are compared.

Two kinds of texts are compared, each as fits it. Sentences (`first_of_near_duplicates`) are sets of word runs that are kept, so
candidates are compared exactly. Functions of source code (`near_duplicates`; J >= 0.7 as SynthCoNL in arXiv 2503.03008) are sets of
character 5-grams, tens of thousands at a time, of which only the signatures are kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from functools import cache

import numpy as np

from stillhouse.corpus.rouge import words

HASHES = 256
CHARACTERS = 5
"""Of a shingle of code."""
FOUND, FOUND_EXACTLY = 0.84, 0.99
"""Least probability with which two texts whose similarity is the threshold share a band: where signatures alone decide, which are
no more certain than that, and where candidates are compared exactly."""
_PRIME = np.uint64(1_099_511_628_211)


def shingles(text: str, length: int = 3) -> frozenset[str]:
    """Runs of `length` words; all words of a shorter text."""
    found = words(text)
    return frozenset(" ".join(found[i : i + length]) for i in range(max(1, len(found) - length + 1)))


def character_shingles(text: str) -> np.ndarray:
    """Hashes of the distinct character 5-grams of a text, blanks counted once; of a shorter text, the text's own."""
    data = np.frombuffer(" ".join(text.split()).encode().ljust(CHARACTERS, b" "), np.uint8).astype(np.uint64)
    rolled = np.zeros(len(data) - CHARACTERS + 1, np.uint64)
    for place in range(CHARACTERS):
        rolled = rolled * _PRIME + data[place : place + len(rolled)]
    return np.unique(rolled)


def jaccard(x: frozenset[str], y: frozenset[str]) -> float:
    """|x and y| / |x or y|; 1 for two empty sets."""
    return len(x & y) / len(x | y) if x or y else 1.0


def signature(grams: np.ndarray) -> np.ndarray:
    """[256] uint32 least values of random hash functions (a x + b) / 2^32 mod 2^32."""
    factors, offsets = _hash_functions()
    least = np.full(HASHES, np.uint64(2**64 - 1))
    for start in range(0, len(grams), 1024):  # a chunk at a time keeps the table in the processor's cache
        least = np.minimum(least, (grams[start : start + 1024, None] * factors + offsets).min(0))
    return (least >> np.uint64(32)).astype(np.uint32)


@cache
def _hash_functions() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    factors = random.integers(1, 2**63, HASHES, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    return factors, random.integers(0, 2**63, HASHES, dtype=np.uint64)


def similarity(one: np.ndarray, other: np.ndarray) -> float:
    """Estimated Jaccard similarity of two signatures."""
    return float((one == other).mean())


def rows_a_band(threshold: float, found: float) -> int:
    """The most minima a band that still find a pair at the threshold with probability `found`: fewest comparisons."""
    fitting = (r for r in (128, 64, 32, 16, 8, 4, 2) if 1 - (1 - threshold**r) ** (HASHES // r) >= found)
    return next(fitting, 1)


def first_like(signatures: Iterable[np.ndarray], rows: int, alike: Callable[[int, int], bool]) -> np.ndarray:
    """[texts] index of the first text that each is like; its own where it is like none before it.

    Args:
        signatures: of the texts, in order; taken one at a time, each before it is compared.
        rows: minima a band.
        alike: whether text i and an earlier one, which share a band, are.
    """
    buckets: dict[tuple[int, bytes], list[int]] = {}
    first: list[int] = []
    for i, mine in enumerate(signatures):
        keys = [(band, part.tobytes()) for band, part in enumerate(mine.reshape(-1, rows))]
        candidates = sorted({j for key in keys for j in buckets.get(key, ())})
        first.append(next((j for j in candidates if alike(i, j)), i))
        if first[i] == i:
            for key in keys:
                buckets.setdefault(key, []).append(i)
    return np.array(first, dtype=int)


def near_duplicates(texts: Sequence[str], threshold: float = 0.7) -> np.ndarray:
    """[texts] index of the first text that each is a near-duplicate of, by character 5-grams; its own where it is the first."""
    signatures = [signature(character_shingles(text)) for text in texts]
    rows = rows_a_band(threshold, FOUND)
    return first_like(signatures, rows, lambda i, j: similarity(signatures[i], signatures[j]) >= threshold)


def first_of_near_duplicates(texts: Iterable[Sequence[str]], threshold: float = 0.9) -> list[int]:
    """Places of the texts (each one or several parts) that are not near an earlier kept one, by runs of three words.

    Args:
        texts: each as its parts, e.g. a pair of sentences; all parts' shingles together are compared.
        threshold: Jaccard index from which two are near duplicates.
    """
    # the part's number: (a, b) and (b, a) are different examples
    sets = [frozenset(f"{n} {run}" for n, part in enumerate(parts) for run in shingles(part)) for parts in texts]
    signatures = (signature(_hashed(found)) for found in sets)
    rows = rows_a_band(threshold, FOUND_EXACTLY)
    first = first_like(signatures, rows, lambda i, j: jaccard(sets[i], sets[j]) >= threshold)
    return [i for i, one in enumerate(first) if i == one]


def _hashed(runs: frozenset[str]) -> np.ndarray:
    """[runs] 64-bit hashes that are the same in every process."""
    digests = b"".join(hashlib.blake2b(run.encode(), digest_size=8).digest() for run in runs)
    return np.frombuffer(digests, np.uint64)
