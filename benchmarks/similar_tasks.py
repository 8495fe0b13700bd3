"""Similar tasks' claims: DistillWeighted over initialisations, FixMatch, nearest and uniform weights; whether similarity predicts accuracy.

    python benchmarks/similar_tasks.py                         # the small size; pieces that are on disk are not computed again
    python benchmarks/similar_tasks.py --size full             # 8 targets, 28 sources, two label budgets, 5 seeds: about 12 h on one core
    python benchmarks/similar_tasks.py --minutes 20            # start no further piece after that long, write what is there
    python benchmarks/similar_tasks.py --parts arms sharpness  # some: speed arms predict wrong far sharpness
    python benchmarks/similar_tasks.py --estimate              # what it would take, and stop

Small networks are trained on source tasks and kept in the cache; a source task that has images or classes of the target has no part.
Every arm of a cell (target, labels a class, seed) has the same network, initial weights, labels, updates and settings, none of which
were chosen on these targets' report images; FixMatch has its published settings at the same updates.

arms: every way to the student. predict: a student from each source alone, and what each metric says of the sources. sharpness: powers
0 to infinity. far: sources of other domains only. wrong: a source with random weights and one that gives NaN among the others.
speed: seconds.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from similar_tasks_claims import claims, tables
from stillhouse.core.benchmark import Work, run_script, script_parser
from stillhouse.core.evidence import Bench, ClaimedArm
from stillhouse.core.options import to_plain
from stillhouse.core.run import Run
from stillhouse.methods.similar_tasks import Config
from stillhouse.methods.similar_tasks.arms import TITLES, Workshop, judged
from stillhouse.methods.similar_tasks.config import ArmName
from stillhouse.methods.similar_tasks.drawer import open_drawer, score_drawer, weights_of
from stillhouse.methods.similar_tasks.losses import SimilarTasks, SoftTargets
from stillhouse.methods.similar_tasks.ranking import MEASURES, combined_ranks, score_sources
from stillhouse.methods.similar_tasks.target import load_target
from stillhouse.vision.plain import plain
from stillhouse.vision.source_tasks import CIFAR_ANIMALS, CIFAR_VEHICLES, FASHION_REST, FASHION_TOPS
from stillhouse.vision.sources import Outputs, torch_source
from stillhouse.vision.training import StepImages, accuracy

bench = Bench("similar_tasks", Path(__file__).parent)
ARMS: tuple[ArmName, ...] = (
    "weighted",
    "nearest",
    "uniform",
    "random",
    "worst",
    "scratch",
    "finetune",
    "broad",
    "fixmatch",
)
POWERS = (0.0, 1.0, 3.0, 6.0, 12.0, float("inf"))
OMNIGLOT_OTHER = ("Tagalog/*", "Balinese/*", "Early_Aramaic/*")


@dataclass(frozen=True)
class Target:
    """A task to learn from few labels."""

    data: str
    classes: tuple[str, ...] = ("*",)
    labels: tuple[int, int] = (5, 25)
    """Labels a class: the two budgets."""


TARGETS = {
    "digits": Target("digits"),
    "mnist": Target("mnist"),
    "fashion tops": Target("fashion-mnist", FASHION_TOPS),
    "fashion rest": Target("fashion-mnist", FASHION_REST),
    "cifar animals": Target("cifar10", CIFAR_ANIMALS),
    "cifar vehicles": Target("cifar10", CIFAR_VEHICLES),
    "omniglot Korean": Target("omniglot", ("Korean/*",), (2, 5)),
    "omniglot other": Target("omniglot", OMNIGLOT_OTHER, (2, 5)),
}
TASKS = (
    "mnist",
    "fashion-tops",
    "fashion-rest",
    "cifar-animals",
    "cifar-vehicles",
    "omniglot-european",
    "omniglot-asian",
)


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    targets: tuple[str, ...]
    budgets: tuple[int, ...]
    """Which of each target's two."""
    seeds: int
    config: Config
    seconds: float
    """Processor seconds that an arm takes, one core."""


SMALL = Size(
    ("mnist", "fashion tops", "omniglot Korean"),
    (0,),
    3,
    Config(
        images=1500,
        size=16,
        source_tasks=("digits", "typed-capitals", "fashion-tops", "fashion-rest", "omniglot-european"),
        source_networks=("plain width=8", "plain width=16"),
        source_updates=200,
        student="plain width=8",
        broad_updates=300,
        updates=150,
        label_share=0.5,
        arms=ARMS,
    ),
    1.2,
)
FULL = Size(
    tuple(TARGETS),
    (0, 1),
    5,
    Config(
        images=4000,
        size=28,
        source_tasks=TASKS,
        source_networks=(
            "plain width=16",
            "plain width=32",
            "resnets blocks1=1 blocks2=1 blocks3=1 width=8",
            "mobilenets width=8 depth1=1 depth2=1 depth3=1",
        ),
        source_updates=800,
        broad_updates=1500,
        updates=500,
        arms=ARMS,
    ),
    35.0,
)
SIZES = {"small": SMALL, "full": FULL}


