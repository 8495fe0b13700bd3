"""DMD2's claims, measured again: python benchmarks/dmd2.py [--part digits|mnist|text|schedule|speed|memory|kills|peer|write|all]

Every arm of a data set shares the teacher, the data splits, the batch, the evaluation noise and the tuning budget: one
learning rate out of two, chosen per arm on the select split with a seed of its own, then reported on the report split.
The arms that are compared with each other are short. One arm, compared with the teacher only, trains for as long as this
machine allows, at what that seed's select split showed to end best: far higher learning rates, which then fall over most of
the run (part "schedule"), and a GAN gradient of a fifth of the matching loss's.
Pieces are kept in scratch/ and skipped when the script is started again; the last part writes benchmarks/results/dmd2.json.
"""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from safetensors.torch import load_file

import stillhouse
from dmd2_peer import peer_run, peer_version
from stillhouse.core.evidence import Bench, Claim, ClaimedArm, judge, mean_with_interval, print_estimate, ratio_of_means
from stillhouse.core.files import content_hash
from stillhouse.core.result import Arm, Cost, Role
from stillhouse.core.run import Run
from stillhouse.diffusion.evaluation import latencies
from stillhouse.diffusion.task import ImageTask, prepare, teacher_samplers

FOLDER = Path(__file__).resolve().parent
BENCH = Bench("dmd2", FOLDER)
COMMAND = "python benchmarks/dmd2.py"

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
}  # fmt: skip
TEACHERS["captioned digits"] = {**TEACHERS["digits"], "conditions": "text", "teacher_updates": 600}
SEEDS = {"digits": (0, 1, 2, 3, 4), "mnist-5k": (0, 1, 2), "captioned digits": (0,)}
UPDATES = {"digits": 160, "mnist-5k": 40, "captioned digits": 160}
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
EQUAL = {"gan_share": 1.0}
"""GAN and matching gradients of equal norm: the authors' rule, and what the short arms with a GAN loss have."""
ARMS = (
    Recipe(OURS, EQUAL),
    Recipe("5:1", {"gan_weight": 0.0}),
    Recipe("1:1", {"gan_weight": 0.0, "updates_ratio": 1}),
    Recipe("1:1, three times as long", {"gan_weight": 0.0, "updates_ratio": 1}, longer=3),
    Recipe(LONG, {"cooldown": 0.7, "ema_decay": 0.98}, rate=1.6e-3, updates={"digits": 1000, "mnist-5k": 150}),
    Recipe("4 steps, backward simulation", {**EQUAL, "steps": 4}),
    Recipe("4 steps, noised real inputs", {**EQUAL, "steps": 4, "inputs": "noised-real"}),
    Recipe("GAN alone", {"matching_weight": 0.0}),
    Recipe("no fake score (SDS)", {"gan_weight": 0.0, "fake_score": "none", "updates_ratio": 1}),
)
RECIPES = {recipe.name: recipe for recipe in ARMS}
MNIST_ARMS = (OURS, "5:1", "1:1", LONG)


def arm_run(data: str, recipe: Recipe, seed: int, learning_rate: float, judged_on: str, share: float = 1.0) -> Any:
    """One run as a JSON value: its student's metrics, cost and curve. Resumed where an earlier start left it."""
    updates = round(share * recipe.student_updates(data))
    options = {
        **TEACHERS[data], **recipe.options, "seed": seed, "student_updates": updates, "judged_on": judged_on,
        "student_lr": learning_rate, "fake_lr": 2 * learning_rate,
    }  # fmt: skip
    folder = BENCH.pieces / "runs" / content_hash([repr(sorted(options.items()))])
    if (folder / "config.json").exists():
        run = stillhouse.resume(folder, quiet=True)
    else:
        run = stillhouse.run("dmd2", out=folder, quiet=True, **options)
    result = run.result
    curve = [{**entry["evaluation"], **{k: entry[k] for k in ("student_updates", "network_passes", "seconds")}}
             for entry in run.records(stage="student") if "evaluation" in entry]  # fmt: skip
    others = {arm.name: {"metrics": dict(arm.metrics), "latency": dict(arm.cost.latency_seconds),
                         "parameters": arm.cost.parameters, "passes": arm.cost.network_passes}
              for arm in result.arms if arm.role != "student"}  # fmt: skip
    student = result.arm("student")
    shutil.rmtree(folder / "checkpoint", ignore_errors=True)
    return {
        "metrics": dict(student.metrics), "curve": curve, "others": others, "latency": dict(student.cost.latency_seconds),
        "training_seconds": student.cost.training_seconds, "training_passes": student.cost.training_passes,
        "updates": dict(student.cost.updates), "parameters": student.cost.parameters,
    }  # fmt: skip


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
    return {"part": "tuning", "data": data, "arm": recipe.name, "rate": rate,
            "setting": repr((TEACHERS[data], UPDATES[data]))}  # fmt: skip


