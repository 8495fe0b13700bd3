"""The annotation sheet: questions on released passages for two people to answer, and how well they agree.

A CSV with one row a question. An annotator copies the answer out of the passage, or writes "-" where the passage does not
say; an empty cell is a row that was not done. Where the same words are in the passage twice, "[2]" before the answer
names the second.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stillhouse.core.errors import UserError, require
from stillhouse.core.files import content_hash, write_atomically
from stillhouse.core.seeding import derive_seed
from stillhouse.corpus.cleaning import WORD
from stillhouse.corpus.spans import Span, occurrences, require_aligned
from stillhouse.corpus.squad import Question
from stillhouse.methods.forum_qa.aspects import ASPECTS, SUBJECTS, aspects_of
from stillhouse.methods.forum_qa.metrics import mark

COLUMNS = ("id", "user", "aspect", "question", "passage", "answer")
NOTHING = "-"
AGREED = 0.5
"""F1 from which two answers are the same answer, marked a little wider or narrower."""


@dataclass(frozen=True)
class Row:
    """One question on the sheet; `answer` None where it was not done."""

    id: str
    user: str
    aspect: str
    question: str
    passage: str
    answer: str | None


class Agreement(NamedTuple):
    """Of two annotators."""

    rows: int
    kappa_answerable: float
    """Cohen's kappa on whether the passage answers the question."""
    kappa_words: float
    """Cohen's kappa on whether a word belongs to the answer, over all words of passages that both answered."""
    f1: float
    """Mean F1 of one's answers against the other's, where both gave one."""
    exact: float
    disagreed: tuple[str, ...]
    """Ids of rows on which only one gave an answer, or the answers share less than half."""


def proposed(passages: Sequence[tuple[str, str]], seed: int, most: int = 4) -> list[Row]:
    """Questions to ask of (user, text): of the aspects that its words name, "now" first, one wording each.

    The subjects that posts speak of least are asked as well: that is where unanswerable questions come from.
    """
    rows = []
    for user, text in passages:
        random = np.random.default_rng(derive_seed("sheet", seed, text))
        asked = [(aspect, "now") for aspect in aspects_of(text, 2)]
        asked += [(aspect, SUBJECTS[1 + int(random.integers(2))]) for aspect, _ in asked]
        asked = asked or [(ASPECTS[int(random.integers(len(ASPECTS)))], "now")]
        for number, (aspect, subject) in enumerate(asked[:most]):
            options = aspect.questions(subject)  # type: ignore[arg-type]
            question = (
                options[int(random.integers(len(options)))]
                .replace("writer's {kin}", "other person")
                .replace("{kin}", "other person")
            )
            rows.append(Row(f"{content_hash([text], 12)}-{number}", user, aspect.name, question, text, None))
    return rows


def write_sheet(rows: Sequence[Row], path: Path) -> None:
    """Write the sheet as CSV (UTF-8 with a byte-order mark, so that spreadsheets keep the emoji)."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow(
            [row.id, row.user, row.aspect, row.question, row.passage, "" if row.answer is None else row.answer]
        )
    write_atomically(path, "\ufeff" + file.getvalue())


def read_sheet(path: Path) -> list[Row]:
    """Read an annotated sheet.

    Raises:
        UserError: no such file, a column is missing, or a row has no passage.
    """
    require(path.is_file(), f"no sheet {path}", "make one with: stillhouse forum_qa sheet DATASET")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns, rows = reader.fieldnames or (), list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read ({error})", "save it as CSV in UTF-8") from error
    missing = [name for name in COLUMNS if name not in columns]
    require(not missing, f"{path} has no column {', '.join(missing)}", f"keep the columns {', '.join(COLUMNS)}")
    made = []
    for number, row in enumerate(rows, start=2):
        require(
            bool(row["id"] and row["passage"]),
            f"{path} has no id or passage in line {number}",
            "keep the rows as they were",
        )
        answer = (row["answer"] or "").strip()
        made.append(Row(row["id"], row["user"], row["aspect"], row["question"], row["passage"], answer or None))
    return made


def span_of(row: Row) -> Span | None:
    """Where the answer of a row is; None for "-".

    Raises:
        UserError: the answer is not in the passage, or is there more than once and no number says which.
    """
    if row.answer is None or row.answer == NOTHING:
        return None
    numbered = re.match(r"\[(\d+)\]\s*", row.answer)
    words = row.answer[numbered.end() :] if numbered and not row.passage.count(row.answer) else row.answer
    found = occurrences(row.passage, words)
    place = int(numbered[1]) if numbered and words is not row.answer else 1
    if not found:
        raise UserError(f"the answer {words[:40]!r} of row {row.id} is not in its passage", "copy it letter by letter")
    if len(found) > 1 and words is row.answer:
        raise UserError(
            f"the answer {words[:40]!r} of row {row.id} is in its passage {len(found)} times",
            'write "[2] ..." for the second',
        )
    require(1 <= place <= len(found), f"row {row.id} names place {place} of {len(found)}", "number the places from 1")
    return require_aligned(row.passage, found[place - 1].start, words, f"row {row.id}")


def cohen_kappa(one: Sequence[int], other: Sequence[int]) -> float:
    """kappa = (p_o - p_e) / (1 - p_e), p_e from each annotator's own shares; 1 where both always say the same one thing."""
    a, b = np.asarray(one), np.asarray(other)
    if not a.size:
        return float("nan")
    values = np.unique(np.concatenate([a, b]))
    observed = float((a == b).mean())
    expected = float(sum((a == v).mean() * (b == v).mean() for v in values))
    return 1.0 if expected == 1 else (observed - expected) / (1 - expected)