@dataclass(frozen=True)
class Cell:
    """One draw of labels of one target at one budget."""

    target: str
    budget: int
    seed: int


def cells(size: Size) -> Iterator[Cell]:
    """Seeds change last, so that a part of the work has every target."""
    for seed, budget, target in itertools.product(range(size.seeds), size.budgets, size.targets):
        yield Cell(target, budget, seed)


def config_of(cell: Cell, size: Size, **changes: Any) -> Config:
    """The run's config for a cell."""
    target = TARGETS[cell.target]
    labels = target.labels[cell.budget]
    size_config = replace(size.config, data=target.data, classes=target.classes, labels=labels, seed=cell.seed)
    return replace(size_config, mirror=target.data == "cifar10", **changes)


def opened(config: Config, folder: str) -> Workshop:
    """Everything that the arms of a cell need."""
    few = load_target(config)
    drawer = open_drawer(config, few)
    scores = score_drawer(drawer, config)
    weights = weights_of(scores, drawer.likeness(), config)
    run = Run.create("similar_tasks", to_plain(config), out=Path(folder) / "run", quiet=True, checkpoint_seconds=1e9)
    return Workshop(config, few, drawer, scores, weights, run)


def measured(config: Config, arms: tuple[ArmName, ...]) -> dict[str, Any]:
    """Accuracy on the report split and cost of every arm."""
    with tempfile.TemporaryDirectory() as folder:
        shop = opened(config, folder)
        told: dict[str, Any] = {"arms": {}, "weights": dict(zip(shop.drawer.names, shop.weights.tolist(), strict=True))}
        for arm in arms:
            started = time.process_time()
            made = shop.make(arm)
            assert made is not None
            told["arms"][arm] = {
                **{key: accuracy(made.network, data) for key, data in judged(shop.few).items()},
                "images": made.spent.images,
                "source_images": made.spent.source_images,
                "seconds": time.process_time() - started,
                "note": made.note,
            }
        return told


def predicted(config: Config) -> dict[str, Any]:
    """Every metric's score of every source, and the accuracy of the student distilled from it alone."""
    with tempfile.TemporaryDirectory() as folder:
        shop = opened(config, folder)
        usable = shop.drawer.usable
        truth = [accuracy(shop.one_source(i).network, shop.few.report) for i in usable]
        reference = shop.reference_features(shop.drawer.probe.pool.images[: shop.drawer.probe.labelled])
        scores = score_drawer(shop.drawer, config, reference)
        names = list(scores[usable[0]].others)
        table = {name: [scores[i].others[name] for i in usable] for name in names}
        table["rank sum"] = combined_ranks(scores)[usable].tolist()
        return {"sources": [shop.drawer.names[i] for i in usable], "accuracy": truth, "scores": table}


def wrong_source(config: Config) -> dict[str, Any]:
    """Two sources more: one with random weights, one whose outputs are not finite; the weights of all."""
    with tempfile.TemporaryDirectory() as folder:
        shop = opened(config, folder)
        torch.manual_seed(0)
        images = torch.cat([shop.drawer.probe.pool.images[: shop.drawer.probe.labelled]])
        random = torch_source("random weights", plain(shop.few.shape[0], 10, width=16), None)
        broken = plain(shop.few.shape[0], 10, width=16)
        nn.init.constant_(broken.classifier.weight, float("nan"))
        added = [random, torch_source("NaN", broken, None)]
        seen = [Outputs(*source.forward(images)) for source in added]
        n = shop.drawer.probe.labelled
        before = [o and Outputs(o.features[:n], o.log_probabilities[:n]) for o in shop.drawer.outputs]
        names = [*shop.drawer.names, *(source.name for source in added)]
        problems = [*shop.drawer.problems, *(output.problem() for output in seen)]
        labels = shop.drawer.probe.pool.labels[:n].numpy()
        scores = score_sources(names, [*before, *seen], problems, labels, config.similarity, seed=config.seed)
        weights = weights_of(scores, np.eye(len(names)), config)
        return {
            "weights": dict(zip(names, weights.tolist(), strict=True)),
            "problems": dict(zip(names, problems, strict=True)),
        }