def is_tuned(recipe: Recipe) -> bool:
    """Whether the arm's rate is known without a further run."""
    return bool(recipe.rate) or all(BENCH.has(tuning_key("digits", recipe, rate)) for rate in LEARNING_RATES)


def report_key(data: str, recipe: Recipe, seed: int, rate: float) -> dict[str, Any]:
    """What decides the outcome of a reported run."""
    return {"part": "report", "data": data, "arm": recipe.name, "seed": seed, "rate": rate,
            "setting": repr((TEACHERS[data], UPDATES[data], recipe.longer)),
            **({"updates": recipe.updates[data], "options": repr(recipe.options)} if recipe.updates else {})}  # fmt: skip


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


def run_part(data: str, names: tuple[str, ...], from_the_end: bool) -> None:
    """All tuning and reported runs of one data set, arm by arm, so that a stopped script leaves whole arms."""
    direction = -1 if from_the_end else 1
    for recipe in [recipe for recipe in ARMS if recipe.name in names][::direction]:
        print(f"{data} {recipe.name}: learning rate {tuned_rate(data, recipe)}", flush=True)
        for seed in SEEDS[data][::direction]:
            started = time.monotonic()
            found = reported(data, recipe, seed)
            print(f"{data} seed {seed} {recipe.name}: FID {found['metrics']['fid']:.3f} "
                  f"recall {found['metrics']['recall']:.3f} ({time.monotonic() - started:.0f} s)", flush=True)  # fmt: skip


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


# ---- speed


def speed_table(data: str) -> list[dict[str, dict[str, float]]]:
    """Seconds an image of the teacher's 35 passes and a student's one, in turn in one process, for each seed.

    A pass costs what it costs whatever the weights are, so a teacher's network after two updates stands for both.
    """
    return [BENCH.piece(speed_key(data, seed), lambda seed=seed: measure_speed(data, seed)) for seed in SEEDS[data]]


def speed_key(data: str, seed: int) -> dict[str, Any]:
    """What decides a timing, beside the machine."""
    return {"part": "speed", "data": data, "seed": seed, "setting": repr(TEACHERS[data])}


def measure_speed(data: str, seed: int) -> dict[str, dict[str, float]]:
    """Latencies of one seed's teacher, in full and with one pass."""
    options = {name: value for name, value in TEACHERS[data].items() if name not in ("batch", "cooldown", "ema_decay")}
    task = ImageTask(**{**options, "teacher_updates": 2}, seed=seed)  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as place, Run.create("speed", {}, out=Path(place) / "run", quiet=True) as run:
        setting = prepare(task, run)
    full, _, one = teacher_samplers(task, setting.teacher)
    return {name: latencies(sampler, setting.conditions, setting.device)
            for name, sampler in (("teacher", full), ("student", one))}  # fmt: skip


# ---- memory and seconds an update


MEMORY = [{"part": "memory", "batch": batch, "width": width}
          for batch, width in ((32, 16), (64, 16), (128, 16), (256, 16), (64, 32), (64, 64), (64, 128))]  # fmt: skip


def memory_table() -> list[dict[str, float]]:
    """Peak memory and seconds an update of a step with GAN, as batch and width grow; each in a process of its own."""
    return [BENCH.piece(key, lambda key=key: measure_memory(key["batch"], key["width"])) for key in MEMORY]


