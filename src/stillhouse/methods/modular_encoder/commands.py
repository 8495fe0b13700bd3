"""`stillhouse code`: index a folder, search it by words or by code, and take one exit away."""

from __future__ import annotations

import json as json_module
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console
from rich.syntax import Syntax

from stillhouse.core.errors import UserError, require
from stillhouse.corpus.bm25 import words
from stillhouse.corpus.code_files import SUFFIXES, Skipped, read_source
from stillhouse.corpus.code_functions import Function, functions
from stillhouse.methods.modular_encoder.exporting import export_exit, export_onnx
from stillhouse.methods.modular_encoder.index import Header, Index, Row, open_index, require_fit, update_index
from stillhouse.methods.modular_encoder.model import CodeEncoder, load_model

PLACE = Path(".stillhouse") / "code"
"""Of an index inside the folder it is of."""


def open_run(run: Path) -> CodeEncoder:
    """The model of a finished run, or of an exported folder.

    Raises:
        UserError: neither.
    """
    folder = run if (run / "exits.json").exists() else run / "model"
    require(
        (folder / "exits.json").exists(),
        f"no code encoder in {run}",
        "give a finished run of modular_encoder, or a folder made by: stillhouse code export",
    )
    return load_model(folder)


def index(
    folder: tyro.conf.Positional[Path],
    run: Path,
    exit: int | Literal["auto"] = "auto",
    index: Path | None = None,
    docs: bool = True,
    rebuild: bool = False,
    quiet: bool = False,
) -> None:
    """Make or bring up to date the index of a folder of source code.

    Args:
        folder: of source code; only files that changed since the last time are read.
        run: a finished run of modular_encoder, or an exported exit.
        exit: layer whose embeddings to use; auto takes the recommended one.
        index: where to keep the index; .stillhouse/code in the folder by default.
        docs: read documentation with the code.
        rebuild: forget the index that is there.
        quiet: no progress.
    """
    model = open_run(run)
    place = index or folder / PLACE
    header = Header(model.hash(), model.exit_of(exit), docs, str(run.resolve()), str(folder.resolve()))
    started = time.monotonic()
    made, counts, skipped = update_index(folder, place, header, model, rebuild=rebuild, quiet=quiet)
    print(
        f"{place}: {len(made.rows):,} functions at exit {header.exit} in {time.monotonic() - started:.1f} s; files: "
        + ", ".join(f"{n:,} {what}" for what, n in counts.items())
    )
    if skipped.counts:
        print(f"skipped: {skipped.words()}")


@dataclass(frozen=True)
class Found:
    """A function that answers, and its text."""

    row: Row
    score: float
    text: str
    """"" where the file is gone or shorter than it was."""


def search(
    query: tyro.conf.Positional[str],
    index: Path | None = None,
    run: Path | None = None,
    exit: int | None = None,
    top: int = 5,
    lines: int = 8,
    json: bool = False,
) -> None:
    """Functions that do what the words say.

    Args:
        query: in words.
        index: the index; by default the nearest .stillhouse/code, from here upwards.
        run: the run that made the index, if it has moved.
        exit: refused if it is not the index's: exits have different spaces.
        top: how many functions.
        lines: of each function to show.
        json: machine-readable.
    """
    require(bool(query.strip()), "an empty query", 'say what to look for: stillhouse code search "parse an iso date"')
    found, model = _opened(index, run, exit)
    started = time.perf_counter()
    vector = model.encode([query], "text", found.header.exit)[0]
    answers = found.search(vector, top)
    _show(found, answers, query, lines, json, time.perf_counter() - started)


def similar(
    place: tyro.conf.Positional[str],
    index: Path | None = None,
    run: Path | None = None,
    exit: int | None = None,
    top: int = 5,
    lines: int = 8,
    json: bool = False,
) -> None:
    """Functions like the one at FILE:LINE.

    Args:
        place: FILE:LINE, any line of the function.
        index: the index; by default the nearest .stillhouse/code, from here upwards.
        run: the run that made the index, if it has moved.
        exit: refused if it is not the index's: exits have different spaces.
        top: how many functions.
        lines: of each function to show.
        json: machine-readable.
    """
    function, path = function_at(place)
    found, model = _opened(index, run, exit)
    started = time.perf_counter()
    text = f"{function.doc}\n{function.code}" if found.header.docs and function.doc else function.code
    vector = model.encode([text], "code", found.header.exit, languages=function.language)[0]
    answers = [
        (row, score)
        for row, score in found.search(vector, top + 1)
        if not (row.line == function.line and (Path(found.header.folder) / row.path).resolve() == path.resolve())
    ]
    _show(found, answers[:top], function.code, lines, json, time.perf_counter() - started)


