"""Scores of the networks whose accuracy is known: the pieces of stages `s1`, `cells` and `students` of diswot.py."""

from __future__ import annotations

import copy
import csv
import gzip
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from diswot_teacher import fashion, fashion_teacher
from stillhouse.core.cache import cached_folder
from stillhouse.core.data import PublicFile, find_public_file
from stillhouse.core.seeding import generator
from stillhouse.methods.diswot.initialise import Scheme, initialise
from stillhouse.methods.diswot.scoring import (
    SCORES,
    Sight,
    TeacherState,
    look,
    mean_and_spread,
    places_in,
    value_of,
    without_information,
)
from stillhouse.vision.cells import CellNetwork, cell_of, live_cost, live_edges
from stillhouse.vision.classes import Batch, class_batch, class_splits
from stillhouse.vision.images import load_images
from stillhouse.vision.resnets import CifarResNet, released_resnet
from stillhouse.vision.soft_outputs import weights_hash

MOST_DRAWS = 5
CONTROLS: tuple[TeacherState, ...] = ("permuted", "noise")
EQUAL_WIDTHS = ("channel_relation", "semantic", "semantic_exact", "diswot")
PAIRED = ("relation", "channel_relation", "semantic", "semantic_exact", "diswot", "class_gram", "cam_relation")
TRAINED = (*PAIRED[:3], "cam_relation", "teacher_regression", "logit_alignment")
KD = ("kd", "rkd", "cc", "attention", "nst", "pkt")
ALONE = ("sample_uniformity", "channel_uniformity", "vanished", "nwot", "synflow", "grad_norm", "snip")
COSTS = ("parameters", "macs", "live_macs")
SLOW = ("fisher", "grasp", "jacob_cov", "zen")
"""On every fourth image of one draw."""
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


def cells(count: int = 120, at_level: int = 20) -> list[Known]:
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
def batches(draws: int, data: str) -> tuple[Batch, ...]:
    """Batches of 64 training images as the teacher sees them, kept so that they are read from the whole set once."""

    def make(folder: Path) -> None:
        train = class_splits(load_images("cifar10"), most=5000).train if data == "cifar" else fashion().train
        for seed in range(MOST_DRAWS):
            batch = class_batch(train, 64, seed)
            save_file({"images": batch.images.contiguous(), "labels": batch.labels}, folder / f"{seed}.safetensors")

    folder = cached_folder("diswot batches", (data, "64 of 5000", str(MOST_DRAWS)), make)
    return tuple(Batch(**load_file(folder / f"{seed}.safetensors")) for seed in range(draws))


def as_students_see(batch: Batch) -> Batch:
    """The same images, of 32 x 32 averaged to 16 x 16: scores cost a quarter, and the known accuracies stay as they are."""
    if batch.shape[1] < 32:
        return batch
    return Batch(nn.functional.avg_pool2d(batch.images, 2), batch.labels)


def teacher_network(data: str) -> nn.Module:
    """The trained teacher of a set of networks."""
    return released_resnet("resnet56-cifar10") if data == "cifar" else copy.deepcopy(fashion_teacher())


@cache
def trained_teacher(draw: int, data: str) -> Sight:
    """The teacher as it is, on a draw's batch."""
    return remembered(teacher_network(data), draw, data, training=False)


@cache
def random_teachers(scheme: Scheme, draw: int, data: str) -> dict[str, Sight]:
    """The teacher with random weights, and what is left of it without information."""
    network = teacher_network(data)
    initialise(network, scheme, generator(0, "teacher", draw))
    random, rng = remembered(network, draw, data, training=True), generator(0, "control", draw)
    return {"random": random, **{c: without_information(random, c, rng) for c in CONTROLS}}


def remembered(network: nn.Module, draw: int, data: str, *, training: bool) -> Sight:
    """A look at a draw's batch, from the cache if it was taken before."""
    batch = batches(draw + 1, data)[draw]
    places = places_in(network, batch.shape)

    def make(folder: Path) -> None:
        sight = look(network, batch, places, training=training)
        stages = {f"stage{i}": value.clone() for i, value in enumerate(sight.stage_maps)}
        seen = {"maps": sight.maps.contiguous(), "logits": sight.logits, "head_gradient": sight.head_gradient}
        save_file({**seen, **stages}, folder / "seen.safetensors")

    key = ("teacher's sight", weights_hash(network), data, str(draw), str(training))
    seen = load_file(cached_folder("diswot sights", key, make) / "seen.safetensors")
    stages = tuple(seen[f"stage{i}"] for i in range(len(places.stages)))
    sight = Sight(network, batch, places, seen["maps"], stages, seen["logits"], [], torch.zeros(()))
    sight.head_gradient = seen["head_gradient"]
    return sight


def scored(network: nn.Module, draws: Mapping[Scheme, int], data: str = "cifar") -> dict[str, list[float]]:
    """Every score of a network by "scheme/teacher/name": a value for each draw."""
    found: dict[str, list[float]] = {}
    for scheme, count in draws.items():
        for draw, batch in enumerate(map(as_students_see, batches(count, data))):
            initialise(network, scheme, generator(0, "student", draw))
            sight = look(network, batch, places_in(network, batch.shape))
            for state, name in wanted(scheme):
                teacher = (
                    trained_teacher(draw, data)
                    if state == "trained"
                    else random_teachers(scheme, draw, data)[state or "random"]
                )
                if name in EQUAL_WIDTHS and teacher.maps.shape[1] != sight.maps.shape[1]:
                    continue
                found.setdefault(f"{scheme}/{state or 'none'}/{name}", []).append(value_of(name, teacher, sight))
            if scheme == "kaiming" and draw == 0:
                few = Batch(batch.images[::4], batch.labels[::4])
                sight = look(network, few, sight.places)
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(0)
                    for name in (*COSTS, *SLOW):
                        found[f"{scheme}/none/{name}"] = [value_of(name, sight, sight)]
    return found


def wanted(scheme: str) -> Iterator[tuple[str, str]]:
    """(state of the teacher or "", score)."""
    for state in ("random", *CONTROLS):
        yield from ((state, name) for name in PAIRED)
    if scheme == "kaiming":
        yield from (("trained", name) for name in TRAINED)
        yield from (("random", name) for name in KD)
    yield from (("", name) for name in ALONE)


def means(rows: Sequence[Mapping[str, list[float]]], key: str, draw: int | None = None) -> list[float]:
    """A score of every network: mean over the draws, or one draw."""
    return [mean_and_spread(row[key])[0] if draw is None else row[key][draw] for row in rows]


assert {*PAIRED, *TRAINED, *KD, *ALONE, *COSTS, *SLOW} == set(SCORES)