def measure_memory(batch: int, width: int) -> dict[str, float]:
    """Run a few steps in a child process and read its peak memory."""
    done = subprocess.run(
        [sys.executable, str(FOLDER / "dmd2_memory.py"), str(batch), str(width)],
        capture_output=True,
        text=True,
        check=True,
    )
    names = ("before_mb", "peak_mb", "seconds_a_step", "parameters")
    return {"batch": batch, "width": width, **dict(zip(names, map(float, done.stdout.split()), strict=True))}


# ---- kills

TINY = {"data": "digits", "widths": (8, 16), "teacher_updates": 40, "teacher_batch": 16, "teacher_steps": 4,
        "batch": 8, "samples": 200, "student_updates": 40, "updates_ratio": 2}  # fmt: skip


def kill_trials(count: int = 20) -> dict[str, int]:
    """kill -9 at `count` random moments of tiny runs (teacher and student stages, checkpoint writes included)."""
    flags = [word for name, value in TINY.items()
             for word in (f"--{name.replace('_', '-')}", *(map(str, value) if isinstance(value, tuple) else [str(value)]))]  # fmt: skip
    place = BENCH.pieces / "kills"
    shutil.rmtree(place, ignore_errors=True)
    chance, kills, equal, rounds = random.Random(0), 0, 0, 0
    base = [sys.executable, "-m", "stillhouse"]
    straight = place / "straight"
    environment = own_cache(place / "cache")
    subprocess.run([*base, "run", "dmd2", "--quiet", *flags, "--out", str(straight)], check=True, env=environment)
    truth = load_file(straight / "model" / "diffusion_pytorch_model.safetensors")
    stages: dict[str, int] = {}
    while kills < count:
        shutil.rmtree(place / "cache" / "teachers", ignore_errors=True)
        folder = place / f"run{rounds}"
        words = [*base, "run", "dmd2", "--quiet", *flags, "--out", str(folder), "--checkpoint-seconds", "0"]
        for _ in range(10):
            process = subprocess.Popen(words, env=environment, stderr=subprocess.DEVNULL)
            wait_for_new_checkpoint(process, folder)
            time.sleep(chance.uniform(0, 0.6))
            if process.poll() is not None or kills == count:
                process.wait()
                break
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            last = max(folder.glob("checkpoint/*/*"), key=lambda path: path.stat().st_mtime_ns)
            stages[last.parent.name] = stages.get(last.parent.name, 0) + 1
            words = [*base, "resume", str(folder), "--quiet", "--checkpoint-seconds", "0"]
        subprocess.run([*base, "resume", str(folder), "--quiet"], check=True, env=environment)
        made = load_file(folder / "model" / "diffusion_pytorch_model.safetensors")
        equal += all(truth[name].equal(made[name]) for name in truth)
        rounds += 1
    return {"kills": kills, "runs": rounds, "bit_equal_runs": equal, **{f"in_{k}": v for k, v in stages.items()}}


def own_cache(folder: Path) -> dict[str, str]:
    """Environment with a cache that starts with the shared feature networks and no teacher."""
    import os

    from stillhouse.core.cache import cache_root

    if (cache_root() / "features").exists():
        shutil.copytree(cache_root() / "features", folder / "features", dirs_exist_ok=True)
    return {**os.environ, "STILLHOUSE_CACHE": str(folder)}


def wait_for_new_checkpoint(process: subprocess.Popen[bytes], folder: Path) -> None:
    """Until something new is saved, so that kills fall into training and not into imports."""

    def newest() -> int:
        return max((path.stat().st_mtime_ns for path in folder.glob("checkpoint/*/*.safetensors")), default=0)

    before = newest()
    while process.poll() is None and newest() == before:
        time.sleep(0.005)


# ---- peer


def peer(seed: int, gan: bool, rate: float, judged_on: Literal["report", "select"], share: float = 1.0) -> Any:
    """The peer's DMDPipeline on the same teacher weights, data, updates and metric."""
    key = peer_key(seed, gan, rate, judged_on, share)
    updates = round(share * UPDATES["digits"])
    return BENCH.piece(key, lambda: peer_run(TEACHERS["digits"], updates, seed, gan, rate, judged_on))


