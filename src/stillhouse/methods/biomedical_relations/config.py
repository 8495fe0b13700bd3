"""Options of biomedical relation extraction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from stillhouse.core.errors import require

ARMS = (
    "rules",
    "naive_bayes",
    "random_forest",
    "linear",
    "encoder",
    "adapted_encoder",
    "generative",
    "labels_only",
    "student",
)
"""Extractors that can be compared, in the order of the table."""


@dataclass(frozen=True)
class Config:
    """Train relation extractors, compare them, distil the best into a small one."""

    data: str = "planted"
    """planted (built in), biored, chemprot, gad, or a file or folder of documents with annotated relations."""
    documents: int = 300
    """How many abstracts of planted to make and split."""
    labelled_pairs: int = 400
    """Pairs of planted's training split that keep their labels; the others are used without them. 0 keeps all."""
    unlabelled: int = 300
    """How many more abstracts of planted to use without labels."""
    examples: int = 0
    """Learn from at most this many labelled pairs, the rest unlabelled; 0 takes all."""
    training: Literal["natural", "balanced"] = "natural"
    """natural keeps the classes' shares; balanced leaves out pairs until all classes are as rare as the rarest (the paper's balanced runs)."""
    blind: bool = True
    """Show encoders types instead of names ("@ gene @ causes # disease #"), so that they cannot learn names by heart."""
    arms: tuple[str, ...] = (
        "rules",
        "naive_bayes",
        "random_forest",
        "linear",
        "encoder",
        "labels_only",
        "student",
    )
    """Extractors to compare: rules naive_bayes random_forest linear encoder adapted_encoder generative labels_only student."""
    protocol: Literal["none", "imbalance", "curve", "all"] = "imbalance"
    """Train also on the other of natural and balanced (imbalance), on 50, 100, 250, 500, 1,000 and all pairs (curve), on both (all), or not (none)."""
    costly: bool = False
    """Let the protocol train encoders and the generative model again too, not only rules and the classical families."""
    model: str = "minilm"
    """Encoder to fine-tune as the teacher: minilm (in a package), scratch, or a transformers folder (PubMedBERT, BioBERT, ...)."""
    teacher_updates: int = 160
    """Optimizer updates of the encoder's fine-tuning."""
    teacher_batch: int = 16
    """Pairs each."""
    teacher_rate: float = 3e-4
    """Its highest learning rate; that of few updates of a small encoder, one of PubMedBERT's size wants 2e-5 and thousands."""
    adapt_updates: int = 200
    """Updates of masked language modelling on the task's texts before the adapted encoder is fine-tuned."""
    generative_model: str = "scratch"
    """T5-type model: scratch (small, random weights), or a transformers folder (SciFive, T5)."""
    generative_updates: int = 200
    """Its optimizer updates."""
    generative_rate: float = 1e-3
    """Its highest learning rate; a pre-trained one wants 1e-4."""
    max_tokens: int = 96
    """Longer sentences are cut around the pair."""
    layers: int = 2
    """Layers of the student."""
    feed_forward: int = 1024
    """Width of its feed-forward layers."""
    embedding: int = 0
    """Width of its word vectors; 0 takes the teacher's."""
    updates: int = 300
    """Updates of the student."""
    rate: float = 5e-4
    """Its highest learning rate."""
    temperature: float = 2.0
    """Softens teacher and student in the distillation loss."""
    hard_weight: float = 0.1
    """Share of the labels in the student's loss, where there are labels."""
    batch: int = 16
    """Pairs an update of the student and of the generative model."""
    threshold: float = 0.5
    """Smallest probability with which a sentence becomes evidence in the graph."""
    scratch_layers: int = 4
    """Layers of an encoder from scratch."""
    scratch_width: int = 128
    """Its width."""
    scratch_updates: int = 100
    """Its updates of masked language modelling before it is fine-tuned."""
    trees: int = 200
    """Trees of the random forest."""
    seed: int = 0
    """Seed of everything but the splits."""

    def __post_init__(self) -> None:
        unknown = sorted(set(self.arms) - set(ARMS))
        require(not unknown, f"no extractor {unknown[0] if unknown else ''!r}", f"choose from {', '.join(ARMS)}")
        require(
            "student" in self.arms and "encoder" in self.arms,
            "the arms lack student or encoder",
            "the student is what a run makes, the encoder its teacher: keep both",
        )
        require(
            self.labelled_pairs >= 0 and self.examples >= 0,
            "labelled_pairs or examples below 0",
            "give 0 for all, or more",
        )
        require(self.documents >= 20 and self.unlabelled >= 0, "documents below 20 or unlabelled below 0", "give more")
        least = min(self.teacher_updates, self.generative_updates, self.updates, self.batch, self.layers, self.trees)
        require(least >= 1, "updates, batch, layers or trees below 1", "give one or more")
        require(0 < self.threshold < 1, f"threshold is {self.threshold}", "give a probability between 0 and 1")
        require(0 <= self.hard_weight <= 1, f"hard_weight is {self.hard_weight}", "give a share, 0 to 1")
        require(self.temperature > 0, f"temperature is {self.temperature}", "give a number above 0")
        require(self.max_tokens >= 16, f"max_tokens is {self.max_tokens}", "give 16 or more")
