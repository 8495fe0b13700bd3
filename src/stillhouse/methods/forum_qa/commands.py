"""The commands beside `run`: ask a finished run, and the steps from an export to a question set."""

from __future__ import annotations

import json as json_module
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import tyro

from stillhouse.core.errors import UserError, require
from stillhouse.core.files import write_json
from stillhouse.corpus.selection import Rule
from stillhouse.corpus.spans import occurrences
from stillhouse.corpus.squad import Question, read_squad, split_questions, write_squad
from stillhouse.methods.forum_qa import sheet as sheets
from stillhouse.methods.forum_qa.ask import HELP, SAFETY, Reply, highlighted, open_run, replies
from stillhouse.methods.forum_qa.crisis import is_crisis


def ask(
    question: tyro.conf.Positional[str],
    run: Path,
    top: int = 3,
    json: bool = False,
) -> None:
    """Ask a finished run: the passages that answer, the answer marked, how sure, or that none does.

    Args:
        question: in words, e.g. "how does it affect sleep?".
        run: folder of a finished run of forum_qa.
        top: passages to show.
        json: machine-readable.
    """
    require(bool(question.strip()), "the question is empty", "ask something")
    if is_crisis(question):
        print(json_module.dumps({"help": HELP, "answers": []}) if json else HELP)
        return
    reader, passages = open_run(_finished(run))
    found = replies(reader, passages, question, top) or []
    if json:
        rows = [
            {
                "passage": r.passage,
                "answer": None if r.span is None else r.span.of(r.passage),
                "start": r.span and r.span.start,
                "confidence": round(r.confidence, 4),
            }
            for r in found
        ]
        print(json_module.dumps({"answers": rows, "notice": SAFETY}, ensure_ascii=False, indent=1))
        return
    print(*_lines(found), SAFETY, sep="\n")


def _finished(run: Path) -> Path:
    require((run / "config.json").is_file(), f"{run} is not a run folder", "name a run of forum_qa with --run")
    require(
        (run / "model" / "reader.json").is_file(),
        f"{run} holds no reader yet",
        f"finish it with: stillhouse resume {run}",
    )
    return run


def _lines(found: list[Reply]) -> list[str]:
    if not found:
        return ["No passage is about that.", ""]
    lines = []
    for reply in found:
        said = "no answer" if reply.span is None else reply.span.of(reply.passage)
        lines += [
            f"{said}  (confidence {reply.confidence:.0%})",
            f"  {highlighted(reply, sys.stdout.isatty())}".replace("\n", "\n  "),
            "",
        ]
    return lines


def build(
    export: tyro.conf.Positional[Path],
    out: Path = Path("forum-dataset"),
    min_posts: int = 4,
    min_months: int = 2,
    top_share: float = 0.01,
    cap: int = 8,
    most_users: int = 0,
    k: int = 5,
    search_words: int = 6,
    deidentifier: Literal["presidio", "rules"] = "presidio",
    text_column: str = "",
    user_column: str = "",
    time_column: str = "",
    id_column: str = "",
    salt: Path | None = None,
    seed: int = 0,
) -> None:
    """From an export that you may hold to passages that may be released, with an annotation sheet of questions on them.

    Args:
        export: .csv, .tsv, .jsonl, .mbox, .json or .sql (phpBB, Discourse) file, or a folder of Discourse topics.
        out: new folder: sheet.csv, users.csv, funnel.json, README.md.
        min_posts: users with fewer usable posts are left out.
        min_months: users active in fewer months are left out.
        top_share: this share of the most active users is left out.
        cap: most passages a user.
        most_users: take at most so many regular users, drawn by seed; 0 takes all.
        k: users that share every combination of age, start and activity in users.csv.
        search_words: no run of this many words of a passage is in the export.
        deidentifier: presidio adds presidio-analyzer with a local spaCy model to our own rules.
        text_column: name of the column with the posts, where it is not a usual one.
        user_column: the same of the author.
        time_column: the same of the date.
        id_column: the same of the post's id.
        salt: file with the secret of the pseudonyms; made beside the export, as <export>.salt, where none is named.
        seed: of which posts are taken.
    """
    from stillhouse.corpus.deidentify import user_hash
    from stillhouse.methods.forum_qa.building import BuildOptions, build, leaks, write_user_table
    from stillhouse.methods.forum_qa.data import new_salt, plain_story
    from stillhouse.methods.forum_qa.report import write_card

    require(not out.exists() or not any(out.iterdir()), f"{out} is not an empty folder", "choose another with --out")
    require(search_words >= 3, f"search_words is {search_words}", "give 3 or more")
    columns = {"text": text_column, "user": user_column, "time": time_column, "id": id_column}
    rule = Rule(min_posts, min_months, top_share, cap)
    built = build(export, BuildOptions(columns, rule, deidentifier, search_words, most_users, seed), quiet=False)
    secret = new_salt(salt or export.with_name(export.name + ".salt"))
    passages = [(user_hash(p.user, secret), p.text) for p in built.passages]
    sheets.write_sheet(sheets.proposed(passages, seed), out / "sheet.csv")
    suppressed = write_user_table(built, secret, k, out / "users.csv")
    found = len(leaks([text for _, text in passages], export, search_words, columns))
    story = {**plain_story(built), "suppressed": suppressed, "found_released": found}
    write_json(out / "funnel.json", story)
    write_card(story, search_words, k, out)
    for step, posts, users in built.funnel:
        print(f"{posts:>10,} posts {users:>8,} users  {step}")
    print(f"Gini of posts by user {built.gini_before:.3f} before, {built.gini_after:.3f} after")
    print(
        f"found by a search of the source: {built.found_scrubbed} passages if only de-identified, {found} as released"
    )
    print(
        f"{out / 'sheet.csv'}: have two people fill in the answers, then: stillhouse forum_qa import ONE TWO --out DATASET.json"
    )


