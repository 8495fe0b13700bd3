"""Question sets: the one built from the made-up forum, SQuAD files, and public sets below $STILLHOUSE_DATA."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from stillhouse.core.data import PublicFile, find_public_file
from stillhouse.core.errors import require
from stillhouse.core.files import content_hash, write_atomically
from stillhouse.core.run import Run
from stillhouse.core.seeding import derive_seed
from stillhouse.corpus.deidentify import judge, user_hash
from stillhouse.corpus.squad import Question, QuestionSet, passages, read_squad, split_questions, write_squad
from stillhouse.methods.forum_qa.building import BuildOptions, Built, Planted, build, leaks, write_user_table
from stillhouse.methods.forum_qa.config import Config
from stillhouse.methods.forum_qa.synthetic import Gold, Written, make_forum, write_export

PUBLIC: Mapping[str, PublicFile] = {
    "covidqa": PublicFile(
        "covidqa/covidqa.json",
        "https://github.com/deepset-ai/COVID-QA, data/question-answering/200423_covidQA.json",
        "ab310b4e39f726e087c8fa3d1787c73771dacddc584977204ebe3cc889ee1264",
    ),
    "xquad": PublicFile(
        "xquad/xquad.en.json",
        "https://github.com/google-deepmind/xquad, xquad.en.json",
        "e4c57d1c9143aaa1c5d265ba5987a65f4e69528d2a98f29d6e75019b10344f29",
    ),
}
COVID_CHARACTERS = 900
TOLERANCE = {"covidqa": 3}
"""Some answers of COVID-QA are a few characters off; a user's own file is refused for that."""
PARTS = ("train", "select", "report")


@dataclass(frozen=True)
class Opened:
    """Questions with their splits, and how they were made where that was done here."""

    questions: QuestionSet
    story: Mapping[str, Any] | None = None
    """What the builder measured; None for a file."""

    @property
    def passages(self) -> list[str]:
        """All passages, each once."""
        q = self.questions
        return list(dict.fromkeys(one.context for part in (q.train, q.select, q.report) for one in part))


def open_data(config: Config, run: Run) -> Opened:
    """The questions that a config names; the made-up forum is written, built and kept in the run folder.

    Raises:
        UserError: no such data, or something in it is wrong.
    """
    found = _from_forum(config, run) if config.data == "forum" else Opened(_from_files(config))
    q = found.questions
    require(
        bool(q.train and q.select and q.report),
        f"{q.name} leaves a split without questions",
        "give more users or passages",
    )
    require(
        any(not one.impossible for one in q.train),
        f"{q.name} has no answer to train on",
        "fill in the annotation sheet",
    )
    return replace(found, questions=_at_most(q, config.questions, config.seed))


def _at_most(questions: QuestionSet, most: int, seed: int) -> QuestionSet:
    if not most or len(questions.train) <= most:
        return questions
    kept = np.sort(np.random.default_rng(derive_seed("questions", seed)).permutation(len(questions.train))[:most])
    return replace(questions, train=tuple(questions.train[i] for i in kept))


def _from_files(config: Config) -> QuestionSet:
    if config.data in PUBLIC:
        return _public(config)
    path = Path(config.data)
    if path.is_dir():
        return _folder(path)
    require(
        path.suffix == ".json",
        f"no question set {config.data!r}",
        "give forum, covidqa, xquad, a SQuAD .json file or a folder of them; of an export, first make one: stillhouse forum_qa build",
    )
    return split_questions(
        path.stem, _cut(read_squad(path), config.passage_characters), config.split, config.forum_seed
    )


def _cut(questions: Sequence[Question], characters: int) -> tuple[Question, ...]:
    return passages(questions, characters) if characters else tuple(questions)


def _folder(path: Path) -> QuestionSet:
    """A folder with the parts as files, as a run writes it; without select.json a part of train is taken."""
    parts = {part: path / f"{part}.json" for part in PARTS}
    for part in ("train", "report"):
        require(
            parts[part].is_file(),
            f"{path} has no {part}.json",
            "give SQuAD files train.json and report.json, and perhaps select.json",
        )
    train, report = read_squad(parts["train"]), read_squad(parts["report"])
    shared = {q.group for q in train} & {q.group for q in report}
    require(
        not shared,
        f"{len(shared)} users are in train.json and in report.json (one is {min(shared, default='')})",
        "split by user",
    )
    if parts["select"].is_file():
        return QuestionSet(path.name, train, read_squad(parts["select"]), report)
    held = split_questions(path.name, train)
    return QuestionSet(path.name, held.train + held.report, held.select, report)


def _public(config: Config) -> QuestionSet:
    """COVID-QA or XQuAD (en), split by document, each question on its part of the text, with unanswerable ones added."""
    whole = read_squad(find_public_file(PUBLIC[config.data]), TOLERANCE.get(config.data, 0))
    characters = config.passage_characters or (COVID_CHARACTERS if config.data == "covidqa" else 0)
    cut = _cut(whole, characters)
    added = _with_unanswerable(cut, config.unanswerable, config.forum_seed)
    return split_questions(config.data, added, config.split, config.forum_seed)