def peer_key(seed: int, gan: bool, rate: float, judged_on: str, share: float = 1.0) -> dict[str, Any]:
    """What decides the outcome of a run of the peer."""
    return {"part": "peer", "version": peer_version(), "gan": gan, "rate": rate, "seed": seed, "judged_on": judged_on,
            "share": share, "setting": repr((TEACHERS["digits"], UPDATES["digits"]))}  # fmt: skip


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


# ---- claims


def at(found: Any, metric: str, axis: str, position: float) -> float:
    """A curve's value at a position of an axis, linearly between its points."""
    points = [(point[axis], point[metric]) for point in found["curve"]]
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 <= position <= x1:
            return y0 + (y1 - y0) * (position - x0) / (x1 - x0)
    raise ValueError(f"the curve does not reach {axis} = {position}")


def claim(id: str, statement: str, paper: float | None, ratio: tuple[float, tuple[float, float]], threshold: str,
          data: str, part: str, note: str = "", seeds: int | None = None) -> Claim:  # fmt: skip
    """A claim with its verdict."""
    measured, interval = ratio
    return Claim(id, statement, paper, round(measured, 4), (round(interval[0], 4), round(interval[1], 4)), threshold,
                 seeds or len(SEEDS[data]), judge(interval, threshold), data, f"{COMMAND} --part {part} && {COMMAND} --part write", note)  # fmt: skip


TEACHER = "teacher, Heun, 18 steps"


def values(runs: dict[int, Any], metric: str, of: str = "student") -> dict[int, float]:
    """One metric of every run, by seed: the student's, or another arm's of the same run."""
    source = {seed: run if of == "student" else run["others"][of] for seed, run in runs.items()}
    return {seed: found.get(metric, found["metrics"].get(metric)) for seed, found in source.items()}


def ratio_claim(id: str, statement: str, paper: float | None, top: dict[int, float], bottom: dict[int, float],
                threshold: str, data: str, part: str, note: str = "") -> Claim:  # fmt: skip
    """A claim on the ratio of two arms, over the seeds that both have."""
    seeds = sorted(top.keys() & bottom.keys())
    ratio = ratio_of_means([top[seed] for seed in seeds], [bottom[seed] for seed in seeds])
    return claim(id, statement, paper, ratio, threshold, data, part, note, len(seeds))


def against_teacher(
    id: str, title: str, runs: dict[int, Any], paper: float | None, data: str, part: str
) -> list[Claim]:
    """FID above the floor, precision, recall and class accuracy of a student, as shares of its teacher's."""

    def average(metric: str, of: str) -> float:
        return mean(list(values(runs, metric, of).values()))

    fid, above, kid, copies = ((average(key, "student"), average(key, TEACHER), average(key, "real training images"))
                               for key in ("fid", "fid_above_floor", "kid", "recall"))  # fmt: skip
    note = (f"raw FID {fid[0]:.3f} against {fid[1]:.3f} (real training images {fid[2]:.3f}), above floor {above[0]:.3f} "
            f"against {above[1]:.3f}; KID {kid[0]:.4f} against {kid[1]:.4f}; recall {copies[0]:.3f} against {copies[1]:.3f}")  # fmt: skip
    return [
        ratio_claim(f"{id}-fid-{data}", f"{title}, FID above floor, against the teacher's 35 passes", paper,
                    values(runs, "fid_above_floor"), values(runs, "fid_above_floor", TEACHER), "<= 1.0", data, part, note),
        *(ratio_claim(f"{id}-{key}-{data}", f"{title}, {name} against the teacher's", None,
                      values(runs, key), values(runs, key, TEACHER), ">= 0.95", data, part)
          for key, name in (("precision", "precision"), ("recall", "recall"), ("class_accuracy", "class accuracy"))),
    ]  # fmt: skip


Comparison = tuple[str, str, float | None, str, str, str]
COMPARISONS: tuple[Comparison, ...] = (
    # claim, statement, the paper's figure, arm, against, threshold; "{data}" where both data sets have it
    ("two-time-scale-updates-{data}", "5 critic updates against 1, FID at equal student updates, no GAN", 0.75, "5:1", "1:1", "<= 1.0"),
    ("gan-{data}", "+ GAN against none, FID at equal student updates", 0.58, OURS, "5:1", "<= 1.0"),
    ("two-time-scale-passes", "5 critic updates against 1, FID at equal network passes, no GAN", None, "5:1", "1:1, three times as long", "<= 1.0"),
    ("gan-alone", "GAN alone against matching + GAN, FID", None, "GAN alone", OURS, ">= 1.0"),
    ("no-fake-score", "No fake score (SDS) against 1:1, FID", None, "no fake score (SDS)", "1:1", ">= 1.0"),
    ("backward-simulation", "4 steps: backward simulation against noised real inputs, FID", None,
     "4 steps, backward simulation", "4 steps, noised real inputs", "<= 1.0"),
)  # fmt: skip


