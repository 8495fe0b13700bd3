"""Try the rewriter: a sentence, a control code, and what the student makes of it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from stillhouse.core.result import Table
from stillhouse.core.trial import Choice, Number, Output, Ready, Text, Trial, Words
from stillhouse.methods.impossible.rewriter import load_rewriter
from stillhouse.methods.impossible.vocabulary import CODES

NONE = "none"


def open_run(run: Path) -> Ready:
    """The student of the run."""
    rewriter = load_rewriter(run / "model")
    codes = {code.strip("<>"): code for code in CODES}

    def answer(text: str, code: str, outputs: int, seed: int) -> Iterator[Output]:
        started = time.perf_counter()
        made = rewriter(text, codes=(codes[code],) if code in codes else (), outputs=outputs, seed=seed)
        seconds = time.perf_counter() - started
        yield Words("In other words" if rewriter.task == "paraphrase" else "In short", made[0], seconds)
        if len(made) > 1:
            yield Table("Others that it drew", ("Text",), tuple((other,) for other in made[1:]))

    return Ready(
        {
            "text": Text("Text", "Anna bought two lamps from Peter in the market.", 600, lines=3),
            "code": Choice("Control code", (NONE, *codes), NONE),
            "outputs": Number("Outputs", 1, 5, 1),
            "seed": Number("Draw number", 0, 1_000_000, 0),
        },
        answer,
    )


TRIALS: Mapping[str, Trial] = {
    "rewrite": Trial("Rewrite a text", "What the student makes of a text, under a control code if you like.", open_run)
}
