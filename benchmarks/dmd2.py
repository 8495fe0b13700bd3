"""DMD2's claims, measured again: python benchmarks/dmd2.py [--part digits|mnist|text|memory|kills|peer|write|all]

Every arm of a data set shares the teacher, the data splits, the batch, the evaluation noise and the tuning budget: one
learning rate out of two, chosen per arm on the select split with a seed of its own, then reported on the report split.
Pieces are kept in scratch/ and skipped when the script is started again; the last part writes benchmarks/results/dmd2.json.
"""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from safetensors.torch import load_file

import stillhouse
from dmd2_peer import peer_run, peer_version
from stillhouse.core.evidence import Bench, Claim, judge, mean_with_interval, print_estimate, ratio_of_means
from stillhouse.core.files import content_hash
from stillhouse.core.result import Arm, Cost

FOLDER = Path(__file__).resolve().parent
BENCH = Bench("dmd2", FOLDER)
COMMAND = "python benchmarks/dmd2.py"

TEACHERS = {
    "digits": {"data": "digits", "widths": (24, 48), "teacher_updates": 800, "samples": 2500, "cooldown": 0.3},
    "mnist-5k": {
        "data": "mnist-5k",
        "widths": (16, 32, 48),
        "teacher_updates": 400,
        "teacher_batch": 64,
        "samples": 1000,
        "batch": 32,
        "cooldown": 0.3,
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
    longer: int = 1
    """Trains this many times as long: 1:1 then takes as many network passes as 5:1."""
    seeds: tuple[int, ...] | None = None
    """Seeds of the costliest arms, fewer than the others: the first and the last two, as two processes reach them."""

    def seeds_on(self, data: str) -> tuple[int, ...]:
        """Seeds of this arm on a data set."""
        return self.seeds or SEEDS[data]


ARMS = (
    Recipe("5:1 + GAN", {}),
    Recipe("5:1", {"gan_weight": 0.0}),
    Recipe("1:1", {"gan_weight": 0.0, "updates_ratio": 1}),
    Recipe("1:1, three times as long", {"gan_weight": 0.0, "updates_ratio": 1}, longer=3),
    Recipe("GAN alone", {"matching_weight": 0.0}),
    Recipe("no fake score (SDS)", {"gan_weight": 0.0, "fake_score": "none", "updates_ratio": 1}),
    Recipe("4 steps, backward simulation", {"steps": 4}, seeds=(0, 3, 4)),
    Recipe("4 steps, noised real inputs", {"steps": 4, "inputs": "noised-real"}, seeds=(0, 3, 4)),
)
MNIST_ARMS = ("5:1 + GAN", "5:1", "1:1")


def arm_run(data: str, recipe: Recipe, seed: int, learning_rate: float, judged_on: str, share: float = 1.0) -> Any:
    """One run as a JSON value: its student's metrics, cost and curve. Resumed where an earlier start left it."""
    updates = round(share * UPDATES[data] * recipe.longer)
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
        key = {
            "part": "tuning",
            "data": data,
            "arm": recipe.name,
            "rate": rate,
            "setting": repr((TEACHERS[data], UPDATES[data])),
        }
        found = BENCH.piece(key, lambda: arm_run(data, recipe, TUNING_SEED, rate, "select", TUNING_SHARE))
        return float(found["metrics"]["fid"])

    if data != "digits":
        return tuned_rate("digits", recipe)  # not tuned again: each arm takes its rate on digits
    return min(LEARNING_RATES, key=loss)


def reported(data: str, recipe: Recipe, seed: int) -> Any:
    """The reported run of an arm at its tuned rate."""
    rate = tuned_rate(data, recipe)
    key = {"part": "report", "data": data, "arm": recipe.name, "seed": seed, "rate": rate,
           "setting": repr((TEACHERS[data], UPDATES[data], recipe.longer))}  # fmt: skip
    return BENCH.piece(key, lambda: arm_run(data, recipe, seed, rate, "report"))


def run_part(data: str, names: tuple[str, ...], from_the_end: bool) -> None:
    """All tuning and reported runs of one data set, seed by seed so that a stopped script leaves whole seeds."""
    direction = -1 if from_the_end else 1
    recipes = [recipe for recipe in ARMS if recipe.name in names][::direction]
    for recipe in recipes:
        print(f"{data} {recipe.name}: learning rate {tuned_rate(data, recipe)}", flush=True)
    for seed in SEEDS[data][::direction]:
        for recipe in (recipe for recipe in recipes if seed in recipe.seeds_on(data)):
            started = time.monotonic()
            found = reported(data, recipe, seed)
            print(f"{data} seed {seed} {recipe.name}: FID {found['metrics']['fid']:.3f} "
                  f"recall {found['metrics']['recall']:.3f} ({time.monotonic() - started:.0f} s)", flush=True)  # fmt: skip


# ---- memory and seconds an update


def memory_table() -> list[dict[str, float]]:
    """Peak memory and seconds an update of a step with GAN, as batch and width grow; each in a process of its own."""
    rows = []
    for batch, width in ((32, 16), (64, 16), (128, 16), (256, 16), (64, 32), (64, 64), (64, 128)):
        key = {"part": "memory", "batch": batch, "width": width}
        rows.append(BENCH.piece(key, lambda batch=batch, width=width: measure_memory(batch, width)))
    return rows


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
    key = {"part": "peer", "version": peer_version(), "gan": gan, "rate": rate, "seed": seed, "judged_on": judged_on,
           "share": share, "setting": repr((TEACHERS["digits"], UPDATES["digits"]))}  # fmt: skip
    updates = round(share * UPDATES["digits"])
    return BENCH.piece(key, lambda: peer_run(TEACHERS["digits"], updates, seed, gan, rate, judged_on))


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


def claims_of(data: str, part: str) -> list[Claim]:
    """The claims that this data set's arms decide."""
    names = tuple(recipe.name for recipe in ARMS) if data == "digits" else MNIST_ARMS
    found = {r.name: [reported(data, r, seed) for seed in r.seeds_on(data)] for r in ARMS if r.name in names}
    ours = found["5:1 + GAN"]
    teacher = [run["others"]["teacher, Heun, 18 steps"] for run in ours]

    def fids(name: str, above: bool = False) -> list[float]:
        return [run["metrics"]["fid_above_floor" if above else "fid"] for run in found[name]]

    def metric(runs: list[Any], key: str) -> list[float]:
        return [run[key] if key in run else run["metrics"][key] for run in runs]

    teacher_fid, teacher_above = metric(teacher, "fid"), metric(teacher, "fid_above_floor")
    passes = [run["training_passes"] for run in found["5:1"]]
    one_to_one = found["1:1"]
    made = [
        claim(f"one-step-fid-{data}", "One step, FID above floor, against the teacher's 35 passes", 0.55,
              ratio_of_means(fids("5:1 + GAN", True), teacher_above), "<= 1.0", data, part,
              note=f"raw FID {mean(fids('5:1 + GAN')):.3f} against {mean(teacher_fid):.3f}; "
                   f"KID {mean(metric(ours, 'kid')):.4f} against {mean(metric(teacher, 'kid')):.4f}"),
        *(claim(f"one-step-{key}-{data}", f"One step, {title} against the teacher's", None,
                ratio_of_means(metric(ours, key), metric(teacher, key)), ">= 0.95", data, part)
          for key, title in (("precision", "precision"), ("recall", "recall"), ("class_accuracy", "class accuracy"))),
        claim(f"two-time-scale-updates-{data}", "5 critic updates against 1, FID at equal student updates, no GAN", 0.75,
              ratio_of_means(fids("5:1"), fids("1:1")), "<= 1.0", data, part),
        claim(f"gan-{data}", "+ GAN against none, FID at equal student updates", 0.58,
              ratio_of_means(fids("5:1 + GAN"), fids("5:1")), "<= 1.0", data, part),
        claim(f"gan-passes-{data}", "+ GAN against none, FID at equal network passes", None,
              ratio_of_means([at(r, "fid", "network_passes", p) for r, p in zip(ours, passes, strict=True)], fids("5:1")),
              "<= 1.0", data, part, note="the GAN arm read off its curve, before its cooldown"),
        *(claim(f"speed-{batch.replace(' ', '-')}-{data}", f"Times faster an image than the teacher, {batch}", None,
                mean_with_interval([t["latency"][batch] / r["latency"][batch] for t, r in zip(teacher, ours, strict=True)]),
                ">= 25", data, part) for batch in ("batch 1", "batch 64")),
    ]  # fmt: skip
    if data == "digits":
        four = found["4 steps, backward simulation"]
        four_teachers = [run["others"]["teacher, Heun, 18 steps"]["metrics"] for run in four]
        made += [
            claim("two-time-scale-passes", "5 critic updates against 1, FID at equal network passes, no GAN", None,
                  ratio_of_means(fids("5:1"), fids("1:1, three times as long")), "<= 1.0", data, part,
                  note=f"{mean(metric(found['5:1'], 'training_passes')):.0f} passes against "
                       f"{mean(metric(found['1:1, three times as long'], 'training_passes')):.0f}"),
            claim("gan-alone", "GAN alone against matching + GAN, FID", None,
                  ratio_of_means(fids("GAN alone"), fids("5:1 + GAN")), ">= 1.0", data, part),
            claim("no-fake-score", "No fake score (SDS) against 1:1, FID", None,
                  ratio_of_means(fids("no fake score (SDS)"), fids("1:1")), ">= 1.0", data, part,
                  note=f"recall {mean(metric(found['no fake score (SDS)'], 'recall')):.3f} against {mean(metric(one_to_one, 'recall')):.3f}"),
            claim("backward-simulation", "4 steps: backward simulation against noised real inputs, FID", None,
                  ratio_of_means(fids("4 steps, backward simulation"), fids("4 steps, noised real inputs")), "<= 1.0", data, part,
                  seeds=len(four)),
            claim("four-step-fid", "4 steps, FID above floor, against the teacher's 35 passes", None,
                  ratio_of_means(metric(four, "fid_above_floor"), [t["fid_above_floor"] for t in four_teachers]), "<= 1.0", data, part,
                  note=f"raw FID {mean(metric(four, 'fid')):.3f} against {mean([t['fid'] for t in four_teachers]):.3f}", seeds=len(four)),
            *(claim(f"four-step-{key}", f"4 steps, {key} against the teacher's", None,
                    ratio_of_means(metric(four, key), [t[key] for t in four_teachers]), ">= 0.95", data, part, seeds=len(four))
              for key in ("precision", "recall")),
        ]  # fmt: skip
    collect_arms(data, found, ours)
    return made


def collect_arms(data: str, found: dict[str, list[Any]], ours: list[Any]) -> None:
    """Every arm's raw numbers, for the result file."""
    from stillhouse.core.evidence import ClaimedArm

    seeds = {recipe.name: recipe.seeds_on(data) for recipe in ARMS}
    for name, runs in found.items():
        for seed, run in zip(seeds[name], runs, strict=True):
            cost = Cost(parameters=run["parameters"], latency_seconds=run["latency"], updates=run["updates"],
                        training_seconds=run["training_seconds"], training_passes=run["training_passes"])  # fmt: skip
            BENCH.arms.append(
                ClaimedArm(
                    data, Arm(name, "student" if name == "5:1 + GAN" else "baseline", run["metrics"], cost, seed)
                )
            )
    for seed, run in zip(SEEDS[data], ours, strict=True):
        for name, other in run["others"].items():
            role = "teacher" if "18 steps" in name else "floor" if name.startswith("real") else "baseline"
            cost = Cost(other["parameters"], network_passes=other["passes"], latency_seconds=other["latency"])
            BENCH.arms.append(ClaimedArm(data, Arm(name, role, other["metrics"], cost, seed)))


def collect_text() -> None:
    """A student of captions ("a photo of the digit seven"): one seed, so arms in the file but no claim."""
    runs = [reported("captioned digits", ARMS[0], seed) for seed in SEEDS["captioned digits"]]
    collect_arms("captioned digits", {ARMS[0].name: runs}, runs)


def peer_claims() -> list[Claim]:
    """Against the peer at equal passes."""
    from stillhouse.core.evidence import ClaimedArm

    made = []
    for gan in PEER_VARIANTS:
        name = "5:1 + GAN" if gan else "5:1"
        theirs = [peer(seed, gan, peer_rate(gan), "report") for seed in SEEDS["digits"]]
        ours = [reported("digits", next(r for r in ARMS if r.name == name), seed) for seed in SEEDS["digits"]]
        for seed, run in zip(SEEDS["digits"], theirs, strict=True):
            cost = Cost(training_seconds=run["training_seconds"], training_passes=run["training_passes"])
            BENCH.arms.append(
                ClaimedArm(
                    "peer",
                    Arm(
                        f"nvidia-modelopt {peer_version()}{' + GAN' if gan else ''}", "peer", run["metrics"], cost, seed
                    ),
                )
            )
        passes = [min(r["training_passes"], t["training_passes"]) for r, t in zip(ours, theirs, strict=True)]
        ratio = ratio_of_means(
            [at(r, "fid", "network_passes", p) for r, p in zip(ours, passes, strict=True)],
            [at(t, "fid", "network_passes", p) for t, p in zip(theirs, passes, strict=True)],
        )
        made.append(claim(f"peer-{'gan' if gan else 'plain'}", f"FID against nvidia-modelopt's DMDPipeline{' with GAN' if gan else ', no GAN'}, at equal passes",
                          None, ratio, "<= 1.0", "digits", "peer"))  # fmt: skip
    return made


def mean(values: list[float]) -> float:
    """Arithmetic mean."""
    return sum(values) / len(values)


def write() -> None:
    """Claims from whatever parts are finished."""
    made = claims_of("digits", "digits")
    if all_pieces("mnist-5k"):
        made += claims_of("mnist-5k", "mnist")
    if all_pieces("captioned digits"):
        collect_text()
    kills = BENCH.piece({"part": "kills"}, kill_trials)
    share = kills["bit_equal_runs"] / kills["runs"]
    made.append(Claim("resume", f"Share of runs, killed {kills['kills']} times in all, that end in the weights of the run never killed",
                      None, share, (share, share), ">= 1.0", kills["runs"], judge((share, share), ">= 1.0"), "digits", f"{COMMAND} --part kills && {COMMAND} --part write", note=str(kills)))  # fmt: skip
    if peer_version():
        made += peer_claims()
    for row in memory_table():
        from stillhouse.core.evidence import ClaimedArm

        BENCH.arms.append(
            ClaimedArm(
                "memory",
                Arm(
                    f"width {row['width']}, batch {row['batch']}",
                    "baseline",
                    row,
                    Cost(parameters=int(row["parameters"])),
                ),
            )
        )
    print(BENCH.write(made))


def all_pieces(data: str) -> bool:
    """Whether the data set's runs were asked for in this checkout."""
    return (BENCH.pieces / f"{data}.done").exists()


def main(
    part: Literal["digits", "mnist", "text", "memory", "kills", "peer", "write", "all"] = "all",
    from_the_end: bool = False,
) -> None:
    """Measure one part, or all and write the result file.

    Args:
        part: which.
        from_the_end: take arms and seeds in the opposite order, to share the work with another process.
    """
    torch.set_num_threads(1)
    pieces = len(ARMS) * (len(SEEDS["digits"]) + len(LEARNING_RATES)) + len(MNIST_ARMS) * len(SEEDS["mnist-5k"]) + 40
    print_estimate("dmd2", 2.5 * 3600, pieces)
    if part in ("digits", "all"):
        run_part("digits", tuple(recipe.name for recipe in ARMS), from_the_end)
    if part in ("mnist", "all"):
        run_part("mnist-5k", MNIST_ARMS, from_the_end)
        (BENCH.pieces / "mnist-5k.done").touch()
    if part in ("text", "all"):
        run_part("captioned digits", (ARMS[0].name,), from_the_end)
        (BENCH.pieces / "captioned digits.done").touch()
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