def claims_of(data: str, part: str) -> list[Claim]:
    """The claims that this data set's finished arms decide."""
    names = tuple(RECIPES) if data == "digits" else MNIST_ARMS
    found = {name: runs for name in names if (runs := finished_runs(data, name))}
    collect_arms(data, found)
    made = []
    if LONG in found:
        title = f"One step, {RECIPES[LONG].student_updates(data)} updates"
        made += against_teacher("one-step", title, found[LONG], 0.55, data, part)
    if "4 steps, backward simulation" in found:
        made += against_teacher("four-step", "4 steps", found["4 steps, backward simulation"], None, data, part)
    fids = {name: values(runs, "fid") for name, runs in found.items()}
    for id, statement, paper, top, bottom, threshold in COMPARISONS:
        if top in found and bottom in found:
            recalls = [mean(list(values(found[name], "recall").values())) for name in (top, bottom)]
            made.append(ratio_claim(id.format(data=data), statement, paper, fids[top], fids[bottom], threshold, data, part,
                                    note=f"recall {recalls[0]:.3f} against {recalls[1]:.3f}"))  # fmt: skip
    if OURS in found and "5:1" in found:
        passes = values(found["5:1"], "training_passes")
        gan = {
            seed: at(run, "fid", "network_passes", passes[seed]) for seed, run in found[OURS].items() if seed in passes
        }
        made.append(ratio_claim(f"gan-passes-{data}", "+ GAN against none, FID at equal network passes", None,
                                gan, fids["5:1"], "<= 1.0", data, part, note="the GAN arm read off its curve, before its cooldown"))  # fmt: skip
    return made + speed_claims(data)


def speed_claims(data: str) -> list[Claim]:
    """How many times faster an image is than from the teacher."""
    table = [row for seed in SEEDS[data] if (row := BENCH.kept(speed_key(data, seed)))]
    return [
        claim(f"speed-{batch.replace(' ', '-')}-{data}", f"Times faster an image than the teacher, {batch}", None,
              mean_with_interval([row["teacher"][batch] / row["student"][batch] for row in table]), ">= 25", data, "speed")
        for batch in ("batch 1", "batch 64")
        if len(table) == len(SEEDS[data])
    ]  # fmt: skip


def collect_arms(data: str, found: dict[str, dict[int, Any]]) -> None:
    """Every arm's raw numbers, for the result file."""
    for name, runs in found.items():
        for seed, run in runs.items():
            cost = Cost(parameters=run["parameters"], latency_seconds=run["latency"], updates=run["updates"],
                        training_seconds=run["training_seconds"], training_passes=run["training_passes"])  # fmt: skip
            role: Role = "student" if name == OURS else "baseline"
            BENCH.arms.append(ClaimedArm(data, Arm(name, role, run["metrics"], cost, seed)))
    judged = {seed: run for runs in found.values() for seed, run in runs.items()}  # a seed's arms share their teacher
    for seed, run in judged.items():
        for name, other in run["others"].items():
            role = "teacher" if name == TEACHER else "floor" if name.startswith("real") else "baseline"
            cost = Cost(other["parameters"], network_passes=other["passes"], latency_seconds=other["latency"])
            BENCH.arms.append(ClaimedArm(data, Arm(name, role, other["metrics"], cost, seed)))


