"""Options of Distiller."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from stillhouse.core.errors import require
from stillhouse.encoders.mutual_information import SMALLEST_BATCH

Intermediate = Literal[
    "none",
    "ce",
    "mse",
    "cos",
    "pkd",
    "l2",
    "mi",
    "nce",
    "nwj",
    "tuba",
    "att_mse",
    "att_mse_sum",
    "att_ce",
    "att_ce_mean",
]
Edit = Literal["swap", "delete", "insert", "replace", "synonyms", "contextual", "denoise", "back-translation"]
LEARNED_CRITIC = ("mi", "nce", "nwj", "tuba")


@dataclass(frozen=True)
class Pipeline:
    """One way to distil: what the search varies."""

    augmentation: tuple[str, ...] = ()
    """Operations on the words, in order; empty adds no texts."""
    mixup: bool = False
    intermediate: str = "none"
    alpha: float = 0.5
    mapping: str = "skip"
    prediction: str = "ce"
    hard_weight: float = 0.0
    """Share of the labels in the prediction loss; 1 is training without a teacher."""

    def words(self) -> str:
        """In a few words."""
        middle = "no intermediate loss" if self.intermediate == "none" else f"{self.objective} ({self.mapping})"
        added = " then ".join(self.augmentation) or "no augmentation"
        target = "labels only" if self.hard_weight == 1 else f"{self.prediction} on logits"
        return f"{middle}, {target}, {added}{', mixup' if self.mixup else ''}"

    @property
    def objective(self) -> str:
        """The intermediate loss, with alpha where it has one."""
        return f"mi {self.alpha:g}" if self.intermediate == "mi" else self.intermediate


@dataclass(frozen=True)
class Config:
    """Distil a fine-tuned text encoder into a small one."""

    data: str = "docstrings"
    """docstrings (built in), trec, sst2, mr, cola, rte, mrpc, sick, banking77, a .csv, .tsv, .jsonl or .parquet file, or a folder of train and test files."""
    text_column: str = ""
    """Column of a file with the texts; text, sentence, sentence1, ... by default."""
    pair_column: str = ""
    """Column with the second texts of pairs; sentence2, text2, hypothesis by default, where there is one."""
    label_column: str = ""
    """Column with the classes; label, class, category, ... by default."""
    metric: Literal["auto", "accuracy", "macro_f1", "mcc"] = "auto"
    """What is optimised and reported; auto takes the named set's own, accuracy for files."""
    examples: int = 0
    """Train on at most this many texts; 0 takes all."""
    teacher: str = "minilm"
    """minilm (pre-trained, carried by a package), scratch (a small one pre-trained here), or a transformers folder; one without a classification head is fine-tuned first."""
    teacher_updates: int = 160
    """Updates of the teacher's fine-tuning; 0 for a folder that is to be used as it is."""
    teacher_rate: float = 1e-4
    """Learning rate of that."""
    scratch_layers: int = 4
    """Layers of a teacher from scratch."""
    scratch_width: int = 128
    """Its width."""
    scratch_pieces: int = 6000
    """Pieces of its vocabulary."""
    scratch_updates: int = 600
    """Updates of its pre-training as a masked language model."""
    max_tokens: int = 64
    """Longer texts are cut; the report says how many were."""
    student: str = ""
    """Folder of a small encoder with the teacher's tokenizer to start from; by default one is made."""
    layers: int = 2
    """Layers of the student."""
    width: int = 0
    """Its width; 0 takes the teacher's."""
    heads: int = 0
    """Its attention heads; 0 takes the teacher's."""
    feed_forward: int = 0
    """Its feed-forward width; 0 takes half of the teacher's."""
    embedding: int = 128
    """Width of its word vectors (factorised where smaller than its width); 0 takes its width."""
    prune_vocabulary: bool = True
    """Keep only the word pieces that the training texts use; other words are cut into smaller pieces."""
    init: Literal["first", "spread", "random"] = "first"
    """Where the student's first weights come from: the teacher's first layers, layers spread over it, or chance."""
    intermediate: Intermediate = "mse"
    """Objective between hidden states: ce, mse, cos (tokens), pkd, l2, mi, nce, nwj, tuba (first token), att_... (attention), none."""
    alpha: float = 0.5
    """alpha of mi, 0 to 1: small is unbiased and noisy, 1 the InfoNCE-like bound."""
    mapping: Literal["skip", "last", "emd"] = "skip"
    """Which teacher layers the student's learn from."""
    intermediate_weight: float = 1.0
    """Size of the intermediate loss's gradient in units of the prediction loss's (balance gradient), or its plain weight."""
    balance: Literal["gradient", "none"] = "gradient"
    """gradient keeps any intermediate objective from swamping the prediction; none adds the losses as published."""
    prediction: Literal["ce", "kl", "mse"] = "ce"
    """Loss between logits."""
    temperature: float = 2.0
    """Temperature of ce and kl."""
    hard_weight: float = 0.2
    """Share of the labels in the prediction loss, 0 to 1."""
    augmentation: tuple[Edit, ...] = ()
    """Operations on the words, in order, e.g. --augmentation swap delete; each text is added once more in its new form."""
    augmentation_share: float = 0.2
    """Share of the words that an operation changes."""
    mixup: bool = False
    """Add as many mixed pairs of texts (in embedding space)."""
    thesaurus: str = ""
    """MyThes .dat file, needed for synonyms."""
    translator: str = ""
    """Folder of a translation model, needed for back-translation."""
    back_translator: str = ""
    """Folder of the model that translates back."""
    updates: int = 300
    """Updates of every student."""
    batch: int = 32
    """Texts an update."""
    rate: float = 5e-4
    """Learning rate of students."""
    critic_rate: float = 2e-3
    """Learning rate of the critics of mi, nce, nwj and tuba."""
    compare: Literal["all", "none"] = "all"
    """Train the same student without distillation, without the intermediate loss and without augmentation too, or not."""
    trials: int = 0
    """Pipelines to try before the best one is trained; 0 trains the pipeline of these options."""
    search: Literal["tpe", "balanced", "random"] = "tpe"
    """How they are chosen: by what went well, in a balanced design (for exact importances), or at random."""
    try_layers: tuple[int, ...] = ()
    """Depths of students to search over too, for the front of quality against size."""
    minutes: float = 0.0
    """Begin no trial after this many minutes of search; 0 for no limit."""
    workers: int = 1
    """Processes that run trials."""
    trial_updates: int = 100
    """Updates of a trial's student."""
    seed: int = 0
    """Seed of weights, batches and augmentation."""

    def __post_init__(self) -> None:
        require(0 <= self.alpha <= 1, f"alpha is {self.alpha}", "choose 0 to 1")
        require(0 <= self.hard_weight <= 1, f"hard_weight is {self.hard_weight}", "choose 0 to 1")
        require(
            0 < self.augmentation_share < 1,
            f"augmentation_share is {self.augmentation_share}",
            "choose above 0, below 1",
        )
        require(self.temperature > 0, f"temperature is {self.temperature}", "give a number above 0")
        require(
            min(self.updates, self.trial_updates, self.layers, self.workers) >= 1,
            "updates, trial_updates, layers or workers below 1",
            "give one or more",
        )
        require(self.max_tokens >= 4, f"max_tokens is {self.max_tokens}", "give 4 or more")
        require(
            not (self.intermediate in LEARNED_CRITIC or self.trials) or self.batch >= SMALLEST_BATCH,
            f"a batch of {self.batch} is too small for mi, nce, nwj and tuba, whose bounds are at most log(batch)",
            f"use --batch {SMALLEST_BATCH} or more (64 is better)",
        )
        require(
            "synonyms" not in self.augmentation or bool(self.thesaurus),
            "synonyms need a thesaurus",
            "name one with --thesaurus",
        )
        require(
            "back-translation" not in self.augmentation or bool(self.translator and self.back_translator),
            "back-translation needs two translation models",
            "name their folders with --translator and --back-translator, or use denoise",
        )

    @property
    def pipeline(self) -> Pipeline:
        """The pipeline of these options."""
        return Pipeline(
            self.augmentation,
            self.mixup,
            self.intermediate,
            self.alpha,
            self.mapping,
            self.prediction,
            self.hard_weight,
        )

    def with_pipeline(self, pipeline: Pipeline) -> Config:
        """These options with another pipeline."""
        return replace(self, **vars(pipeline))
