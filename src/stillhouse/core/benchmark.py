"""What benchmark scripts share: their options, and the loop over the pieces that are not on disk yet.

    parser = script_parser(__doc__, PARTS)
    options = parser.parse_args()
    run_script(bench, options, lambda part: pieces(part, options.seeds), write=write, table=table)

A script is started again until all is there: it computes what is missing, and writes the result file from what is on disk.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from stillhouse.core.evidence import Bench, print_estimate


class Work(NamedTuple):
    """One piece of a benchmark."""

    key: dict[str, Any]
    """What decides its value; the piece is found on disk by it."""
    compute: Callable[[], Any]
    """Makes its JSON value."""
    seconds: float
    """Processor seconds that it takes, about."""


def script_parser(
    description: str | None, parts: Sequence[str], *, option: str = "--parts", table: str = "the tables of the document"
) -> argparse.ArgumentParser:
    """A parser of --parts, --minutes, --estimate and --table, to which a script adds options of its own.

    Args:
        description: the script's docstring.
        parts: names that `option` takes; all by default. They are found as `options.parts`.
        option: how the script calls them.
        table: what --table prints.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(option, dest="parts", nargs="*", choices=list(parts), default=list(parts))
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start no further piece after that long")
    parser.add_argument("--estimate", action="store_true", help="say what it would take, and stop")
    parser.add_argument("--table", action="store_true", help=f"print {table} from what is there, and stop")
    return parser


def run_script(
    bench: Bench,
    options: argparse.Namespace,
    pieces: Callable[[str], Iterable[Work]],
    *,
    write: Callable[[], Path],
    table: Callable[[], str],
) -> None:
    """Do what the options of `script_parser` ask for.

    Args:
        pieces: the work of a part; asked for again after the parts before it, whose pieces it may share.
        write: makes the result file from what is on disk.
        table: makes the tables of the document from what is on disk.
    """
    if options.table:
        print(table())
        return
    _compute_missing(bench, options, pieces)
    if not options.estimate:
        print(f"written: {write()}")


def _compute_missing(bench: Bench, options: argparse.Namespace, pieces: Callable[[str], Iterable[Work]]) -> None:
    started = time.monotonic()
    for part in options.parts:
        left = [work for work in pieces(part) if not bench.has(work.key)]
        print_estimate(part, sum(work.seconds for work in left), len(left))
        for work in left if not options.estimate else ():
            if time.monotonic() - started > 60 * options.minutes:
                break
            print(f"{time.strftime('%H:%M:%S')} {', '.join(f'{k} {v}' for k, v in work.key.items())}", flush=True)
            bench.piece(work.key, work.compute)
