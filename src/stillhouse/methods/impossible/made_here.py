"""What a run starts from: teacher, student and critic, opened from folders or made once and kept in the cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from stillhouse.core.cache import trained_once
from stillhouse.core.run import Run
from stillhouse.core.seeding import seed_everything
from stillhouse.encoders.models import Shape
from stillhouse.encoders.public import sick
from stillhouse.encoders.teacher import Plan, get_teacher
from stillhouse.encoders.tokens import train_wordpiece
from stillhouse.encoders.training import Recipe
from stillhouse.methods.impossible.causal import (
    LanguageModel,
    load_language_model,
    new_language_model,
    pretrain_language_model,
    token_rows,
)
from stillhouse.methods.impossible.config import Config
from stillhouse.methods.impossible.domain import Domain, critic_pairs
from stillhouse.methods.impossible.nli import (
    EmbeddingCritic,
    EncoderCritic,
    EntailmentCritic,
    load_attention,
    load_encoder_critic,
    save_attention,
    train_attention,
)
from stillhouse.methods.impossible.seq2seq import (
    Student,
    draw_denoising,
    load_student,
    new_student_model,
    train_student,
)
from stillhouse.methods.impossible.vocabulary import train_bpe

RECIPE = "impossible 1"
"""Part of the cache's keys: to be changed with anything in the training that the config does not name."""
MAX_TOKENS, STUDENT_TOKENS = 128, 64
CRITIC_PAIRS = 12_000
SICK_PLAN = Plan("minilm", 160, 5e-5, 96, Shape(2, 128, 2, 512, 128), 4000, 0)


def get_language_model(config: Config, domain: Domain, run: Run) -> LanguageModel:
    """The teacher: a folder's, or a small one pre-trained on the domain's text."""
    if config.teacher != "train":
        return load_language_model(Path(config.teacher).expanduser())
    size, updates = config.teacher_size, config.teacher_updates
    key = ("language model", repr(size), str(config.pieces), str(updates), domain.hash)
    return load_language_model(_once(key, "language model", run, lambda: _language_model(config, domain, run)))


def _language_model(config: Config, domain: Domain, run: Run) -> Callable[[Path], None]:
    tokenizer = train_bpe((" ".join(document) for document in domain.documents), config.pieces, MAX_TOKENS)
    seed_everything("language model")
    model = new_language_model(config.teacher_size, tokenizer, MAX_TOKENS)
    rows = token_rows(tokenizer, domain.documents, 72)
    pretrain_language_model(model, rows, Recipe(config.teacher_updates, 32, 3e-3), run)
    return lambda folder: (model.save_pretrained(folder), tokenizer.save_pretrained(folder))[0]


def get_student(config: Config, domain: Domain, run: Run) -> Student:
    """The student before any pair: a folder's, or a small one pre-trained to restore masked words of the domain's text."""
    if config.student != "train":
        return load_student(Path(config.student).expanduser(), STUDENT_TOKENS)
    size, updates = config.student_size, config.student_updates
    key = ("student", repr(size), str(config.pieces), str(updates), domain.hash)
    return load_student(_once(key, "pretraining", run, lambda: _student(config, domain, run)), STUDENT_TOKENS)


def _student(config: Config, domain: Domain, run: Run) -> Callable[[Path], None]:
    tokenizer = train_bpe((" ".join(document) for document in domain.documents), config.pieces, MAX_TOKENS)
    seed_everything("student")
    student = Student(new_student_model(config.student_size, tokenizer), tokenizer, STUDENT_TOKENS)
    recipe = Recipe(config.student_updates, 32, 3e-3)
    train_student(student, draw_denoising(student, domain.sentences), recipe, run, "pretraining", 0)
    return lambda folder: (student.model.save_pretrained(folder), tokenizer.save_pretrained(folder))[0]


def get_critic(config: Config, run: Run) -> EntailmentCritic:
    """The entailment critic that a config names.

    Raises:
        UserError: SICK is not at hand, or a folder has no NLI classifier.
    """
    chosen = critic_name(config)
    if chosen == "embedding":
        return EmbeddingCritic()
    if chosen == "sick":
        teacher = get_teacher(SICK_PLAN, sick(), run)
        return EncoderCritic(teacher.model, teacher.tokenizer, "MiniLM trained on SICK")
    if chosen == "everyday":
        key = ("critic", str(config.critic_width), str(config.critic_updates))
        folder = _once(key, "critic", run, lambda: _attention(config, run))
        return load_attention(folder, "decomposable attention trained on the grammar's labelled pairs")
    return load_encoder_critic(Path(chosen).expanduser())


def critic_name(config: Config) -> str:
    """What `auto` stands for."""
    if config.critic != "auto":
        return config.critic
    return "everyday" if config.data == "everyday" else "sick"


def _attention(config: Config, run: Run) -> Callable[[Path], None]:
    pairs = critic_pairs(CRITIC_PAIRS)
    tokenizer = train_wordpiece([*pairs.premises, *pairs.hypotheses], 1000, 64)
    seed_everything("critic")
    model = train_attention(pairs, tokenizer, config.critic_width, Recipe(config.critic_updates, 128, 3e-3), run)
    return lambda folder: save_attention(model, tokenizer, folder)


def _once(key: tuple[str, ...], stage: str, run: Run, train: Callable[[], Callable[[Path], None]]) -> Path:
    return trained_once("impossible", (RECIPE, torch.__version__, *key), run, stage, train)
