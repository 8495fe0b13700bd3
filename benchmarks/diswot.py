"""DisWOT's claims: what scores say about distilled accuracy, also at equal cost; what a search costs; the distillers.

    python benchmarks/diswot.py                     # everything; pieces that are on disk are not computed again
    python benchmarks/diswot.py --stages s1 cells   # some: s1 cells students distillers found speed
    python benchmarks/diswot.py --minutes 20        # start no further piece after that long, write what is there
    python benchmarks/diswot.py --table             # the tables of docs/methods/diswot.md, from the result file

s1: the 64 ResNets of the authors' release with their CIFAR-100 accuracies, alone and distilled. cells: cells of NAS-Bench-201 with
CIFAR-10 and CIFAR-100 accuracies, trained alone (a 15,625-cell table; networks of one cell a stage are scored). Both are scored on
64 CIFAR-10 images averaged to 16 x 16, with ResNet-56 at 32 x 32 as teacher. students: networks that are trained here, with and without a teacher.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from diswot_claims import (
    OURS,
    Networks,
    distiller_arms,
    distiller_claims,
    pair_claim,
    regret_claim,
    score_arms,
    score_claims,
    table_of,
)
from diswot_scores import Known, cells, s1, scored
from diswot_students import ARMS, RECIPE, cell_student, student_cells, tiny_resnet, trained
from stillhouse.core.benchmark import Work, run_script, script_parser
from stillhouse.core.evidence import Bench, Claim, read_evidence

DRAWS = {"s1": {"kaiming": 3, "gaussian": 3}, "cells": {"kaiming": 2, "gaussian": 2}, "students": {"kaiming": 3}}
bench = Bench("diswot", Path(__file__).parent)
Piece = tuple[dict[str, Any], Callable[[], Any]]


def score_pieces(stage: str, networks: list[Known]) -> Iterator[Piece]:
    """A piece a network: every score of it."""
    for known in networks:
        key = {"stage": stage, "network": known.name, "draws": str(DRAWS[stage]), "version": 3}
        yield key, lambda known=known: scored(known.build(), DRAWS[stage])  # type: ignore[misc]


def student_score_pieces() -> Iterator[Piece]:
    """Scores of the networks that are trained here, on their own images and for their own teacher."""
    for cell in student_cells():
        key = {"stage": "student scores", "network": cell, "draws": str(DRAWS["students"]), "version": 1}
        yield key, lambda cell=cell: scored(cell_student(cell), DRAWS["students"], "fashion")  # type: ignore[misc]


def student_pieces() -> Iterator[Piece]:
    """Trainings of every student, distilled and alone; then distilled once more, for the noise ceiling."""
    for losses, seed in TRAININGS:
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
    "distillers": (lambda: distiller_pieces("fashion", SEEDS["fashion"]), 2.5),
    "resnet56": (lambda: distiller_pieces("cifar", SEEDS["cifar"]), 8.0),
}
"""Pieces of each stage, and seconds that one takes."""


TRAININGS: tuple[tuple[tuple[str, ...], int], ...] = ((("kd",), 0), ((), 0), (("kd",), 1))
"""Losses and seed of a student's trainings, the most important first."""
SEEDS = {"fashion": 3, "cifar": 2}
ENOUGH = 24
"""Networks that a set must have before anything is said of it."""


def stage_pieces(stage: str) -> Iterator[Work]:
    """The work of a stage."""
    pieces, seconds = STAGES[stage]
    for key, compute in pieces():
        yield Work(key, compute, seconds)


