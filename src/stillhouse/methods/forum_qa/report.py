"""The result of a run in tables and words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stillhouse.core.files import write_atomically
from stillhouse.core.result import Arm, Metric, Table
from stillhouse.corpus.squad import QuestionSet
from stillhouse.methods.forum_qa.arms import Row
from stillhouse.methods.forum_qa.ask import SAFETY
from stillhouse.methods.forum_qa.task import Task
from stillhouse.methods.forum_qa.training import Trained

METRICS = (
    Metric(
        "f1",
        "F1",
        "higher",
        "Words shared with the gold answer, mean over report questions; no answer counts where there is none.",
    ),
    Metric(
        "exact",
        "Exact match",
        "higher",
        "Share of answers that are the gold answer to the word, articles and case aside.",
    ),
    Metric("precision", "Precision", "higher", "Share of the given words that belong to the answer."),
    Metric("recall", "Recall", "higher", "Share of the answer's words that were given."),
    Metric("has_answer_f1", "F1, answerable", "higher", "F1 on questions that have an answer."),
    Metric(
        "no_answer_accuracy", "Unanswerable", "higher", "Share of questions without an answer of which that was said."
    ),
    Metric("select_f1", "F1, select", "higher", "On the split that update, threshold and temperature are chosen on."),
    Metric(
        "calibration_error",
        "Calibration error",
        "lower",
        "Mean gap between confidence and share of exact answers, ten bins.",
    ),
)


def sentence(arms: Sequence[Arm], questions: QuestionSet) -> str:
    """The numbers that matter."""
    teacher = next(arm for arm in arms if arm.role == "teacher")
    student = next(arm for arm in arms if arm.role == "student")
    top, ours = teacher.metrics["f1"], student.metrics["f1"]
    share = f" ({ours / top:.1%} of it)" if top > 0 else ""
    theirs, mine = (arm.cost.latency_seconds.get("batch 32") for arm in (teacher, student))
    speed = f" at {theirs / mine:.1f} times the speed" if theirs and mine else ""
    size = (teacher.cost.parameters or 0) / max(1, student.cost.parameters or 1)
    return (
        f"On {questions.name}, split by {questions.split}, the distilled reader has F1 {ours:.3f}, its teacher {top:.3f}{share}, "
        f"with 1/{size:.1f} of the parameters{speed}."
    )


def tables(task: Task, rows: Sequence[tuple[Arm, Row]], story: Mapping[str, Any] | None, made: Trained) -> list[Table]:
    """Intervals and aspects of the arms; and where the data set was built here, how."""
    found = [*(_story_tables(story) if story else ()), split_table(task.questions), interval_table(rows)]
    if any(row.aspects for _, row in rows):
        found.append(aspect_table(rows))
    return [*found, example_table(task, made)]


def _story_tables(story: Mapping[str, Any]) -> list[Table]:
    bias = (
        ("Gini coefficient of posts by user", round(story["gini_before"], 3), round(story["gini_after"], 3)),
        ("share of the user with most", f"{story['largest_before']:.1%}", f"{story['largest_after']:.1%}"),
    )
    search = (
        ("found by a run of words when only de-identified", story["found_scrubbed"]),
        ("found as released", story["found_released"]),
        ("words given up for a mark, share", round(story["left_out_words"], 4)),
        ("answers lost on the way", story["answers_lost"]),
        ("rows of the table of users hidden for k-anonymity", story["suppressed"]),
    )
    return [
        Table(
            "The funnel",
            ("step", "posts", "users"),
            tuple(tuple(row) for row in story["funnel"]),
            f"Not readable: {story['losses'] or 'nothing'}.",
        ),
        Table(
            "How evenly users are heard",
            ("", "before", "after"),
            bias,
            "Of regular users' relevant posts before the cap, and of released passages; the share before is of all usable posts.",
        ),
        personal_table(story["personal"]),
        Table(
            "The re-identification search",
            ("of the passages", "number"),
            search,
            "Every run of words of every passage, looked up in all posts of the export.",
        ),
    ]


def personal_table(scores: Sequence[Mapping[str, Any]]) -> Table:
    """Recall and precision of the de-identification where the truth is known."""
    rows: tuple[tuple[str | float, ...], ...] = tuple(
        (
            s["kind"],
            s["planted"],
            s["missed"],
            round(s["recall"], 4),
            s["removed"],
            s["wrong"],
            round(s["precision"], 4),
        )
        for s in scores
    )
    columns = ("kind", "planted", "missed", "recall", "removed", "of these wrong", "precision")
    return Table(
        "Personal data", columns, rows, "In the posts that were kept; a find counts for whatever kind it was taken."
    )


def split_table(questions: QuestionSet) -> Table:
    """Sizes of the three splits."""
    rows = []
    for name in ("train", "select", "report"):
        part = getattr(questions, name)
        rows.append(
            (
                name,
                len({q.group for q in part}),
                len({q.context for q in part}),
                len(part),
                sum(q.impossible for q in part),
            )
        )
    columns = ("split", "users", "passages", "questions", "of these unanswerable")
    return Table("The splits", columns, tuple(rows), f"By {questions.split}, made by seed before anything was fitted.")


def interval_table(rows: Sequence[tuple[Arm, Row]]) -> Table:
    """F1 with its bootstrap interval."""
    made = tuple(
        (arm.name, round(arm.metrics["f1"], 4), round(row.interval[0], 4), round(row.interval[1], 4))
        for arm, row in rows
    )
    return Table(
        "F1 with 95 % intervals",
        ("arm", "F1", "low", "high"),
        made,
        "Bootstrap that draws whole users; one training each, so seeds are not in it.",
    )


def aspect_table(rows: Sequence[tuple[Arm, Row]]) -> Table:
    """F1 of teacher and student by aspect."""
    chosen = [(arm, row) for arm, row in rows if arm.role in ("teacher", "student")]
    names = sorted({name for _, row in chosen for name in row.aspects})
    made: tuple[tuple[str | float, ...], ...] = tuple(
        (name, *(round(row.aspects.get(name, float("nan")), 3) for _, row in chosen)) for name in names
    )
    return Table("F1 by aspect", ("aspect", *(arm.name for arm, _ in chosen)), made)


def example_table(task: Task, made: Trained) -> Table:
    """What the student says to the first report questions, with its confidence."""
    questions = task.questions.report[:12]
    rows = []
    for q, found in zip(questions, made.reader.candidates(questions), strict=True):
        answer = made.reader.answers(found)[0]
        said = "(no answer)" if answer.span is None else answer.span.of(q.context)
        rows.append((q.text, said, " / ".join(q.golds).strip() or "(no answer)", round(answer.confidence, 2)))
    return Table("Some answers of the student", ("question", "says", "gold", "confidence"), tuple(rows))


def notes(task: Task, story: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Caveats."""
    found = [SAFETY, "One seed: differences of a few points between readers say little; see the intervals."]
    if task.all_windows.cut:
        ids = [task.questions.train[i].id for i in task.all_windows.cut]
        found.append(
            f"Answers whole in no window, left out of training: {len(ids)} ({', '.join(ids[:3])}); raise --stride or --max-tokens."
        )
    if len(task.all_windows) > len(task.questions.train):
        found.append(
            f"{len(task.questions.train)} train questions are {len(task.all_windows)} windows; {len(task.windows)} are trained on."
        )
    if story:
        found.append(
            "The forum is made up: its figures tell whether each step does what it should, not how people write."
        )
        found.append("dataset/ may be released; private/ (the export and the salt of the pseudonyms) must not be.")
    return tuple(found)