def sheet(dataset: tyro.conf.Positional[Path], out: Path = Path("sheet.csv"), answers: bool = False) -> None:
    """An annotation sheet of a SQuAD file, to have its answers marked (again) by others.

    Args:
        dataset: SQuAD .json file.
        out: the sheet.
        answers: write the answers that are there too, rather than leave the cells empty.
    """
    questions = read_squad(dataset)
    rows = [sheets.Row(q.id, q.group, q.aspect, q.text, q.context, _cell(q) if answers else None) for q in questions]
    sheets.write_sheet(rows, out)
    print(f"{out}: {len(rows)} questions")


def _cell(question: Question) -> str:
    """An answer as an annotator would write it."""
    if not question.answers:
        return sheets.NOTHING
    words = question.golds[0]
    places = [span.start for span in occurrences(question.context, words)]
    start = question.answers[0].start
    return words if len(places) == 1 or start not in places else f"[{places.index(start) + 1}] {words}"


def agreement(first: tyro.conf.Positional[Path], second: tyro.conf.Positional[Path], json: bool = False) -> None:
    """How well two annotators of one sheet agree: Cohen's kappa, F1, and the rows to talk about.

    Args:
        first: one's sheet.
        second: the other's.
        json: machine-readable.
    """
    found = sheets.agreement(sheets.read_sheet(first), sheets.read_sheet(second))
    if json:
        print(json_module.dumps(found._asdict()))
        return
    print(f"{found.rows} rows that both answered")
    print(f"kappa, whether there is an answer: {found.kappa_answerable:.3f}")
    print(f"kappa, which words belong to it:   {found.kappa_words:.3f}")
    print(f"F1 between the two: {found.f1:.3f}, exactly the same: {found.exact:.0%}")
    print(
        f"disagreed on {len(found.disagreed)}: {', '.join(found.disagreed[:12])}{' ...' if len(found.disagreed) > 12 else ''}"
    )


def import_sheets(annotated: tyro.conf.Positional[tuple[Path, ...]], out: Path = Path("dataset.json")) -> None:
    """One or two annotated sheets as a SQuAD v2 file; what two disagree on is left out and listed.

    Args:
        annotated: one sheet, or two of the same questions.
        out: the SQuAD file; run it with: stillhouse run forum_qa --data FILE.
    """
    require(len(annotated) in (1, 2), f"{len(annotated)} sheets were given", "give one, or two of the same questions")
    require(out.suffix == ".json", f"{out} is not a .json file", "name one with --out")
    questions, disagreed = sheets.adjudicated([sheets.read_sheet(path) for path in annotated])
    if not questions:
        raise UserError("no row of the sheet was answered", 'copy answers out of the passages, or write "-"')
    write_squad(questions, out)
    unanswerable = sum(q.impossible for q in questions)
    print(
        f"{out}: {len(questions)} questions, {unanswerable} of them unanswerable, of {len({q.group for q in questions})} users"
    )
    if disagreed:
        print(f"left out, the two disagree: {', '.join(disagreed)}")


def split(
    dataset: tyro.conf.Positional[Path],
    out: Path = Path("dataset"),
    by: Annotated[Literal["user", "random"], tyro.conf.arg(name="by")] = "user",
    seed: int = 0,
) -> None:
    """Train, select and report files of a SQuAD file.

    Args:
        dataset: SQuAD .json file.
        out: folder for train.json, select.json, report.json.
        by: whole users, or passages whoever wrote them (which leaks).
        seed: of the split.
    """
    made = split_questions(dataset.stem, read_squad(dataset), by, seed)
    for part in ("train", "select", "report"):
        write_squad(getattr(made, part), out / f"{part}.json")
        print(f"{out / part}.json: {len(getattr(made, part))} questions")


COMMANDS: dict[str, Callable[..., None]] = {
    "ask": ask,
    "build": build,
    "sheet": sheet,
    "agreement": agreement,
    "import": import_sheets,
    "split": split,
}