def speed(_: Config) -> dict[str, float]:
    """Processor seconds of a step with 28 cached sources over a plain one's, and of the similarity of 28 sources at 500 labels."""
    images, counts = torch.rand(2000, 1, 28, 28) * 2 - 1, [10, 50, 89, 6] * 7
    network = plain(1, 10, width=16)
    targets = [SoftTargets(str(i), 1 / 28, torch.rand(2000, k).softmax(1), 1.0) for i, k in enumerate(counts)]

    def seconds(objective: SimilarTasks) -> float:
        def step() -> None:
            rows = torch.randint(2000, (128,))
            labels = torch.where(torch.arange(128) < 16, torch.randint(10, (128,)), -1)
            losses = objective(StepImages(images[rows], labels, rows, torch.zeros(128, dtype=torch.bool)))
            sum(losses.values(), torch.zeros(())).backward()

        step()
        started = time.process_time()
        for _ in range(15):
            step()
        return (time.process_time() - started) / 15

    pairs = [(seconds(SimilarTasks(network, targets, 0.5)), seconds(SimilarTasks(network, [], 0.5))) for _ in range(3)]
    rng = np.random.default_rng(0)
    features, labels = torch.from_numpy(rng.normal(size=(500, 128))), np.arange(500) % 10
    outputs = Outputs(features, torch.rand(500, 10).log_softmax(1))
    started = time.process_time()
    score_sources(["source"], [outputs], [""], labels, "auc", measures=tuple(MEASURES))
    return {
        "distilled_step": float(np.median([pair[0] for pair in pairs])),
        "plain_step": float(np.median([pair[1] for pair in pairs])),
        "similarity_of_28": 28 * (time.process_time() - started),
    }


PARTS: dict[str, Callable[[Size], Iterator[tuple[Cell | None, dict[str, Any], Callable[[Config], Any], int]]]] = {
    "speed": lambda size: iter([(None, {}, speed, 1)]),
    "arms": lambda size: ((cell, {}, lambda config: measured(config, ARMS), 9) for cell in cells(size)),
    "wrong": lambda size: ((cell, {}, wrong_source, 1) for cell in cells(size) if cell.seed < 2),
    "predict": lambda size: ((cell, {}, predicted, 10) for cell in cells(size) if cell.seed < 1),
    "far": lambda size: (
        (cell, {"source_tasks": far_tasks(cell, size)}, lambda config: measured(config, ("weighted", "scratch")), 2)
        for cell in cells(size)
        if cell.seed < 3
    ),
    "sharpness": lambda size: (
        (cell, {"power": power}, lambda config: measured(config, ("weighted",)), 1)
        for cell in cells(size)
        if cell.seed < 2
        for power in POWERS
    ),
}
"""Cells, what differs in their config, what to compute, and how many trainings that is."""


def far_tasks(cell: Cell, size: Size) -> tuple[str, ...]:
    """The source tasks of another family than the target's: characters for clothing, clothing for characters."""
    clothing = TARGETS[cell.target].data == "fashion-mnist"
    characters = ("digits", "mnist", "typed-capitals", "omniglot-european", "omniglot-asian")
    fashion = ("fashion-tops", "fashion-rest")
    return tuple(task for task in size.config.source_tasks if task in (characters if clothing else fashion))


def pieces(part: str, size_name: str) -> Iterator[Work]:
    """The work of a part."""
    size = SIZES[size_name]
    for cell, changes, compute, trainings in PARTS[part](size):
        config = config_of(cell, size, **changes) if cell else size.config
        key = {
            "part": part,
            "size": size_name,
            "cell": str(cell),
            **{k: str(v) for k, v in changes.items()},
            "version": 1,
        }
        yield Work(key, lambda config=config, compute=compute: compute(config), size.seconds * trainings)


def arms_of(size_name: str) -> Iterator[ClaimedArm]:
    """Every measured arm, as the result file has it."""
    from stillhouse.core.result import Arm, Cost

    size = SIZES[size_name]
    for cell in cells(size):
        found = bench.kept({"part": "arms", "size": size_name, "cell": str(cell), "version": 1})
        for name, told in (found or {"arms": {}})["arms"].items():
            role = "student" if name in ("weighted", "nearest") else "baseline"
            labels = TARGETS[cell.target].labels[cell.budget]
            cost = Cost(training_seconds=told["seconds"], updates={"student": size.config.updates})
            metrics = {key: told[key] for key in ("accuracy", "accuracy_select", "images", "source_images")}
            arm = Arm(TITLES[name], role, metrics, cost, cell.seed, told["note"])  # type: ignore[arg-type]
            yield ClaimedArm(f"{cell.target}, {labels} labels a class, {size_name}", arm)


def known(size_name: str) -> dict[str, list[tuple[Cell | None, Mapping[str, Any], Any]]]:
    """What is on disk, by part: cell, what differs in its config, value."""
    found = {}
    for part, listed in PARTS.items():
        rows = zip(pieces(part, size_name), listed(SIZES[size_name]), strict=True)
        values = [(cell, changes, bench.kept(work.key)) for work, (cell, changes, *_) in rows]
        found[part] = [row for row in values if row[2] is not None]
    return found


def write(size_name: str) -> Path:
    """The result file from what is on disk."""
    bench.arms = list(arms_of(size_name))
    return bench.write(claims(known(size_name), size_name))


def main() -> None:
    parser = script_parser(__doc__, list(PARTS), table="the tables of docs/methods/similar_tasks.md")
    parser.add_argument("--size", choices=list(SIZES), default="small")
    options = parser.parse_args()
    size = options.size
    torch.set_num_threads(1)
    run_script(
        bench,
        options,
        lambda part: pieces(part, size),
        write=lambda: write(size),
        table=lambda: tables(known(size), TARGETS),
    )


if __name__ == "__main__":
    main()
