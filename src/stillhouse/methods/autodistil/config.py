"""Options of AutoDistil."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from stillhouse.core.errors import require
from stillhouse.methods.autodistil.front import Bounds
from stillhouse.methods.autodistil.spaces import SubSpace, parse_space

BASE = "base layers=3,4,5 heads=4,6,12 hidden=192,216,240,264 ratio=2,2.5,3"
SMALL = "small layers=3,4 heads=4,6,12 hidden=120,144,168,192 ratio=2,2.5,3"
TINY = "tiny layers=2,3 heads=4,6,12 hidden=72,96,120 ratio=2,2.5,3"
"""The published sub-spaces for a teacher of 6 layers of 384; heads divide the most of them, and hidden sizes are multiples of it."""
TARGET = 2.7
"""How many times fewer multiply-adds than the teacher's the student is picked for, where no bound is given: the abstract's figure."""


@dataclass(frozen=True)
class Config:
    """One distillation of a text encoder into students for every budget."""

    data: str = "docstrings"
    """Texts without labels: a folder of .txt files, a .txt file, or a name (docstrings, medquad, trec, sst2, ...); several joined with +."""
    texts: int = 1500
    """At most this many to learn from; 0 takes all."""
    held_texts: int = 96
    """At most this many to choose on, and as many to report on."""
    max_tokens: int = 32
    """Longer texts are cut."""
    teacher: str = "minilm"
    """minilm (carried by a package), or a transformers folder of a BERT, RoBERTa, ELECTRA or MPNet type encoder."""
    teacher_layer: int = -1
    """The teacher's layer whose relations are learned, counted from the end: -1 is the last; an upper middle one for large teachers."""
    spaces: tuple[str, ...] = (BASE, SMALL, TINY)
    """Sub-spaces, each with a super-network of its own: "name layers=.. heads=.. hidden=.. ratio=..", feed-forward being ratio times hidden."""
    init: Literal["teacher", "random"] = "teacher"
    """Super-networks begin as slices of the teacher, or by chance."""
    train_words: bool = False
    """Train word vectors too; without, they stay the teacher's, steps take half the time and words of other texts keep their meaning."""
    relation_heads: int = 0
    """Parts that queries, keys and values are split into to be compared; 0 takes the most, up to the teacher's heads, that fit all sizes."""
    loss: Literal["kl", "mse-released"] = "kl"
    """KL between relations (paper), or the released code's square difference of raw scores."""
    random_samples: int = 2
    """Architectures a step beside the largest and the smallest."""
    updates: int = 120
    """Of each super-network."""
    batch: int = 16
    """Texts an update."""
    rate: float = 3e-3
    """Peak learning rate."""
    evaluations: int = 600
    """Spaces with more architectures are searched by evolution with this many scored; others are scored whole."""
    max_flops: int = 0
    """Bound on the student's multiply-adds for 128 tokens; without any bound, the teacher's over 2.7."""
    max_parameters: int = 0
    """Bound on its parameters."""
    max_bytes: int = 0
    """Bound on the bytes of its weights in 32-bit floats."""
    max_latency_ms: float = 0.0
    """Bound on its measured milliseconds for one text of max_tokens on this machine."""
    task: str = ""
    """A labelled task (file, folder or name, as for distiller) to fine-tune teacher, student and baselines on; none by default."""
    task_updates: int = 200
    """Of each fine-tuning."""
    task_rate: float = 1e-3
    """Its learning rate (the teacher's is 1e-4)."""
    compare: Literal["all", "none"] = "all"
    """Distil the same architecture alone and hand-designed students of its cost too, or not."""
    seed: int = 0
    """Seed of batches, samples and searches."""

    def __post_init__(self) -> None:
        require(len(self.parsed()) > 0, "no sub-space", "give --spaces one or more")
        names = [space.name for space in self.parsed()]
        require(len(set(names)) == len(names), f"two sub-spaces are called {names[0]!r}", "give each a name of its own")
        for name in ("batch", "updates", "max_tokens", "held_texts", "evaluations"):
            require(getattr(self, name) > 0, f"{name} is {getattr(self, name)}", "give 1 or more")
        require(self.random_samples >= 0, f"random_samples is {self.random_samples}", "give 0 or more")
        require(self.teacher_layer < 0, f"teacher_layer is {self.teacher_layer}", "count from the end: -1 is the last")

    def parsed(self) -> list[SubSpace]:
        """The sub-spaces.

        Raises:
            UserError: one is malformed, or a hidden size is not divisible by its heads.
        """
        return [parse_space(text) for text in self.spaces]

    def bounds(self, teacher_multiply_adds: int) -> Bounds:
        """What the student may cost."""
        given = Bounds(self.max_flops, self.max_parameters, self.max_bytes, self.max_latency_ms / 1e3)
        return given if given != Bounds() else Bounds(int(teacher_multiply_adds / TARGET))
