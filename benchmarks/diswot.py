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
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from diswot_scores import Known, cells, s1, scored
from diswot_students import ARMS, RECIPE, cell_student, student_cells, tiny_resnet, trained
from stillhouse.core.evidence import Bench, print_estimate

DRAWS = {"s1": {"kaiming": 2, "gaussian": 2}, "cells": {"kaiming": 2, "gaussian": 1}, "students": {"kaiming": 3}}
bench = Bench("diswot", Path(__file__).parent)
Piece = tuple[dict[str, Any], Callable[[], Any]]


def score_pieces(stage: str, networks: list[Known]) -> Iterator[Piece]:
    """A piece a network: every score of it."""
    for known in networks:
        key = {"stage": stage, "network": known.name, "draws": str(DRAWS[stage]), "version": 2}
        yield key, lambda known=known: scored(known.build(), DRAWS[stage])  # type: ignore[misc]


def student_score_pieces() -> Iterator[Piece]:
    """Scores of the networks that are trained here, on their own images and for their own teacher."""
    for cell in student_cells():
        key = {"stage": "student scores", "network": cell, "draws": str(DRAWS["students"]), "version": 1}
        yield key, lambda cell=cell: scored(cell_student(cell), DRAWS["students"], "fashion")  # type: ignore[misc]


def student_pieces() -> Iterator[Piece]:
    """Trainings of every student, distilled and alone; then distilled once more, for the noise ceiling."""
    for losses, seed in ((("kd",), 0), ((), 0), (("kd",), 1)):
        for cell in student_cells():
            key = {"stage": "students", "network": cell, "losses": losses, "seed": seed, "recipe": repr(RECIPE)}
            yield key, lambda c=cell, k=losses, s=seed: trained(cell_student(c), "fashion", k, s)  # type: ignore[misc]


def distiller_pieces(data: str, seeds: int) -> Iterator[Piece]:
    """Every sum of losses on one student of a tenth of the teacher's size."""
    for seed in range(seeds):
        for name, losses in ARMS.items():
            key = {"stage": "distillers", "data": data, "arm": name, "seed": seed, "recipe": repr(RECIPE)}
            channels = 1 if data == "fashion" else 3
            yield key, lambda c=channels, k=losses, s=seed: trained(tiny_resnet(c), data, k, s)  # type: ignore[misc]


STAGES: dict[str, tuple[Callable[[], Iterator[Piece]], float]] = {
    "s1": (lambda: score_pieces("s1", s1()), 8.0),
    "cells": (lambda: score_pieces("cells", cells()), 3.0),
    "students": (lambda: chain(student_score_pieces(), student_pieces()), 2.5),
    "distillers": (lambda: distiller_pieces("fashion", 5), 2.5),
    "resnet56": (lambda: distiller_pieces("cifar", 2), 8.0),
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
