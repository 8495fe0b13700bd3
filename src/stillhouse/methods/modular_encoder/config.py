"""Options of ModularStarEncoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from stillhouse.core.errors import require
from stillhouse.methods.modular_encoder.losses import SCHEMES, Scheme

Compare = Literal["none", "controls", "all"]
TASKS = ("docs", "rewrites", "cosqa", "java-cs", "humaneval-x", "codesearchnet")
TRANSLATIONS = ("java-cs", "humaneval-x")


@dataclass(frozen=True)
class Config:
    """One code encoder with an exit after several of its layers."""

    data: str = "installed"
    """installed (the standard library and installed packages, each a repository), or a folder of source code."""
    functions: int = 200
    """Of installed: documented functions a package; half as many others come with them."""
    pairs: int = 0
    """At most this many documented functions to train on; 0 for all."""
    judged: int = 400
    """At most this many functions of each of the select and report splits; 0 for all."""
    translations: tuple[str, ...] = ()
    """Further code-code pairs: java-cs and humaneval-x (below $STILLHOUSE_DATA), or JSON-lines files with first, second and languages."""
    encoder: str = "scratch"
    """scratch (StarCoder-2's blocks, random weights), minilm, or a local transformers folder (BERT type or StarCoder-2)."""
    layers: int = 6
    """Of an encoder from scratch; of another one, its first so many layers (0 for all)."""
    exits: tuple[int, ...] = (1, 2, 3, 4, 6)
    """Layers after which there is an exit."""
    width: int = 192
    """Of an encoder from scratch."""
    heads: int = 6
    """Attention heads."""
    key_value_heads: int = 2
    """Heads of keys and values, shared by groups of query heads."""
    feed_forward: int = 384
    """Width between a block's two linear maps."""
    pieces: int = 6000
    """Of the tokenizer that is trained on the training functions."""
    dropout: float = 0.0
    """In the blocks."""
    dimensions: int = 192
    """Of the embeddings."""
    matryoshka: tuple[int, ...] = ()
    """Prefixes of the embeddings that are trained to work alone, e.g. 64 32."""
    text_instruction: str = "[TEXT]"
    """Put before a description; {language} is filled in."""
    code_instruction: str = "[CODE]"
    """Put before code; {language} is filled in."""
    max_text_tokens: int = 24
    """Longer descriptions are cut."""
    max_code_tokens: int = 48
    """Longer code is cut."""
    window_tokens: int = 96
    """Of the two snippets that pre-training reads together."""
    weights: Scheme = "depth"
    """Of the exits' losses: depth (i / N, published), uniform, log, last-only."""
    pretraining_updates: int = 30
    """Updates with the masked-token and the contextual loss; 0 for an encoder that is pre-trained already."""
    contextual: float = 1.0
    """Weight of the contextual loss (same repository or not); 0 leaves it out."""
    pretraining_batch: int = 32
    """Windows an update."""
    pretraining_rate: float = 2e-4
    """AdamW's learning rate of the layers in pre-training."""
    updates: int = 140
    """Updates with the contrastive loss."""
    batch: int = 64
    """Pairs an update."""
    rate: float = 2e-4
    """AdamW's learning rate of the layers in fine-tuning."""
    outer: float = 10.0
    """Word vectors and heads learn so many times as fast as the layers. Published: 1."""
    weight_decay: float = 0.01
    """AdamW's; not on biases and norms."""
    scale: float = 20.0
    """Of the similarities at the start; learned, one an exit, at most 100. Published: 10."""
    code_share: float = 0.25
    """Share of the updates that take code-code pairs; the others take text-code pairs. Published: 0.5."""
    renamed: float = 0.3
    """Share of the codes whose frequent names are replaced at random."""
    self_distillation: float = 0.0
    """Weight of the KL from the deepest exit's similarities (an extension)."""
    temperature: float = 1.0
    """Of the self-distillation."""
    tasks: tuple[str, ...] = ("docs", "rewrites")
    """What is judged: docs, rewrites, and with $STILLHOUSE_DATA cosqa, java-cs, humaneval-x, codesearchnet."""
    keep: float = 0.97
    """The recommended exit is the shallowest that reaches this share of the best on the select split."""
    compare: Compare = "controls"
    """none; controls (BM25, MiniLM, the untrained encoder, chance); all (and single-exit models and last-only training)."""
    seed: int = 0
    """Of everything random."""

    def __post_init__(self) -> None:
        for name, known in (("tasks", TASKS), ("weights", SCHEMES), ("compare", get_args(Compare))):
            value = getattr(self, name)
            for one in (value,) if isinstance(value, str) else value:
                require(one in known, f"no {name} {one!r}", f"choose from {', '.join(known)}")
        require(bool(self.tasks), "nothing is judged", "give --tasks docs")
        both = set(self.tasks) & set(self.translations) & {"humaneval-x"}
        require(not both, "humaneval-x would be trained on and judged", "take it out of --translations or of --tasks")
        require(
            all(d < self.dimensions for d in self.matryoshka),
            f"a prefix of {max(self.matryoshka, default=0)} is not shorter than {self.dimensions} dimensions",
            "give smaller --matryoshka",
        )
        for name in ("renamed", "code_share", "keep"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"{name} is {value}", "give a share between 0 and 1")
        for name in ("updates", "batch", "scale", "rate", "max_text_tokens", "max_code_tokens", "dimensions"):
            value = getattr(self, name)
            require(value > 0, f"{name} is {value}", "give a number above 0")
        require(self.batch > 1, "a batch of one pair has no negatives", "give --batch 2 or more")