def function_at(place: str) -> tuple[Function, Path]:
    """The innermost function around a line of a file.

    Raises:
        UserError: not FILE:LINE, no such file, or no function there.
    """
    name, _, line = place.rpartition(":")
    require(bool(name) and line.isdigit(), f"{place!r} is not FILE:LINE", "e.g. src/app.py:120")
    path = Path(name)
    require(path.is_file(), f"no file {name}", "check the path")
    require(
        path.suffix.lower() in SUFFIXES, f"{name} is in no language that is read here", f"endings: {' '.join(SUFFIXES)}"
    )
    skipped = Skipped()
    file = read_source(path, path.parent, "", skipped)
    around = [f for f in (functions(file, skipped) if file else []) if f.line <= int(line) <= f.end_line]
    if not around:
        raise UserError(
            f"no function around line {line} of {name}" + (f" ({skipped.words()})" if skipped.counts else ""),
            "give a line inside a function",
        )
    return min(around, key=lambda f: f.end_line - f.line), path


def _opened(place: Path | None, run: Path | None, exit: int | None) -> tuple[Index, CodeEncoder]:
    found = open_index(place or _nearest(), exit)
    model = open_run(run or Path(found.header.run))
    require_fit(found, model)
    return found, model


def _nearest() -> Path:
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / PLACE).is_dir():
            return folder / PLACE
    raise UserError(
        f"no index here or above ({PLACE})",
        "make one with: stillhouse code index FOLDER --run RUN, or name one with --index",
    )


def _show(index: Index, answers: list[tuple[Row, float]], query: str, lines: int, json: bool, seconds: float) -> None:
    found = [Found(row, score, _text(Path(index.header.folder) / row.path, row)) for row, score in answers]
    if json:
        rows = [
            {
                "file": f.row.path,
                "line": f.row.line,
                "end_line": f.row.end_line,
                "name": f.row.name,
                "language": f.row.language,
                "score": round(f.score, 4),
                "text": f.text,
            }
            for f in found
        ]
        print(
            json_module.dumps(
                {"folder": index.header.folder, "exit": index.header.exit, "seconds": seconds, "results": rows},
                indent=1,
            )
        )
        return
    console = Console()
    for one in found:
        console.print(
            f"{one.score:.3f}  {one.row.path}:{one.row.line}  {one.row.name}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
        _print_snippet(console, one, query, lines)
    print(f"{len(index.rows):,} functions searched at exit {index.header.exit} in {1000 * seconds:.0f} ms")


def _text(path: Path, row: Row) -> str:
    try:
        content = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return ""
    return "\n".join(content[row.line - 1 : row.end_line])


def _print_snippet(console: Console, found: Found, query: str, lines: int) -> None:
    """The function's lines around the one that shares most words with the query, which is marked."""
    if not found.text:
        print("    (the file has changed or is gone; index again)")
        return
    content = found.text.split("\n")
    wanted = set(words(query))
    best = max(range(len(content)), key=lambda i: (len(wanted & set(words(content[i]))), -i))
    start = 0 if best < lines else best - lines // 2
    shown = content[start : start + lines]
    first = found.row.line + start
    if console.is_terminal:
        language = {"c_sharp": "csharp"}.get(found.row.language, found.row.language)
        console.print(
            Syntax(
                "\n".join(shown), language, line_numbers=True, start_line=first, highlight_lines={found.row.line + best}
            )
        )
        return
    for number, line in enumerate(shown, first):
        print(f"  {'>' if number == found.row.line + best else ' '} {number:5}  {line.rstrip()}")


def exits(run: tyro.conf.Positional[Path], json: bool = False) -> None:
    """The measured table of a model's exits.

    Args:
        run: a finished run of modular_encoder, or an exported exit.
        json: machine-readable.
    """
    model = open_run(run)
    rows = [vars(row) for row in model.settings.table]
    if json:
        print(json_module.dumps({"recommended": model.settings.recommended, "exits": rows}, indent=1))
        return
    print("exit  parameters  select MRR  ms a description")
    for row in model.settings.table:
        mark = "  recommended" if row.exit == model.settings.recommended else ""
        print(f"{row.exit:4}  {row.parameters:10,}  {row.select:10.3f}  {row.milliseconds:16.2f}{mark}")


def export(
    run: tyro.conf.Positional[Path], out: Path, exit: int | Literal["auto"] = "auto", onnx: bool = False
) -> None:
    """One exit as a model of its own.

    Args:
        run: a finished run of modular_encoder.
        out: a new folder; sentence-transformers opens it, and it can be given as --run.
        exit: which; auto takes the recommended one.
        onnx: write model.onnx too, and check it against the network.
    """
    model = open_run(run)
    at = model.exit_of(exit)
    cut = export_exit(model, at, out)
    size = sum(p.numel() for p in cut.encoder.parameters())
    print(f"{out}: exit {at}, {size:,} parameters")
    if onnx:
        print(f"{out / 'model.onnx'}: differs from the network by {export_onnx(cut, out / 'model.onnx'):.1g} at most")


COMMANDS: dict[str, Callable[..., None]] = {
    "index": index,
    "search": search,
    "similar": similar,
    "exits": exits,
    "export": export,
}
