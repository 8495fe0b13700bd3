"""The list of runs: which are asked for, and the page of them that is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from stillhouse.reporting.numbers import significant
from stillhouse.reporting.page import render
from stillhouse.reporting.shelf import Entry, Headline, Shelf, progress_of, when

ON_A_PAGE = 50
STATES = ("running", "finished", "stopped", "broken")


@dataclass(frozen=True)
class Asked:
    """What a visitor wants to see; everything is optional."""

    text: str = ""
    """In the name, method or data."""
    method: str = ""
    state: str = ""
    page: int = 1

    def link(self, page: int) -> str:
        """Address of another page of the same list."""
        given = {"text": self.text, "method": self.method, "state": self.state, "page": page if page > 1 else ""}
        return "/?" + urlencode({name: value for name, value in given.items() if value})


@dataclass(frozen=True)
class Row:
    """A run as the list shows it."""

    entry: Entry
    started: str
    words: str
    """Its outcome, progress or trouble."""
    metric: str = ""
    value: str = ""
    teacher: str = ""


def list_html(shelf: Shelf, asked: Asked, entries: Sequence[Entry] | None = None) -> str:
    """The list as an HTML fragment, of entries that are read already or now."""
    everything = shelf.entries() if entries is None else entries
    found = matching(shelf, everything, asked)
    pages = max(1, -(-len(found) // ON_A_PAGE))
    page = min(max(1, asked.page), pages)
    shown = found[(page - 1) * ON_A_PAGE : page * ON_A_PAGE]
    return render(
        "runs.html.j2",
        asked=asked,
        rows=[row_of(shelf, entry) for entry in shown],
        found=len(found),
        total=len(everything),
        page=page,
        pages=pages,
        methods=sorted({entry.method for entry in everything if entry.method}),
        states=STATES,
        folder=str(shelf.folder),
    )


def matching(shelf: Shelf, entries: Sequence[Entry], asked: Asked) -> list[Entry]:
    """The entries that are asked for; only "broken" needs the results themselves."""
    text = asked.text.casefold()
    if asked.state in ("broken", "finished"):
        entries = [shelf.looked_into(entry) for entry in entries]
    return [
        entry
        for entry in entries
        if (not text or text in f"{entry.name} {entry.method} {entry.data}".casefold())
        and asked.method in ("", entry.method)
        and asked.state in ("", entry.state)
    ]


def row_of(shelf: Shelf, entry: Entry) -> Row:
    """A run with what is to be said of it."""
    entry = shelf.looked_into(entry)
    if entry.state == "broken":
        return Row(entry, when(entry), entry.trouble)
    if entry.state == "finished":
        headline = shelf.headline(entry) or Headline("")
        value, teacher = (significant(v) if v is not None else "" for v in (headline.value, headline.teacher))
        return Row(entry, when(entry), headline.summary, headline.metric, value, teacher)
    progress = progress_of(entry.folder)
    if progress is None:
        return Row(entry, when(entry), "no update yet")
    of = f" of {progress.updates:,}" if progress.updates else ""
    return Row(entry, when(entry), f"{progress.stage}: update {progress.update:,}{of}")
