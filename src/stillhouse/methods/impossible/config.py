"""Options of Impossible Distillation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from stillhouse.core.errors import require

Task = Literal["paraphrase", "summary"]
CriticName = Literal["length", "numbers", "rouge", "entailment", "tree", "diversity", "near-duplicates"]
CRITICS: tuple[CriticName, ...] = get_args(CriticName)
CodeName = Literal["length", "syntax"]


@dataclass(frozen=True)
class Size:
    """Of a transformer that is made here."""

    layers: int
    width: int
    heads: int


@dataclass(frozen=True)
class Config:
    """A data set and a small model for paraphrases or summaries, from a language model that can do neither."""

    task: Task = "paraphrase"
    """paraphrase (the same in other words) or summary (what follows from it, shorter)."""
    data: str = "everyday"
    """What a teacher is pre-trained on and what all is judged on: everyday (a built-in grammar of everyday events), medquad, wikitext2, or a .txt file (a document a paragraph)."""
    teacher: str = "train"
    """train (a small GPT-2 is pre-trained on the data, cached), or a transformers folder with a causal language model."""
    student: str = "train"
    """train (a small T5 is pre-trained on the data by denoising, cached), or a transformers folder with an encoder-decoder."""
    critic: str = "auto"
    """Who judges entailment: everyday (decomposable attention trained on labelled pairs of the grammar), sick (MiniLM trained on SICK), embedding (cosine of MiniLM), a folder of an NLI classifier; auto is everyday for that data, else sick."""
    prefixes: tuple[str, ...] = ("",)
    """What contexts begin with, in turn; an empty one is the start of a text."""
    contexts: int = 240
    """Contexts sampled from the teacher."""
    context_sentences: tuple[int, int] = (2, 4)
    """Fewest and most sentences of a context."""
    context_temperature: float = 1.0
    """Of the sampling of contexts."""
    context_tokens: int = 56
    """Most new tokens of a context."""
    continuations: int = 16
    """Continuations sampled for each context."""
    temperature: float = 0.7
    """Of continuations, and of the student's outputs in self-distillation."""
    top_p: float = 0.9
    """Nucleus of all sampling."""
    sentence_tokens: int = 26
    """Most new tokens of a sentence."""
    no_repeat_ngram: int = 0
    """No run of so many tokens twice in what is generated; 0 allows all (the released code has 3)."""
    critics: tuple[CriticName, ...] = CRITICS
    """Which critics are applied; they come in this order, the cheap ones first."""
    entailment: float = 0.75
    """Least probability of entailment: both ways for a paraphrase, input to output for a summary."""
    most_rouge: float = 0.75
    """Paraphrases: highest ROUGE-L between input and output."""
    least_tree_distance: int = 4
    """Paraphrases: fewest edits between the dependency trees (the paper: 12, on constituency trees of longer sentences)."""
    paraphrase_length: tuple[float, float] = (0.5, 2.0)
    """Paraphrases: characters of the output over those of the input (the released code: 0.8 to 1.5)."""
    summary_length: float = 0.8
    """Summaries: characters of the output must be below this share of the input's."""
    near_duplicate: float = 0.9
    """Pairs whose words' runs of three are alike beyond this Jaccard index are one pair."""
    self_inputs: int = 900
    """Sentences of the teacher that the student rewrites in self-distillation."""
    self_outputs: int = 6
    """Outputs sampled for each."""
    control: tuple[CodeName, ...] = ("length", "syntax")
    """Control codes that the student is trained with."""
    updates: int = 300
    """Optimizer updates of the student on D_T."""
    self_updates: int = 300
    """Further updates on D_self; the student without self-distillation has as many more on D_T."""
    batch: int = 32
    """Pairs an update."""
    learning_rate: float = 2e-3
    """Highest rate of AdamW."""
    stories: int = 6000
    """Documents of the teacher's text at most; 0 takes all."""
    pieces: int = 1000
    """Of the byte-pair vocabulary that is made from the text."""
    teacher_layers: int = 2
    """Of the teacher that is made here."""
    teacher_width: int = 96
    """Of the teacher that is made here."""
    teacher_updates: int = 400
    """Of its pre-training."""
    student_layers: int = 2
    """Of each half of the student that is made here."""
    student_width: int = 96
    """Of the student that is made here."""
    heads: int = 4
    """Attention heads of both."""
    student_updates: int = 300
    """Of its pre-training by denoising."""
    critic_width: int = 64
    """Of the decomposable attention."""
    critic_updates: int = 700
    """Of the critic's training."""
    judged: int = 120
    """Held-out inputs that every arm is judged on."""
    proximity: bool = True
    """Measure how the share of entailed pairs goes with the context's length and the temperature."""
    shard: int = 60
    """Contexts (or inputs) of one piece of work; a killed run loses one at most."""
    generation_batch: int = 256
    """Sequences generated at a time."""
    seed: int = 0
    """Of what is sampled, the student and its batches; the data's splits are the same for all seeds."""

    def __post_init__(self) -> None:
        _check_counts(self)
        require(self.task in get_args(Task), f"task is {self.task!r}", "give paraphrase or summary")
        require(0 < self.top_p <= 1, f"top_p is {self.top_p}", "give a share above 0, at most 1")
        require(min(self.temperature, self.context_temperature) > 0, "a temperature is not above 0", "give 0.5 to 1")
        require(0 < self.entailment < 1, f"entailment is {self.entailment}", "give a probability between 0 and 1")
        require(0 < self.most_rouge <= 1, f"most_rouge is {self.most_rouge}", "give a share above 0, at most 1")
        require(
            0 < self.near_duplicate <= 1, f"near_duplicate is {self.near_duplicate}", "give a share above 0, at most 1"
        )
        low, high = self.paraphrase_length
        require(0 < low < high, f"paraphrase_length is {low} {high}", "give two shares, the smaller first")
        require(0 < self.summary_length <= 1, f"summary_length is {self.summary_length}", "give a share, at most 1")
        fewest, most = self.context_sentences
        require(
            1 <= fewest <= most,
            f"context_sentences is {fewest} {most}",
            "give two counts of 1 or more, the smaller first",
        )
        require(
            self.continuations >= 2, f"continuations is {self.continuations}", "give 2 or more: pairs are made of them"
        )
        require(len(self.prefixes) > 0, "no prefixes", "give one or more, '' for the start of a text")
        for size in (self.teacher_size, self.student_size):
            require(
                size.width % size.heads == 0,
                f"width {size.width} is not a multiple of {size.heads} heads",
                "change one",
            )

    @property
    def teacher_size(self) -> Size:
        """Of the teacher that is made here."""
        return Size(self.teacher_layers, self.teacher_width, self.heads)

    @property
    def student_size(self) -> Size:
        """Of the student that is made here."""
        return Size(self.student_layers, self.student_width, self.heads)

    @property
    def both_ways(self) -> bool:
        """Whether a pair must hold in both directions."""
        return self.task == "paraphrase"

    def has(self, critic: CriticName) -> bool:
        """Whether this critic is applied (the summary task has no use for dissimilarity)."""
        return critic in self.critics and (self.both_ways or critic not in ("rouge", "tree"))


COUNTS = (
    "contexts",
    "context_tokens",
    "sentence_tokens",
    "self_inputs",
    "self_outputs",
    "updates",
    "self_updates",
    "batch",
    "teacher_updates",
    "student_updates",
    "teacher_layers",
    "teacher_width",
    "student_layers",
    "student_width",
    "heads",
    "critic_updates",
    "critic_width",
    "judged",
    "shard",
    "generation_batch",
)


def _check_counts(config: Config) -> None:
    for name in COUNTS:
        require(getattr(config, name) >= 1, f"{name} is {getattr(config, name)}", "give one or more")
    require(config.pieces >= 300, f"pieces is {config.pieces}", "give 300 or more: every byte is one")
    require(config.stories >= 0, f"stories is {config.stories}", "give 0 for all, or a count")
