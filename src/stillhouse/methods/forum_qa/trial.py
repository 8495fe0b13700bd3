"""Ask a finished run: the surest passages, the answer marked, how sure, or that there is none."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from stillhouse.core.result import Table
from stillhouse.core.trial import Number, Output, Ready, Text, Trial, Words
from stillhouse.methods.forum_qa import ask
from stillhouse.methods.forum_qa.ask import HELP, SAFETY, highlighted, replies


def open_run(run: Path) -> Ready:
    """Reader and passages of the run."""
    reader, passages = ask.open_run(run)

    def answer(question: str, top: int) -> Iterator[Output]:
        started = time.perf_counter()
        found = replies(reader, passages, question, top)
        seconds = time.perf_counter() - started
        if found is None:
            yield Words("Please read this", HELP)
            return
        if not found:
            yield Words("No passage is about that", SAFETY, seconds)
            return
        first = found[0]
        yield Words("Answer", "no answer" if first.span is None else first.span.of(first.passage), seconds)
        rows = tuple((highlighted(one, colour=False), round(one.confidence, 3)) for one in found)
        yield Table("Where it is said, between » and «", ("Passage", "Confidence"), rows, SAFETY)

    return Ready(
        {"question": Text("Question", "How does it affect sleep?", 300), "top": Number("Passages", 1, 10, 3)}, answer
    )


TRIALS: Mapping[str, Trial] = {
    "ask": Trial("Ask a question", "The passages that answer, with the answer marked, or that none does.", open_run)
}