def main() -> None:
    parser = script_parser(__doc__, list(STAGES), option="--stages", table="the tables of docs/methods/diswot.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    run_script(bench, options, stage_pieces, write=write, table=tables)


def tables() -> str:
    """From the result file."""
    arms = read_evidence(bench.results_file).arms
    sets = dict.fromkeys(claimed.claim for claimed in arms if claimed.claim.startswith("scores"))
    return "\n".join(f"\n**{name}**\n\n{table_of(arms, name)}" for name in sets)


def write() -> Path:
    """The result file from what is on disk."""
    claims = []
    for networks, paper in known_networks():
        bench.arms += score_arms(networks)
        claims += score_claims(networks, paper)
        claims.append(regret_claim(networks, OURS))
    claims += accuracy_claims() + training_claims()
    return bench.write(claims)


def kept(pieces: Iterator[Piece], names: list[Known] | None = None) -> list[Any]:
    """Values of the pieces that are on disk; all of them or, with `names`, beside their networks."""
    found = [bench.kept(key) for key, _ in pieces]
    return [(a, b) for a, b in zip(names, found, strict=True) if b] if names else [value for value in found if value]


def known_networks() -> Iterator[tuple[Networks, float | None]]:
    """The sets of networks that have enough scores on disk, under each accuracy, with the paper's tau."""
    for stage, title, listed, cost, within, papers in (
        ("s1", "64 ResNets", s1(), "parameters", 1.2, {"distilled": 0.71, "vanilla": None}),
        ("cells", "cells of NAS-Bench-201", cells(), "live_macs", 1.01, {"cifar10": 0.47, "cifar100": 0.471}),
    ):
        rows = kept(score_pieces(stage, listed), listed)
        if len(rows) < ENOUGH:
            continue
        for truth, paper in papers.items():
            yield Networks(title, truth, [r for _, r in rows], [k.truth[truth] for k, _ in rows], cost, within), paper
    if students := scored_students():
        yield students, None


def scored_students() -> Networks | None:
    """The students that have scores and a distilled accuracy on disk."""
    found = [
        (bench.kept(scores), accuracy)
        for (scores, _), accuracy in zip(student_score_pieces(), trained_accuracies(("kd",), 0), strict=True)
        if accuracy is not None and bench.has(scores)
    ]
    if len(found) < ENOUGH:
        return None
    return Networks("students trained here", "distilled", [s for s, _ in found], [a for _, a in found], "live_macs")


def trained_accuracies(losses: tuple[str, ...], seed: int) -> list[float | None]:
    """Of the students in order; None for those that are not trained yet."""
    found = [bench.kept(key) for key, _ in student_pieces() if key["losses"] == losses and key["seed"] == seed]
    return [value and value["accuracy"] for value in found]


def accuracy_claims() -> list[Claim]:
    """C1: are the best networks alone and distilled the same?"""
    claims, listed = [], s1()
    rows = kept(score_pieces("s1", listed), listed)
    if len(rows) == len(listed):
        pairs = Networks(
            "64 ResNets", "distilled", [r for _, r in rows], [k.truth["distilled"] for k in listed], "parameters"
        )
        vanilla = [k.truth["vanilla"] for k in listed]
        claims.append(
            pair_claim(
                pairs,
                vanilla,
                "C1",
                "Tau between accuracy alone and distilled (the paper: the best network is not the same)",
                "<= 0.9",
                "best alone 777, best distilled 557",
            )
        )
    first = trained_accuracies(("kd",), 0)
    for losses, seed, id_, statement, threshold in (
        ((), 0, "C1", "Tau between accuracy alone and distilled, same seed", "<= 0.9"),
        (("kd",), 1, "ceiling", "Tau between two seeds of the distilled accuracy: what a score could reach", ">= 0.6"),
    ):
        pairs = [
            (a, b)
            for a, b in zip(first, trained_accuracies(losses, seed), strict=True)
            if a is not None and b is not None
        ]
        if len(pairs) >= ENOUGH:
            students = Networks("students trained here", "distilled", [], [a for a, _ in pairs], "live_macs")
            claims.append(pair_claim(students, [b for _, b in pairs], id_, statement, threshold))
    return claims


def training_claims() -> list[Claim]:
    """The distillers, and what training costs against scoring."""
    claims = []
    for data, title in (("fashion", "Fashion-MNIST at 8 x 8"), ("cifar", "CIFAR-10 (JPEG), ResNet-56")):
        by_arm: dict[str, list[dict[str, float]]] = {name: [] for name in ARMS}
        for key, _ in distiller_pieces(data, SEEDS[data]):
            if value := bench.kept(key):
                by_arm[key["arm"]].append(value)
        seeds = min(map(len, by_arm.values()))
        if seeds >= 2:
            bench.arms += distiller_arms(by_arm, title)
            accuracies = {name: [value["accuracy"] for value in found[:seeds]] for name, found in by_arm.items()}
            claims += distiller_claims(accuracies, title, "KD + relation + semantic (DisWOT+)")
    return claims


if __name__ == "__main__":
    main()
