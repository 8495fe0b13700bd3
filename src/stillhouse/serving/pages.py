"""Pages that are HTML alone: a run, its report, a comparison, a message."""

from __future__ import annotations

import threading
from functools import lru_cache
from pathlib import Path

from stillhouse.catalog import CATALOG
from stillhouse.core.errors import UserError
from stillhouse.reporting.arms import arms_table, mark_arms
from stillhouse.reporting.comparison import compare_any
from stillhouse.reporting.finished import read_finished
from stillhouse.reporting.page import flat, render
from stillhouse.reporting.shelf import Entry, Shelf, when

MOST_COMPARED = 40
LOG_LINES = 12
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'; base-uri 'none'; form-action 'self'"
"""A page of ours needs nothing from anywhere; one that a stranger put into a run folder gets nothing."""

_drawing = threading.Lock()
"""matplotlib's settings are one for all threads."""


def title_of(method: str) -> str:
    """What to call a method, known or not."""
    return CATALOG[method].title if method in CATALOG else method or "unknown method"


def run_html(entry: Entry) -> str:
    """A run as an HTML fragment."""
    finished = None
    if entry.state == "finished":
        try:
            finished = read_finished(entry.folder)
        except UserError as error:
            entry = Entry(
                entry.name, entry.folder, "broken", entry.method, entry.data, entry.seed, entry.started, error.what
            )
    return render(
        "run.html.j2",
        entry=entry,
        title=title_of(entry.method),
        started=when(entry),
        result=finished.result if finished else None,
        table=arms_table(mark_arms(finished.result.arms), finished.result.metrics) if finished else None,
        has_report=(entry.folder / "report.html").is_file(),
        config=flat(finished.options) if finished else {},
        log="" if finished else last_words(entry.folder),
    )


def last_words(folder: Path) -> str:
    """The end of a run's log."""
    try:
        with (folder / "log.txt").open("rb") as file:
            file.seek(max(0, (folder / "log.txt").stat().st_size - 4000))
            return "\n".join(file.read().decode("utf-8", "replace").splitlines()[-LOG_LINES:])
    except OSError:
        return ""


def report_html(shelf: Shelf, name: str) -> str:
    """A finished run's report.

    Raises:
        UserError: no such run, or no report.
    """
    file = shelf.find(name).folder / "report.html"
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise UserError(f"{name} has no report", "write it with: stillhouse resume RUN") from None


def comparison_html(shelf: Shelf, names: list[str]) -> str:
    """Any selection of runs, side by side.

    Raises:
        UserError: fewer than two, too many, or nothing to compare them by.
    """
    names = list(dict.fromkeys(names))
    if not 2 <= len(names) <= MOST_COMPARED:
        raise UserError(f"{len(names)} of the runs are ticked", f"tick 2 to {MOST_COMPARED} finished ones")
    entries = [shelf.find(name) for name in names]
    key = tuple((str(e.folder), _stamp(e.folder / "result.json")) for e in entries)
    return _compared(key)


def _stamp(file: Path) -> int:
    return file.stat().st_mtime_ns if file.is_file() else 0


@lru_cache(maxsize=16)
def _compared(key: tuple[tuple[str, int], ...]) -> str:
    with _drawing:
        return compare_any([Path(folder) for folder, _ in key])


def message_html(title: str, error: UserError) -> str:
    """What is wrong, and the mend."""
    return render("message.html.j2", title=title, message=str(error))