def dataset_card(story: Mapping[str, Any], search_words: int, k: int) -> str:
    """README of a built data set."""
    scores = next((s for s in story.get("personal", []) if s["kind"] == "all"), None)
    told = (
        f"\nPlanted personal data: recall {scores['recall']:.3f}, precision {scores['precision']:.3f}."
        if scores
        else ""
    )
    steps = "\n".join(f"| {step} | {posts:,} | {users:,} |" for step, posts, users in story["funnel"])
    return (
        "# A question answering data set from forum posts\n\n"
        "SQuAD v2 JSON, split by user. Users are salted hashes; names, handles, places, dates, ages and contacts are placeholders;\n"
        f"no run of {search_words} words of a passage is in the source; users.csv is {k}-anonymous in age, start and activity.\n"
        "Words were changed for that, so passages are no quotes. A search by meaning may still come near a post: give this to people who\n"
        f"agreed not to look for its authors.{told}\n\n"
        f"| step | posts | users |\n|---|---:|---:|\n{steps}\n\nNot clinical advice, and no material to learn crisis answers from.\n"
    )


def write_card(story: Mapping[str, Any], search_words: int, k: int, folder: Path) -> None:
    """Put the card beside the data set."""
    write_atomically(folder / "README.md", dataset_card(story, search_words, k))
