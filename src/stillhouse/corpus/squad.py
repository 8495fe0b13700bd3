"""SQuAD v1.1 and v2 files: read with every span checked, written with unanswerable questions, split by user."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from stillhouse.core.errors import UserError, require
from stillhouse.core.files import content_hash, read_json, write_json
from stillhouse.core.seeding import derive_seed
from stillhouse.corpus.spans import Span, moved_to, require_aligned, trimmed

SHARES = (0.7, 0.15, 0.15)
"""Of train, select and report."""


@dataclass(frozen=True)
class Question:
    """A question on a passage, with every answer that counts as right; none for one that the passage does not answer."""

    id: str
    text: str
    context: str
    answers: tuple[Span, ...]
    group: str
    """Who wrote the passage (SQuAD's title): what a split keeps together."""
    aspect: str = ""

    @property
    def impossible(self) -> bool:
        """Whether the passage does not answer it."""
        return not self.answers

    @property
    def golds(self) -> tuple[str, ...]:
        """The texts of the right answers; ("",) where there is none."""
        return tuple(span.of(self.context) for span in self.answers) or ("",)


@dataclass(frozen=True)
class QuestionSet:
    """Questions with their three splits: train, select (to choose on), report (to be judged on)."""

    name: str
    train: tuple[Question, ...]
    select: tuple[Question, ...]
    report: tuple[Question, ...]
    split: str = "user"

    @property
    def content_hash(self) -> str:
        """Changes with any question, passage or answer of the train and select splits."""
        return content_hash(repr((q.text, q.context, q.answers)) for part in (self.train, self.select) for q in part)


def read_squad(path: Path, tolerance: int = 0) -> tuple[Question, ...]:
    """All questions of a SQuAD file.

    Args:
        path: the file.
        tolerance: an answer that is so many characters from where it says is moved, and loses white space at its ends.

    Raises:
        UserError: not SQuAD, a question twice, or an answer that is not where it says; names the question.
    """
    found = read_json(path)
    try:
        articles = found["data"]
        made = [
            question for number, article in enumerate(articles) for question in _questions(article, number, tolerance)
        ]
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise UserError(
            f"{path} is not a SQuAD file (no {error})",
            "give {data: [{title, paragraphs: [{context, qas: [{id, question, answers}]}]}]}",
        ) from error
    require(bool(made), f"{path} has no questions", "give a SQuAD file with questions")
    seen: set[str] = set()
    for question in made:
        require(
            question.id not in seen, f"{path} has the question id {question.id} twice", "give every question its own id"
        )
        seen.add(question.id)
    return tuple(made)


def _questions(article: dict[str, Any], number: int, tolerance: int) -> Iterable[Question]:
    title = str(article.get("title") or f"document {number}")
    for paragraph in article["paragraphs"]:
        context = paragraph["context"]
        for qa in paragraph["qas"]:
            name = f"question {qa['id']}"
            require(bool(str(qa["question"]).strip()), f"{name} has no words", "ask something")
            answers = [] if qa.get("is_impossible") else qa["answers"]
            starts = [moved_to(context, int(a["answer_start"]), a["text"], tolerance) for a in answers]
            spans = [require_aligned(context, s, a["text"], name) for s, a in zip(starts, answers, strict=True)]
            spans = [trimmed(context, span) or span for span in spans] if tolerance else spans
            yield Question(
                str(qa["id"]), qa["question"], context, tuple(dict.fromkeys(spans)), title, qa.get("aspect", "")
            )


def write_squad(questions: Sequence[Question], path: Path) -> None:
    """Write SQuAD v2 JSON, a title a user.

    Raises:
        UserError: an answer is not where its span says.
    """
    articles: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for q in questions:
        answers = [{"text": span.of(q.context), "answer_start": span.start} for span in q.answers]
        for answer in answers:
            require_aligned(q.context, int(str(answer["answer_start"])), str(answer["text"]), f"question {q.id}")
        row = {"id": q.id, "question": q.text, "answers": answers, "is_impossible": q.impossible, "aspect": q.aspect}
        articles.setdefault(q.group, {}).setdefault(q.context, []).append(row)
    data = [
        {"title": title, "paragraphs": [{"context": context, "qas": rows} for context, rows in paragraphs.items()]}
        for title, paragraphs in articles.items()
    ]
    write_json(path, {"version": "v2.0", "data": data})


def split_questions(name: str, questions: Sequence[Question], split: str = "user", seed: int = 0) -> QuestionSet:
    """Train, select and report parts, by whole users (`split="user"`) or by passages whoever wrote them ("random").

    Raises:
        UserError: fewer than three users, or passages, to split.
    """
    keys = [q.group if split == "user" else content_hash([q.group, q.context]) for q in questions]
    names = sorted(set(keys))
    word = "users" if split == "user" else "passages"
    require(
        len(names) >= 3,
        f"{name} has questions on posts of {len(names)} {word}, three are needed to split",
        "give more, or lower --min-posts and --min-months",
    )
    order = np.random.default_rng(derive_seed("split", split, seed)).permutation(len(names))
    bounds = np.cumsum([max(1, round(share * len(names))) for share in SHARES[::-1]])
    place = {names[i]: int(np.searchsorted(bounds[:2], rank, side="right")) for rank, i in enumerate(order)}
    parts = [tuple(q for q, key in zip(questions, keys, strict=True) if place[key] == part) for part in range(3)]
    return QuestionSet(name, parts[2], parts[1], parts[0], split)


def passages(questions: Sequence[Question], characters: int) -> tuple[Question, ...]:
    """The questions, each on the part of its long context that holds its answer.

    A context is cut at paragraph or sentence ends into parts of about `characters`; an answer that lies across a cut
    keeps both. A question without answers keeps the first part.
    """
    made = []
    for q in questions:
        first = q.answers[0] if q.answers else Span(0, 0)
        starts = _cuts(q.context, characters)
        start = max(s for s in starts if s <= first.start)
        end = min((s for s in (*starts, len(q.context)) if s >= first.end and s > start), default=len(q.context))
        inside = tuple(Span(a.start - start, a.end - start) for a in q.answers if start <= a.start and a.end <= end)
        made.append(replace(q, context=q.context[start:end], answers=inside))
    return tuple(made)


def _cuts(text: str, characters: int) -> list[int]:
    """Where parts begin: after a line or sentence end, each part about this long."""
    starts, place = [0], 0
    while len(text) - place > characters:
        window = text[place : place + characters]
        end = max(window.rfind("\n"), window.rfind(". ") + 1)
        place += (end if end > characters // 3 else characters - 1) + 1
        starts.append(place)
    return starts
