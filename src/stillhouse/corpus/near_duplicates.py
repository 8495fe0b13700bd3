"""Near-duplicate texts by MinHash signatures and locality-sensitive hashing (Broder 1997), the candidates checked exactly."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from datasketch import MinHash, MinHashLSH

from stillhouse.corpus.rouge import words

PERMUTATIONS = 64


def shingles(text: str, length: int = 3) -> frozenset[str]:
    """Runs of `length` words; all words of a shorter text."""
    found = words(text)
    return frozenset(" ".join(found[i : i + length]) for i in range(max(1, len(found) - length + 1)))


def jaccard(x: frozenset[str], y: frozenset[str]) -> float:
    """|x and y| / |x or y|; 1 for two empty sets."""
    return len(x & y) / len(x | y) if x or y else 1.0


def first_of_near_duplicates(texts: Iterable[Sequence[str]], threshold: float = 0.9) -> list[int]:
    """Places of the texts (each one or several parts) that are not near an earlier kept one.

    Args:
        texts: each as its parts, e.g. a pair of sentences; all parts' shingles together are compared.
        threshold: Jaccard index from which two are near duplicates.
    """
    index = MinHashLSH(threshold=max(0.05, threshold - 0.1), num_perm=PERMUTATIONS)  # a little wide: checked below
    kept: dict[int, frozenset[str]] = {}
    for place, parts in enumerate(texts):
        # the part's number: (a, b) and (b, a) are different examples
        here = frozenset(f"{number} {run}" for number, part in enumerate(parts) for run in shingles(part))
        signature = MinHash(num_perm=PERMUTATIONS, seed=1)
        signature.update_batch([run.encode() for run in sorted(here)])
        if any(jaccard(here, kept[other]) >= threshold for other in index.query(signature)):
            continue
        index.insert(place, signature, check_duplication=False)
        kept[place] = here
    return list(kept)
