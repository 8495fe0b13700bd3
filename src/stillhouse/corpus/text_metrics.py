"""What a set of sentences or pairs is like: variety of words, compression, and paraphrase scores against references.

    iBLEU(y; refs, x) = a BLEU(y, refs) - (1 - a) BLEU(y, x)                                   a = 0.8  (Sun and Zhou 2012)
    BERT-iBLEU(x, y)  = ((b / BERTScore(x, y) + 1 / (1 - BLEU(y, x))) / (b + 1))^-1           b = 4    (Niu et al. 2021)

BLEU is sacrebleu's, of sentences, on lower-case text, between 0 and 1.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cache

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from sacrebleu.metrics.bleu import BLEU

from stillhouse.corpus.rouge import words


@cache
def _bleu() -> BLEU:
    return BLEU(lowercase=True, effective_order=True)


def bleu(hypothesis: str, references: Sequence[str]) -> float:
    """Sentence BLEU, 0 to 1."""
    return float(_bleu().sentence_score(hypothesis, list(references)).score) / 100


def ibleu(hypothesis: str, references: Sequence[str], source: str, alpha: float = 0.8) -> float:
    """alpha BLEU with the references less (1 - alpha) BLEU with the input."""
    return alpha * bleu(hypothesis, references) - (1 - alpha) * bleu(hypothesis, [source])


def bert_ibleu(similarity: float, self_bleu: float, beta: float = 4.0) -> float:
    """Weighted harmonic mean of the likeness in meaning and the unlikeness in words; 0 for a copy."""
    if similarity <= 0 or self_bleu >= 1 - 1e-9:
        return 0.0
    return (beta + 1) / (beta / similarity + 1 / (1 - self_bleu))


def greedy_match(x: Float[ndarray, "n width"], y: Float[ndarray, "m width"]) -> float:
    """BERTScore's F1 (Zhang et al. 2020): every token with the token of the other side that is most like it.

    Args:
        x, y: contextual token vectors of length 1.
    """
    if not len(x) or not len(y):
        return 0.0
    cosine = x @ y.T
    precision, recall = float(cosine.max(0).mean()), float(cosine.max(1).mean())
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0


def mean_segmental_ttr(texts: Iterable[str], segment: int = 50) -> float:
    """MSTTR: mean share of different words in segments of `segment` running words; 0 where there is no whole segment."""
    running = [word for text in texts for word in words(text)]
    parts = [running[i : i + segment] for i in range(0, len(running) - segment + 1, segment)]
    return sum(len(set(part)) for part in parts) / (segment * len(parts)) if parts else 0.0


def ngram_entropy(texts: Iterable[str], n: int) -> float:
    """H_n: entropy in bits of the n-grams' distribution."""
    counts: Counter[tuple[str, ...]] = Counter()
    for text in texts:
        found = words(text)
        counts.update(tuple(found[i : i + n]) for i in range(len(found) - n + 1))
    total = counts.total()
    return -sum(c / total * math.log2(c / total) for c in counts.values()) if total else 0.0


def compression(x: str, y: str) -> float:
    """|y| / |x| in characters."""
    return len(y) / max(1, len(x))


def mean_of(function: Callable[..., float], *columns: Sequence[object]) -> float:
    """Mean of a function over rows."""
    values = [function(*row) for row in zip(*columns, strict=True)]
    return float(np.mean(values)) if values else math.nan