def _with_unanswerable(questions: Sequence[Question], share: float, seed: int) -> tuple[Question, ...]:
    """Every so many questions asked once more, of another passage of the same document that has not the answer's words."""
    random = np.random.default_rng(derive_seed("unanswerable", seed))
    by_group: dict[str, dict[str, None]] = {}
    for q in questions:
        by_group.setdefault(q.group, {})[q.context] = None
    made = []
    for q in questions:
        made.append(q)
        others = [c for c in by_group[q.group] if c != q.context and not any(gold in c for gold in q.golds)]
        if others and random.random() < share:
            made.append(
                replace(q, id=f"{q.id} elsewhere", context=others[int(random.integers(len(others)))], answers=())
            )
    return tuple(made)


def questions_of(run: Path, config: Config) -> QuestionSet:
    """The questions of a finished run: the data set that it built, or the files it was given.

    Raises:
        UserError: the files are not there any more, or something in them is wrong.
    """
    return _folder(run / "dataset") if config.data == "forum" else _from_files(config)


def dataset_folder(run: Run) -> Path:
    """Where a run keeps the data set it built: what may be released."""
    return run.folder / "dataset"


def private_folder(run: Run) -> Path:
    """What must not be released: the export and the salt of the pseudonyms."""
    return run.folder / "private"


def _from_forum(config: Config, run: Run) -> Opened:
    """The whole way: an export, the builder as a user would start it, gold answers in place of annotators."""
    folder = dataset_folder(run)
    story = run.kept("dataset", lambda: build_forum(config, run))
    train, select, report = (read_squad(folder / f"{part}.json") for part in PARTS)
    return Opened(QuestionSet("the made-up forum", train, select, report, config.split), story)


def build_forum(config: Config, run: Run) -> dict[str, Any]:
    """Write the made-up forum, build its data set into the run folder, and say what was measured on the way."""
    forum = make_forum(config.users, config.forum_seed)
    export = private_folder(run) / "export.jsonl"
    write_export(forum, export)
    known: dict[str, Written] = {}
    for written in forum:
        known.setdefault(written.post.id, written)

    def planted(number: str) -> Planted:
        found = known.get(number)
        return Planted([g.answer for g in found.golds], found.personal) if found else Planted()

    options = BuildOptions({}, config.rule, config.deidentifier, config.search_words, 0, config.forum_seed)
    built = build(export, options, planted, quiet=run.quiet)
    salt = new_salt(private_folder(run) / "salt.txt")
    questions, lost = gold_questions(built, {number: written.golds for number, written in known.items()})
    split = split_questions("forum", questions, config.split, config.forum_seed)
    write_parts(split, salt, dataset_folder(run))
    suppressed = write_user_table(built, salt, config.k, dataset_folder(run) / "users.csv")
    released = [q.context for part in PARTS for q in read_squad(dataset_folder(run) / f"{part}.json")]
    found_released = len(leaks(list(dict.fromkeys(released)), export, config.search_words))
    scores = judge((p.planted, p.found) for p in built.passages)
    return {
        **plain_story(built),
        "questions": {part: len(getattr(split, part)) for part in PARTS},
        "unanswerable": sum(q.impossible for q in questions),
        "answers_lost": lost,
        "found_released": found_released,
        "suppressed": suppressed,
        "personal": [{**asdict(s), "recall": s.recall, "precision": s.precision} for s in scores],
    }


def plain_story(built: Built) -> dict[str, Any]:
    """What a report needs of a build, as JSON values."""
    names = (
        "gini_before",
        "gini_after",
        "largest_before",
        "largest_after",
        "found_scrubbed",
        "left_out_words",
        "losses",
        "seconds",
    )
    return {
        "funnel": [list(row) for row in built.funnel],
        "passages": len(built.passages),
        **{n: getattr(built, n) for n in names},
    }


def new_salt(path: Path) -> bytes:
    """The secret behind the pseudonyms: drawn once, readable by its owner alone."""
    if not path.exists():
        write_atomically(path, secrets.token_hex(32) + "\n")
        path.chmod(0o600)
    return bytes.fromhex(path.read_text().strip())


def gold_questions(built: Built, golds: Mapping[str, Sequence[Gold]]) -> tuple[list[Question], int]:
    """Questions on released passages, grouped by user; and how many lost their answer on the way."""
    made, lost = [], 0
    for passage in built.passages:
        for number, (gold, span) in enumerate(zip(golds[passage.source], passage.answers, strict=True)):
            if gold.answer is not None and (span is None or not _has_words(span.of(passage.text))):
                lost += 1
                continue
            name = f"{content_hash([passage.text], 12)}-{number}"
            made.append(Question(name, gold.question, passage.text, (span,) if span else (), passage.user, gold.aspect))
    return made, lost


def _has_words(answer: str) -> bool:
    """Whether more than placeholders is left of an answer."""
    return any(word.isalpha() and word.islower() for word in answer.split())


def write_parts(split: QuestionSet, salt: bytes, folder: Path) -> None:
    """The three parts as SQuAD v2 files, users as pseudonyms."""
    for part in PARTS:
        hidden = [replace(q, group=user_hash(q.group, salt)) for q in getattr(split, part)]
        write_squad(hidden, folder / f"{part}.json")
