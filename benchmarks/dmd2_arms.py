"""DMD2's arms: what each trains, how its learning rate is chosen, its runs on disk; and the peer's."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import stillhouse
from dmd2_peer import peer_run, peer_version
from stillhouse.core.evidence import Bench
from stillhouse.core.files import content_hash

BENCH = Bench("dmd2", Path(__file__).resolve().parent)

TEACHERS = {
    "digits": {
        "data": "digits",
        "widths": (24, 48),
        "teacher_updates": 800,
        "samples": 2500,
        "cooldown": 0.3,
        "ema_decay": 0.95,
    },
    "mnist-5k": {
        "data": "mnist-5k",
        "widths": (16, 32, 48),
        "teacher_updates": 400,
        "teacher_batch": 64,
        "samples": 1000,
        "batch": 32,
        "cooldown": 0.3,
        "ema_decay": 0.95,
    },
}
TEACHERS["captioned digits"] = {**TEACHERS["digits"], "conditions": "text", "teacher_updates": 600}
SHORT = "digits, short teacher"
"""A teacher that had a quarter of the training, and so something left to learn from the images."""
TEACHERS[SHORT] = {**TEACHERS["digits"], "teacher_updates": 200}
SEEDS = {"digits": (0, 1, 2, 3, 4), "mnist-5k": (0, 1, 2), "captioned digits": (0,), SHORT: (0, 1, 2)}
UPDATES = {"digits": 160, "mnist-5k": 40, "captioned digits": 160, SHORT: 160}
TUNING_SEED = 100
LEARNING_RATES = (1e-4, 2e-4)
TUNING_SHARE = 0.4
"""Updates of a tuning run, as a share of the reported run's."""


@dataclass(frozen=True)
class Recipe:
    """An arm: what differs from the shared setting, and how long it trains."""

    name: str
    options: dict[str, Any]
    longer: float = 1
    """Trains this many times as long: 1:1 then takes as many network passes as 5:1."""
    rate: float | None = None
    """Learning rate of an arm that is not tuned as the others are."""
    updates: Mapping[str, int] | None = None
    """Student updates by data set, where the data set's usual number does not count."""

    def student_updates(self, data: str) -> int:
        """How long it trains."""
        return self.updates[data] if self.updates else round(UPDATES[data] * self.longer)


OURS = "5:1 + GAN"
LONG = "5:1 + GAN, long"
LONGEST = "5:1 + GAN, longest"
LONG_PLAIN = "5:1, long"
LONG_OPTIONS: dict[str, Any] = {"cooldown": 0.7, "ema_decay": 0.98}
EQUAL = {"gan_share": 1.0}
"""GAN and matching gradients of equal norm: the authors' rule, and what the short arms with a GAN loss have."""
ARMS = (
    Recipe(OURS, EQUAL),
    Recipe("5:1", {"gan_weight": 0.0}),
    Recipe("1:1", {"gan_weight": 0.0, "updates_ratio": 1}),
    Recipe("1:1, three times as long", {"gan_weight": 0.0, "updates_ratio": 1}, longer=3),
    Recipe(LONG, LONG_OPTIONS, rate=1.6e-3, updates={"digits": 1000, "mnist-5k": 150, SHORT: 300}),
    Recipe(LONGEST, LONG_OPTIONS, rate=1.6e-3, updates={"digits": 4000}),
    Recipe(LONG_PLAIN, {**LONG_OPTIONS, "gan_weight": 0.0}, rate=1.6e-3, updates={SHORT: 300}),
    Recipe("4 steps, backward simulation", {**EQUAL, "steps": 4}),
    Recipe("4 steps, noised real inputs", {**EQUAL, "steps": 4, "inputs": "noised-real"}),
    Recipe("GAN alone", {"matching_weight": 0.0}),
    Recipe("no fake score (SDS)", {"gan_weight": 0.0, "fake_score": "none", "updates_ratio": 1}),
)
RECIPES = {recipe.name: recipe for recipe in ARMS}
DIGITS_ARMS = tuple(name for name in RECIPES if name != LONG_PLAIN)
DEFAULT_ARMS = tuple(name for name in DIGITS_ARMS if name != LONGEST)
"""LONGEST takes about an hour of a core a seed: it runs when asked for by name, `--arms`, and `--seeds` takes it in parts."""
MNIST_ARMS = (OURS, "5:1", "1:1", LONG)
SHORT_ARMS = (LONG, LONG_PLAIN)


