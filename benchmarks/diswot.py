"""DisWOT's claims: what scores say about distilled accuracy, also at equal cost; what a search costs; the distillers.

    python benchmarks/diswot.py                     # everything; pieces that are on disk are not computed again
    python benchmarks/diswot.py --stages s1 cells   # some: s1 cells students distillers found speed
    python benchmarks/diswot.py --minutes 20        # start no further piece after that long, write what is there
    python benchmarks/diswot.py --table             # the tables of docs/methods/diswot.md, from the result file

s1: the 64 ResNets of the authors' release with their CIFAR-100 accuracies, alone and distilled. cells: cells of NAS-Bench-201 with
CIFAR-10 and CIFAR-100 accuracies, trained alone (a 15,625-cell table; networks of one cell a stage are scored). Both are scored on
64 CIFAR-10 images and with ResNet-56 as teacher. students: networks that are trained here, with and without a teacher.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from diswot_scores import Known, cells, s1, scored
from stillhouse.core.evidence import Bench, print_estimate

DRAWS = {"s1": {"kaiming": 3, "gaussian": 2}, "cells": {"kaiming": 2, "gaussian": 1}}
bench = Bench("diswot", Path(__file__).parent)
Piece = tuple[dict[str, Any], Callable[[], Any]]


def score_pieces(stage: str, networks: list[Known]) -> Iterator[Piece]:
    """A piece a network: every score of it."""
    for known in networks:
        key = {"stage": stage, "network": known.name, "draws": str(DRAWS[stage]), "version": 1}
        yield key, lambda known=known: scored(known.build(), DRAWS[stage])  # type: ignore[misc]


STAGES: dict[str, tuple[Callable[[], Iterator[Piece]], float]] = {
    "s1": (lambda: score_pieces("s1", s1()), 8.0),
    "cells": (lambda: score_pieces("cells", cells()), 3.0),
}
"""Pieces of each stage, and seconds that one takes."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stages", nargs="*", choices=list(STAGES), default=list(STAGES))
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    started = time.monotonic()
    for stage in options.stages:
        pieces, seconds = STAGES[stage]
        listed = list(pieces())
        left = [piece for piece in listed if not bench.has(piece[0])]
        print_estimate(stage, seconds * len(left), len(left))
        for key, compute in left:
            if time.monotonic() - started > 60 * options.minutes:
                break
            bench.piece(key, compute)


if __name__ == "__main__":
    main()