def peer_claims() -> list[Claim]:
    """Against the peer at equal passes, on the seeds that both have."""
    made = []
    for gan in PEER_VARIANTS:
        if not all(BENCH.has(peer_key(TUNING_SEED, gan, rate, "select", TUNING_SHARE)) for rate in LEARNING_RATES):
            continue
        ours = finished_runs("digits", OURS if gan else "5:1")
        keys = {seed: peer_key(seed, gan, peer_rate(gan), "report") for seed in SEEDS["digits"]}
        theirs = {seed: run for seed, key in keys.items() if seed in ours and (run := BENCH.kept(key))}
        name = f"nvidia-modelopt {peer_version()}{' + GAN' if gan else ''}"
        for seed, run in theirs.items():
            cost = Cost(training_seconds=run["training_seconds"], training_passes=run["training_passes"])
            BENCH.arms.append(ClaimedArm("peer", Arm(name, "peer", run["metrics"], cost, seed)))
        passes = {seed: min(ours[seed]["training_passes"], run["training_passes"]) for seed, run in theirs.items()}
        made.append(ratio_claim(
            f"peer-{'gan' if gan else 'plain'}",
            f"FID against nvidia-modelopt's DMDPipeline{' with GAN' if gan else ', no GAN'}, at equal passes", None,
            {seed: at(ours[seed], "fid", "network_passes", passes[seed]) for seed in theirs},
            {seed: at(theirs[seed], "fid", "network_passes", passes[seed]) for seed in theirs}, "<= 1.0", "digits", "peer"))  # fmt: skip
    return made


def mean(values: list[float]) -> float:
    """Arithmetic mean."""
    return sum(values) / len(values)


def write() -> None:
    """Claims from whatever pieces are here; nothing is computed."""
    made = claims_of("digits", "digits") + claims_of("mnist-5k", "mnist") + peer_claims()
    if runs := finished_runs("captioned digits", OURS):
        collect_arms("captioned digits", {OURS: runs})  # one seed: arms in the file, but no claim
    if kills := BENCH.kept({"part": "kills"}):
        share = kills["bit_equal_runs"] / kills["runs"]
        made.append(claim("resume", f"Share of runs, killed {kills['kills']} times in all, that end in the weights of the run never killed",
                          None, (share, (share, share)), ">= 1.0", "digits", "kills", str(kills), kills["runs"]))  # fmt: skip
    for key in MEMORY:
        if row := BENCH.kept(key):
            name = f"width {row['width']}, batch {row['batch']}"
            BENCH.arms.append(ClaimedArm("memory", Arm(name, "baseline", row, Cost(parameters=int(row["parameters"])))))
    for schedule in SCHEDULES:
        if run := BENCH.kept(schedule_key(schedule)):
            arm = Arm(schedule_name(schedule), "baseline", run["metrics"], Cost(updates=run["updates"]), TUNING_SEED)
            BENCH.arms.append(ClaimedArm("schedule, select split", arm))
    print(BENCH.write(made))


def main(
    part: Literal["digits", "mnist", "text", "schedule", "speed", "memory", "kills", "peer", "write", "all"] = "all",
    arms: tuple[str, ...] = (),
    from_the_end: bool = False,
) -> None:
    """Measure one part, or all and write the result file.

    Args:
        part: which.
        arms: only these arms of digits or mnist-5k, by name; all by default.
        from_the_end: take arms and seeds in the opposite order, to share the work with another process.
    """
    torch.set_num_threads(1)
    pieces = len(ARMS) * (len(SEEDS["digits"]) + len(LEARNING_RATES)) + len(MNIST_ARMS) * len(SEEDS["mnist-5k"]) + 40
    print_estimate("dmd2", 2.5 * 3600, pieces)
    if part in ("digits", "all"):
        run_part("digits", arms or tuple(RECIPES), from_the_end)
    if part in ("mnist", "all"):
        run_part("mnist-5k", arms or MNIST_ARMS, from_the_end)
    if part in ("text", "all"):
        run_part("captioned digits", (OURS,), from_the_end)
    if part in ("schedule", "all"):
        run_schedules(from_the_end)
    if part in ("speed", "all"):
        print(speed_table("digits"), speed_table("mnist-5k"))
    if part in ("memory", "all"):
        print(memory_table())
    if part in ("kills", "all"):
        print(BENCH.piece({"part": "kills"}, kill_trials))
    if part in ("peer", "all") and peer_version():
        run_peer()
    if part in ("write", "all"):
        write()


if __name__ == "__main__":
    tyro.cli(main)
