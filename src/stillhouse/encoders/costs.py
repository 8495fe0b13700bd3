"""What a BERT encoder costs, from its shape: parameters and multiply-adds as they are, and as AutoDistil's formula has them."""

from __future__ import annotations

from dataclasses import dataclass

PUBLISHED_TOKENS = 128
"""Sequence length that published multiply-adds are for."""


@dataclass(frozen=True)
class Architecture:
    """An encoder's shape in whole numbers; a head is `hidden / heads` wide, as in every BERT that transformers opens."""

    layers: int
    heads: int
    hidden: int
    feed_forward: int

    @property
    def head_width(self) -> int:
        """Columns of a head."""
        return self.hidden // self.heads

    def __str__(self) -> str:
        return f"L{self.layers}-A{self.heads}-H{self.hidden}-F{self.feed_forward}"


@dataclass(frozen=True)
class Tables:
    """Rows of the embedding tables, which all students of a teacher share."""

    words: int
    positions: int
    types: int


def parameters(shape: Architecture, tables: Tables) -> int:
    """Parameters of the `BertModel` of this shape, its pooler included."""
    h, f = shape.hidden, shape.feed_forward
    embeddings = h * (tables.words + tables.positions + tables.types) + 2 * h
    attention = 4 * (h * h + h) + 2 * h
    feed_forward = h * f + f + f * h + h + 2 * h
    return embeddings + shape.layers * (attention + feed_forward) + h * h + h


def multiply_adds(shape: Architecture, tokens: int = PUBLISHED_TOKENS) -> int:
    """Multiply-adds of one text, from the shapes of the modules: projections, attention, feed-forward, pooler."""
    n, h, f = tokens, shape.hidden, shape.feed_forward
    layer = 4 * n * h * h + 2 * n * n * h + 2 * n * h * f
    return shape.layers * layer + h * h


@dataclass(frozen=True)
class Published:
    """AutoDistil's released formulas; they take a head to be hidden / full_heads wide, whatever the network does."""

    full_heads: int = 12
    words: int = 30522

    def parameters(self, layers: int, heads: int, hidden: int, ratio: float) -> float:
        """H (V + 516) + L (H^2 + 3 H^2 A / 12 + 6 H) + L (2 R H^2 + R H + 3 H) + H^2 + 2 H."""
        h = hidden
        attention = h * h + 3 * h * h * heads / self.full_heads + 6 * h
        feed_forward = 2 * ratio * h * h + ratio * h + 3 * h
        return h * (self.words + 516) + layers * (attention + feed_forward) + h * h + 2 * h

    def multiply_adds(
        self, layers: int, heads: int, hidden: int, ratio: float, tokens: int = PUBLISHED_TOKENS
    ) -> float:
        """L (3 n H^2 A / 12 + 2 n^2 H A / 12 + n H^2 + 2 n R H^2) + n H^2 + 2 H."""
        n, h, share = tokens, hidden, heads / self.full_heads
        layer = 3 * n * h * h * share + 2 * n * n * h * share + n * h * h + 2 * n * ratio * h * h
        return layers * layer + n * h * h + 2 * h

    def of(self, shape: Architecture) -> tuple[float, float]:
        """Parameters and multiply-adds of an architecture."""
        given = (shape.layers, shape.heads, shape.hidden, shape.feed_forward / shape.hidden)
        return self.parameters(*given), self.multiply_adds(*given)
