"""Trials of a finished run's model: opened once, asked one at a time, shown as HTML."""

from __future__ import annotations

import base64
import io
import itertools
import logging
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stillhouse.catalog import load_method
from stillhouse.core.errors import UserError, first_line
from stillhouse.core.result import Table
from stillhouse.core.trial import Output, Ready, Shown, Trial, within_bounds
from stillhouse.reporting.page import render

KEPT = 4
"""Models in memory at once."""
DONE = object()
_numbers = itertools.count()


def trials_of(method: str) -> Mapping[str, Trial]:
    """What the method offers to try; nothing where its packages are missing.

    The method is imported here, which takes seconds.
    """
    try:
        return dict(getattr(load_method(method), "TRIALS", {}))
    except UserError:
        return {}


class Bench:
    """The models that are being tried. Its methods take turns in one thread, so that two visitors do not halve the machine."""

    def __init__(self) -> None:
        self._ready: OrderedDict[tuple[Path, str], Ready] = OrderedDict()

    def open(self, folder: Path, method: str, word: str) -> tuple[Trial, Ready]:
        """The trial, its model loaded.

        Raises:
            UserError: there is no such trial, or the model cannot be opened.
        """
        trials = trials_of(method)
        if word not in trials:
            raise UserError(f"{method} offers no trial {word!r}", f"it offers: {', '.join(trials) or 'none'}")
        key = (folder, word)
        if key not in self._ready:
            self._ready[key] = _guarded(trials[word].open, folder)
            while len(self._ready) > KEPT:
                self._ready.popitem(last=False)
        self._ready.move_to_end(key)
        return trials[word], self._ready[key]

    def start(self, ready: Ready, given: Mapping[str, Any]) -> Iterator[Output]:
        """The answers to these inputs, made as they are asked for.

        Raises:
            UserError: an input is out of its bounds.
        """
        return iter(_guarded(ready.answer, **within_bounds(ready.inputs, given)))

    def following(self, answers: Iterator[Output]) -> Any:
        """The next answer, or DONE."""
        return _guarded(next, answers, DONE)


def _guarded(function: Any, *args: Any, **named: Any) -> Any:
    """A broken model is a message on its own page."""
    try:
        return function(*args, **named)
    except UserError:
        raise
    except Exception as error:
        logging.getLogger("stillhouse").exception("a trial failed")
        raise UserError(f"it failed ({first_line(error)})", "the log of the server has the traceback") from error


def output_html(output: Output) -> str:
    """One answer as an HTML fragment."""
    data = _data_uri(output) if isinstance(output, Shown) else ""
    kind = "Table" if isinstance(output, Table) else type(output).__name__
    return render("output.html.j2", output=output, kind=kind, data=data, number=next(_numbers))


def _data_uri(shown: Shown) -> str:
    file = io.BytesIO()
    shown.picture.save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
