"""Search the run's report functions by words, at the exit of one's choice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stillhouse.core.result import Table
from stillhouse.core.trial import Choice, Number, Output, Ready, Text, Trial, Words
from stillhouse.corpus.code_sets import load_code
from stillhouse.methods.modular_encoder.model import load_model

if TYPE_CHECKING:
    from stillhouse.methods.modular_encoder.config import Config

SEARCHED = 400
"""Report functions at most: they are embedded at an exit when it is first asked for."""
SHOWN_LINES = 12


def code_trials(config_of: Callable[[Path], Config]) -> Mapping[str, Trial]:
    """What the method offers to try."""

    def open_run(run: Path) -> Ready:
        config, model = config_of(run), load_model(run / "model")
        functions = load_code(config.data, config.functions, config.seed).report[:SEARCHED]
        recommended = str(model.exit_of("auto"))

        @cache
        def embedded(exit: int) -> np.ndarray:
            return model.encode([f.code for f in functions], "code", exit, languages=[f.language for f in functions])

        def answer(query: str, exit: str, top: int) -> Iterator[Output]:
            there = embedded(int(exit))
            started = time.perf_counter()
            likeness = there @ model.encode([query], "text", int(exit))[0]
            order = np.argsort(-likeness)[:top]
            seconds = time.perf_counter() - started
            best = functions[int(order[0])]
            code = "\n".join(best.code.splitlines()[:SHOWN_LINES])
            yield Words(f"{best.name} ({best.path}, line {best.line})", code, seconds)
            rows = tuple((functions[int(i)].name, functions[int(i)].path, round(float(likeness[i]), 3)) for i in order)
            words = f"Of {len(functions)} functions that nothing was learned from, by their code alone."
            yield Table("The nearest functions", ("Function", "File", "Likeness"), rows, words)

        exits = tuple(map(str, model.exits))
        return Ready(
            {
                "query": Text("What the function does", "read a file and return its lines", 300),
                "exit": Choice("Exit (layers)", exits, recommended),
                "top": Number("Functions", 1, 20, 5),
            },
            answer,
        )

    about = "Functions that do what the words say, at the exit that you pay for."
    return {"search": Trial("Search code", about, open_run)}
