"""Scores of the networks whose accuracy is known: the pieces of stages `s1`, `cells` and `students` of diswot.py."""

from __future__ import annotations

import csv
import gzip
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import nn

from stillhouse.core.data import PublicFile, find_public_file
from stillhouse.core.seeding import generator
from stillhouse.methods.diswot.initialise import initialise
from stillhouse.methods.diswot.scoring import SCORES, Judge, Setting, look, make_judge, mean_and_spread, places_in
from stillhouse.methods.diswot.scoring import _value as value_of
from stillhouse.vision.cells import CellNetwork, cell_of, live_cost, live_edges
from stillhouse.vision.classes import Batch, class_batch, class_splits
from stillhouse.vision.images import load_images
from stillhouse.vision.resnets import CifarResNet, released_resnet

STATES = ("random", "permuted", "noise", "trained")
PAIRED = ("relation", "channel_relation", "semantic", "semantic_exact", "diswot", "class_gram", "cam_relation")
TRAINED = (*PAIRED[:3], "cam_relation", "teacher_regression", "logit_alignment")
KD = ("kd", "rkd", "cc", "attention", "nst", "pkt")
ALONE = ("sample_uniformity", "channel_uniformity", "vanished", "nwot", "synflow", "grad_norm", "snip")
COSTS = ("parameters", "macs", "live_macs")
SLOW = ("fisher", "grasp", "jacob_cov", "zen")
"""Of one draw only."""
S1_FILE = PublicFile(
    "diswot_s1/s1_ground_truth.csv", "lliai/DisWOT-CVPR2023 on GitHub, exps/s1-gt-cls.txt and s1-gt-kd.txt joined"
)
CELLS_FILE = PublicFile(
    "nasbench201/nasbench201_test_accuracy.csv.gz", "v-tao/nats-bench-landscape on GitHub, nats_bench.csv"
)


@dataclass(frozen=True)
class Known:
    """A network whose accuracies are known."""

    name: str
    truth: Mapping[str, float]
    build: Any
    """() -> module"""


def s1() -> list[Known]:
    """The 64 ResNets of the release, CIFAR-100 accuracy alone and distilled."""
    with find_public_file(S1_FILE).open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [
        Known(
            row["depths"],
            {"distilled": float(row["distilled_top1"]), "vanilla": float(row["vanilla_top1"])},
            lambda row=row: CifarResNet(3, 10, [int(d) for d in row["depths"]], (16, 32, 64)),
        )
        for row in rows
    ]


@cache
def all_cells() -> list[tuple[str, float, float]]:
    """(string, CIFAR-10, CIFAR-100) of every cell that is connected."""
    with gzip.open(find_public_file(CELLS_FILE), "rt", encoding="utf-8") as file:
        rows = [(row["arch"], float(row["cifar10"]), float(row["cifar100"])) for row in csv.DictReader(file)]
    return [row for row in rows if any(live_edges(cell_of(row[0])))]


LEVELS = (18, 20, 28)
"""Live costs at which further cells are drawn, so that pairs of equal cost are many."""


def cells(count: int = 200, at_level: int = 40) -> list[Known]:
    """Uniformly drawn connected cells, then some at each of a few live costs."""
    rng = random.Random(20)
    table = all_cells()
    chosen = rng.sample(table, count)
    taken = {row[0] for row in chosen}
    for level in LEVELS:
        rest = [row for row in table if live_cost(cell_of(row[0])) == level and row[0] not in taken]
        chosen += rng.sample(rest, at_level)
    return [
        Known(s, {"cifar10": a, "cifar100": b}, lambda s=s: CellNetwork(3, 10, cell_of(s), 16, 1)) for s, a, b in chosen
    ]


@cache
def batches(draws: int) -> tuple[Batch, ...]:
    """Batches of 64 training images of CIFAR-10."""
    train = class_splits(load_images("cifar10"), most=5000).train
    return tuple(class_batch(train, 64, seed) for seed in range(draws))


@cache
def teachers(scheme: str, draws: int) -> dict[str, Judge]:
    """ResNet-56 in every state, on every draw's batch."""
    trained = released_resnet("resnet56-cifar10")
    return {
        state: make_judge(Setting(("relation",), draws, scheme, teacher=state), batches(draws), trained)  # type: ignore[arg-type]
        for state in STATES
    }


def scored(network: nn.Module, draws: Mapping[str, int]) -> dict[str, list[float]]:
    """Every score of a network by "scheme/teacher/name": a value for each draw."""
    found: dict[str, list[float]] = {}
    for scheme, count in draws.items():
        judges = teachers(scheme, count)
        for draw in range(count):
            initialise(network, scheme, generator(0, "student", draw))  # type: ignore[arg-type]
            batch = batches(count)[draw]
            sight = look(network, batch, places_in(network, batch.shape))
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(draw)
                for state, name in wanted(scheme, draw):
                    value = value_of(name, judges[state or "random"].teachers[draw], sight)
                    found.setdefault(f"{scheme}/{state or 'none'}/{name}", []).append(value)
    return found


def wanted(scheme: str, draw: int) -> Iterator[tuple[str, str]]:
    """(state of the teacher or "", score)."""
    for state in STATES[:3]:
        yield from ((state, name) for name in PAIRED)
    yield from (("trained", name) for name in TRAINED)
    yield from (("random", name) for name in KD)
    yield from (("", name) for name in ALONE)
    if scheme == "kaiming" and draw == 0:
        yield from (("", name) for name in (*COSTS, *SLOW))


def means(rows: Sequence[Mapping[str, list[float]]], key: str, draw: int | None = None) -> list[float]:
    """A score of every network: mean over the draws, or one draw."""
    return [mean_and_spread(row[key])[0] if draw is None else row[key][draw] for row in rows]


assert {*PAIRED, *TRAINED, *KD, *ALONE, *COSTS, *SLOW} == set(SCORES)
