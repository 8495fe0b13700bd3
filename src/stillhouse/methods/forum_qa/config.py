"""Options of forum question answering."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from stillhouse.core.errors import require
from stillhouse.corpus.selection import Rule


@dataclass(frozen=True)
class Config:
    """Build a QA data set from a forum, fine-tune a reader on it, and distil the reader into a small one."""

    data: str = "forum"
    """forum (made up, with known truth), a SQuAD .json file (one that `stillhouse forum_qa import` wrote, or your own), covidqa, xquad, or a folder with train.json and report.json."""
    users: int = 200
    """Users of the made-up forum."""
    forum_seed: int = 0
    """Seed of the made-up forum and of the split."""
    split: Literal["user", "random"] = "user"
    """Keep a user's passages together, or deal them out at random (which leaks; to measure by how much)."""
    questions: int = 0
    """Train on at most this many questions; 0 takes all."""
    passage_characters: int = 0
    """Cut longer passages to the part of about this length that holds the answer; 0 reads them whole. 900 for covidqa if 0."""
    unanswerable: float = 0.5
    """For public sets that have none: as many unanswerable questions to an answerable one, asked of another passage of the same document."""
    min_posts: int = 4
    """Users with fewer usable posts are left out."""
    min_months: int = 2
    """Users active in fewer months are left out."""
    top_share: float = 0.01
    """This share of the most active users is left out."""
    cap: int = 8
    """Most passages a user."""
    deidentifier: Literal["presidio", "rules"] = "presidio"
    """presidio adds presidio-analyzer with a local spaCy model to our own rules."""
    search_words: int = 6
    """No run of this many words of a released passage is in the source."""
    k: int = 5
    """Users that share every combination of age, start and activity in the released table."""
    reader: str = "minilm-3"
    """The teacher: minilm (6 layers, carried by a package), minilm-N (its first N layers), or a BERT, DistilBERT, RoBERTa or ELECTRA type folder; fine-tuned unless it is a reader already."""
    readers: tuple[str, ...] = ()
    """Further readers to fine-tune and compare, named likewise."""
    teacher_updates: int = 800
    """Updates of the fine-tuning of teacher and further readers."""
    teacher_rate: float = 5e-4
    """Learning rate of that."""
    train_words: bool = False
    """Fine-tune the word vectors too; a few hundred updates would move only the words they meet."""
    max_tokens: int = 144
    """Tokens of a window; longer passages are read in several."""
    stride: int = 40
    """Tokens that neighbouring windows share; longer answers may be whole in none."""
    max_answer_tokens: int = 30
    """No longer span is given as an answer."""
    windows_without: float = 0.5
    """Train on at most so many windows without an answer to one with."""
    unlabelled: float = 2.0
    """Train students on so many further questions to a train question that only the teacher answers: train questions asked of other train passages. 0 for none."""
    student: str = ""
    """Folder of a small encoder with the teacher's tokenizer to start from; by default one is made."""
    layers: int = 2
    """Layers of the student."""
    feed_forward: int = 0
    """Its feed-forward width; 0 takes a quarter of the teacher's."""
    init: Literal["first", "spread", "random"] = "spread"
    """Where its first weights come from: layers spread over the teacher, its first layers, or chance. Feed-forward parts that are cut are refitted."""
    prune_vocabulary: bool = True
    """Keep only the word pieces that the passages use; other words are cut into smaller pieces."""
    updates: int = 1000
    """Updates of every student."""
    batch: int = 8
    """Windows an update."""
    rate: float = 5e-4
    """Learning rate of students."""
    temperature: float = 2.0
    """Temperature of the distillation loss."""
    hard_weight: float = 0.3
    """Share of the gold answers in the student's loss, 0 to 1."""
    compare: Literal["all", "none"] = "all"
    """Train the same student without distillation too, or not."""
    seed: int = 0
    """Seed of weights and batches."""

    def __post_init__(self) -> None:
        require(0 <= self.hard_weight <= 1, f"hard_weight is {self.hard_weight}", "choose 0 to 1")
        require(self.temperature > 0, f"temperature is {self.temperature}", "give a number above 0")
        require(
            min(self.windows_without, self.unanswerable, self.unlabelled) >= 0,
            "windows_without, unanswerable or unlabelled below 0",
            "give 0 or more",
        )
        require(0 <= self.top_share < 1, f"top_share is {self.top_share}", "choose 0 or more, below 1")
        require(
            min(
                self.updates,
                self.teacher_updates,
                self.layers,
                self.batch,
                self.cap,
                self.k,
                self.users,
                self.max_answer_tokens,
            )
            >= 1,
            "updates, teacher_updates, layers, batch, cap, k, users or max_answer_tokens below 1",
            "give one or more",
        )
        require(
            self.search_words >= 3,
            f"search_words is {self.search_words}",
            "give 3 or more: shorter runs are in every text",
        )
        require(
            self.stride >= 0 and self.max_tokens >= 32,
            "stride below 0 or max_tokens below 32",
            "give a stride of 0 or more and 32 tokens or more",
        )

    @property
    def rule(self) -> Rule:
        """Who counts as a regular user."""
        return Rule(self.min_posts, self.min_months, self.top_share, self.cap)