def agreement(first: Sequence[Row], second: Sequence[Row]) -> Agreement:
    """How well two annotators agree on the rows that both have done.

    Raises:
        UserError: they have no row in common, or the passage of one was changed.
    """
    pairs = _pairs(first, second)
    spans = [(span_of(a), span_of(b)) for a, b in pairs]
    both = [(pair[0].passage, a, b) for pair, (a, b) in zip(pairs, spans, strict=True) if a and b]
    marks = [mark(a.of(text), [b.of(text)]) for text, a, b in both]
    words = [(_inside(text, a), _inside(text, b)) for text, a, b in both]
    f1s = iter(m.f1 for m in marks)
    disagreed = [
        pair[0].id
        for pair, (a, b) in zip(pairs, spans, strict=True)
        if bool(a) != bool(b) or (a and b and next(f1s) < AGREED)
    ]
    return Agreement(
        len(pairs),
        cohen_kappa([a is not None for a, _ in spans], [b is not None for _, b in spans]),
        cohen_kappa([w for a, _ in words for w in a], [w for _, b in words for w in b]),
        float(np.mean([m.f1 for m in marks])) if marks else float("nan"),
        float(np.mean([m.exact for m in marks])) if marks else float("nan"),
        tuple(disagreed),
    )


def _pairs(first: Sequence[Row], second: Sequence[Row]) -> list[tuple[Row, Row]]:
    others = {row.id: row for row in second if row.answer is not None}
    pairs = [(row, others[row.id]) for row in first if row.answer is not None and row.id in others]
    require(bool(pairs), "the two sheets have no answered row in common", "let both annotators answer the same sheet")
    for a, b in pairs:
        require(
            a.passage == b.passage,
            f"the passage of row {a.id} differs between the sheets",
            "keep passages as they were",
        )
    return pairs


def _inside(text: str, span: Span) -> list[int]:
    """For every word, whether the answer has it."""
    return [int(span.overlaps(Span(*m.span()))) for m in WORD.finditer(text)]


def adjudicated(sheets: Sequence[Sequence[Row]]) -> tuple[list[Question], list[str]]:
    """Questions with the answers of one annotator, or those that two agree on (both of whose answers count); and the rest's ids.

    Raises:
        UserError: an answer is not in its passage.
    """
    if len(sheets) == 1:
        done = [row for row in sheets[0] if row.answer is not None]
        return [_question(row, [span_of(row)]) for row in done], []
    pairs = _pairs(*sheets)
    disagreed = set(agreement(*sheets).disagreed)
    kept = [_question(a, [span_of(a), span_of(b)]) for a, b in pairs if a.id not in disagreed]
    return kept, sorted(disagreed)


def _question(row: Row, spans: Sequence[Span | None]) -> Question:
    answers = tuple(dict.fromkeys(span for span in spans if span is not None))
    return Question(row.id, row.question, row.passage, answers, row.user, row.aspect)