def arm_run(data: str, recipe: Recipe, seed: int, learning_rate: float, judged_on: str, share: float = 1.0) -> Any:
    """One run as a JSON value: its student's metrics, cost and curve. Resumed where an earlier start left it."""
    updates = round(share * recipe.student_updates(data))
    options = {
        **TEACHERS[data],
        **recipe.options,
        "seed": seed,
        "student_updates": updates,
        "judged_on": judged_on,
        "student_lr": learning_rate,
        "fake_lr": 2 * learning_rate,
    }
    folder = BENCH.pieces / "runs" / content_hash([repr(sorted(options.items()))])
    if (folder / "config.json").exists():
        run = stillhouse.resume(folder, quiet=True)
    else:
        run = stillhouse.run("dmd2", out=folder, quiet=True, **options)
    result = run.result
    curve = [
        {**entry["evaluation"], **{k: entry[k] for k in ("student_updates", "network_passes", "seconds")}}
        for entry in run.records(stage="student")
        if "evaluation" in entry
    ]
    others = {
        arm.name: {
            "metrics": dict(arm.metrics),
            "latency": dict(arm.cost.latency_seconds),
            "parameters": arm.cost.parameters,
            "passes": arm.cost.network_passes,
        }
        for arm in result.arms
        if arm.role != "student"
    }
    student = result.arm("student")
    shutil.rmtree(folder / "checkpoint", ignore_errors=True)
    return {
        "metrics": dict(student.metrics),
        "curve": curve,
        "others": others,
        "latency": dict(student.cost.latency_seconds),
        "training_seconds": student.cost.training_seconds,
        "training_passes": student.cost.training_passes,
        "updates": dict(student.cost.updates),
        "parameters": student.cost.parameters,
    }


def tuned_rate(data: str, recipe: Recipe) -> float:
    """The learning rate that is best on the select split, from the same ones for every arm."""

    def loss(rate: float) -> float:
        key = tuning_key(data, recipe, rate)
        found = BENCH.piece(key, lambda: arm_run(data, recipe, TUNING_SEED, rate, "select", TUNING_SHARE))
        return float(found["metrics"]["fid"])

    if recipe.rate:
        return recipe.rate
    if data != "digits":
        return tuned_rate("digits", recipe)  # not tuned again: each arm takes its rate on digits
    return min(LEARNING_RATES, key=loss)


def tuning_key(data: str, recipe: Recipe, rate: float) -> dict[str, Any]:
    """What decides the outcome of a tuning run."""
    return {
        "part": "tuning",
        "data": data,
        "arm": recipe.name,
        "rate": rate,
        "setting": repr((TEACHERS[data], UPDATES[data])),
    }


def is_tuned(recipe: Recipe) -> bool:
    """Whether the arm's rate is known without a further run."""
    return bool(recipe.rate) or all(BENCH.has(tuning_key("digits", recipe, rate)) for rate in LEARNING_RATES)


def report_key(data: str, recipe: Recipe, seed: int, rate: float) -> dict[str, Any]:
    """What decides the outcome of a reported run."""
    return {
        "part": "report",
        "data": data,
        "arm": recipe.name,
        "seed": seed,
        "rate": rate,
        "setting": repr((TEACHERS[data], UPDATES[data], recipe.longer)),
        **({"updates": recipe.updates[data], "options": repr(recipe.options)} if recipe.updates else {}),
    }


def reported(data: str, recipe: Recipe, seed: int) -> Any:
    """The reported run of an arm at its tuned rate."""
    rate = tuned_rate(data, recipe)
    return BENCH.piece(report_key(data, recipe, seed, rate), lambda: arm_run(data, recipe, seed, rate, "report"))


def finished_runs(data: str, name: str) -> dict[int, Any]:
    """The reported runs of an arm that are on disk, by seed."""
    recipe = RECIPES[name]
    if not is_tuned(recipe):
        return {}
    rate = tuned_rate(data, recipe)
    seeds = [seed for seed in SEEDS[data] if BENCH.has(report_key(data, recipe, seed, rate))]
    return {seed: reported(data, recipe, seed) for seed in seeds}


def run_part(data: str, names: tuple[str, ...], from_the_end: bool, seeds: tuple[int, ...] = ()) -> None:
    """All tuning and reported runs of one data set, arm by arm, so that a stopped script leaves whole arms."""
    direction = -1 if from_the_end else 1
    for recipe in [recipe for recipe in ARMS if recipe.name in names][::direction]:
        print(f"{data} {recipe.name}: learning rate {tuned_rate(data, recipe)}", flush=True)
        for seed in (seeds or SEEDS[data])[::direction]:
            started = time.monotonic()
            found = reported(data, recipe, seed)
            print(
                f"{data} seed {seed} {recipe.name}: FID {found['metrics']['fid']:.3f} "
                f"recall {found['metrics']['recall']:.3f} ({time.monotonic() - started:.0f} s)",
                flush=True,
            )


# ---- how the learning rate falls

SCHEDULES = ((8e-4, 0.3, 0.95), (8e-4, 0.7, 0.98), (1.6e-3, 0.7, 0.98), (1.6e-3, 0.7, 0.95), (1.6e-3, 1.0, 0.95))
"""Learning rate, share of the steps over which it falls, memory of the student's average."""
SCHEDULE_UPDATES = 300


def schedule_key(schedule: tuple[float, float, float]) -> dict[str, Any]:
    """What decides the outcome of a schedule's run."""
    return {"part": "schedule", "schedule": schedule, "updates": SCHEDULE_UPDATES, "setting": repr(TEACHERS["digits"])}


def scheduled(schedule: tuple[float, float, float]) -> Any:
    """A run of the demo's length on the select split, its rates falling over this share of the steps."""
    rate, cooldown, ema = schedule
    recipe = Recipe("schedule", {"cooldown": cooldown, "ema_decay": ema}, updates={"digits": SCHEDULE_UPDATES})
    return BENCH.piece(schedule_key(schedule), lambda: arm_run("digits", recipe, TUNING_SEED, rate, "select"))


def schedule_name(schedule: tuple[float, float, float]) -> str:
    """As the result file shows it."""
    rate, cooldown, ema = schedule
    return f"rate {rate:g}, falling over {cooldown:.0%}, average {ema:g}"


def run_schedules(from_the_end: bool) -> None:
    """All schedules."""
    for schedule in SCHEDULES[:: -1 if from_the_end else 1]:
        metrics = scheduled(schedule)["metrics"]
        print(f"{schedule_name(schedule)}: FID {metrics['fid']:.3f} recall {metrics['recall']:.3f}", flush=True)


# ---- peer


def peer(seed: int, gan: bool, rate: float, judged_on: Literal["report", "select"], share: float = 1.0) -> Any:
    """The peer's DMDPipeline on the same teacher weights, data, updates and metric."""
    key = peer_key(seed, gan, rate, judged_on, share)
    updates = round(share * UPDATES["digits"])
    return BENCH.piece(key, lambda: peer_run(TEACHERS["digits"], updates, seed, gan, rate, judged_on))


def peer_key(seed: int, gan: bool, rate: float, judged_on: str, share: float = 1.0) -> dict[str, Any]:
    """What decides the outcome of a run of the peer."""
    return {
        "part": "peer",
        "version": peer_version(),
        "gan": gan,
        "rate": rate,
        "seed": seed,
        "judged_on": judged_on,
        "share": share,
        "setting": repr((TEACHERS["digits"], UPDATES["digits"])),
    }


PEER_VARIANTS = (True,)
"""With its GAN loss, as DMD2 is published; False would be without."""


def run_peer() -> None:
    """Tune the peer as every arm is tuned, then report it on every seed."""
    for gan in PEER_VARIANTS:
        rate = peer_rate(gan)
        for seed in SEEDS["digits"]:
            found = peer(seed, gan, rate, "report")
            print(f"peer{' + GAN' if gan else ''} seed {seed}: FID {found['metrics']['fid']:.3f}", flush=True)


def peer_rate(gan: bool) -> float:
    """The peer's best rate on the select split, from the same ones."""
    return min(LEARNING_RATES, key=lambda r: peer(TUNING_SEED, gan, r, "select", TUNING_SHARE)["metrics"]["fid"])
