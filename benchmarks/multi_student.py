"""Multi-Student Distillation's claims, measured: python benchmarks/multi_student.py [--part plane|full|small|partitions|write|all]

Four students against one at equal total and at equal per-student batch, small students with and without score matching,
and the partitions, on 64 Gaussians in the plane and on digits. All arms share teacher, seeds, updates and the same learning rates to choose from;
partitions and numbers of students take the rate of the arm with one student, which favours that arm. An arm "by matching
alone" is its adversarial run at the end of the first stage. Pieces that were not run are left out of the result file,
which `--part write` makes from those on disk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, cast

import matplotlib
import torch
import tyro
from matplotlib.figure import Figure
from safetensors.torch import load_file
from safetensors.torch import save as safetensors_bytes

from image_arms import TUNING_SEED, ImageArm, ImageArms, made_claim, mean, plain_logarithm
from multi_student_plane import GAN_SHARE, ClassDenoiser, PlaneArm, plane_floor, plane_run, plane_teacher
from stillhouse.core.evidence import Bench, Claim, ClaimedArm, print_estimate, ratio_of_means
from stillhouse.core.files import write_atomically
from stillhouse.core.result import Arm, Cost

FOLDER = Path(__file__).resolve().parent
BENCH = Bench("multi_student", FOLDER)
COMMAND = "python benchmarks/multi_student.py"
DATA = "digits"
SHARED: dict[str, Any] = {
    "data": DATA,
    "widths": (16, 32),
    "teacher_updates": 600,
    "student_updates": 80,
    "adversarial_updates": 0,
    "updates_ratio": 2,
    "samples": 2500,
}
GAN: dict[str, Any] = {"adversarial_updates": 30}
SMALL: dict[str, Any] = {"student_widths": (8, 16), "score_matching_updates": 200}
RATES = (4e-4, 8e-4, 1.6e-3)
SECONDS_A_STUDENT = 35.0
"""Of one core, for the estimate."""


def arm(name: str, tuned_as: str = "", **options: Any) -> ImageArm:
    """An arm; `batch` is of each student."""
    return ImageArm(name, "multi_student", options, tuned_as)


ONE, FOUR, QUARTER, TUNED = "1 student", "4 students", "4 students, batch / 4", "1 student, tuning"
ARMS: dict[str, tuple[ImageArm, ...]] = {
    "full": (
        arm(f"{ONE}, adversarial", TUNED, students=1, batch=64, **GAN),
        arm(f"{FOUR}, adversarial", TUNED, students=4, batch=64, **GAN),
        arm(f"{QUARTER}, adversarial", TUNED, students=4, batch=16, **GAN),
    ),
    "small": (
        arm("1 small", students=1, batch=64, **SMALL),
        arm("4 small", "1 small", students=4, batch=64, **SMALL),
        arm("4 small, batch / 4", "1 small", students=4, batch=16, **SMALL),
        arm("4 small, no score matching", "1 small", students=4, batch=64, **{**SMALL, "score_matching_updates": 0}),
    ),
    "partitions": (
        arm("4 students, k-means", TUNED, students=4, batch=64, partition="kmeans"),
        arm("4 students, random", TUNED, students=4, batch=64, partition="random"),
    ),
}
SEEDS = {"full": (0, 1, 2, 3, 4), "small": (0, 1, 2), "partitions": (0, 1, 2)}
EVERY = (*(arm for arms in ARMS.values() for arm in arms), arm(TUNED, students=1, batch=64))
STUDENTS = {arm.name: arm.options["students"] for arm in EVERY}

CLAIMS: tuple[tuple[str, str, float | None, str, str], ...] = (
    ("four-against-one", "4 students against 1 at equal batch of each student", 0.90, FOUR, ONE),
    ("equal-total-batch", "4 students against 1 at equal total batch", 0.97, QUARTER, ONE),
    (
        "adversarial",
        "4 students against 1 after the adversarial stage, equal batch of each",
        0.94,
        f"{FOUR}, adversarial",
        f"{ONE}, adversarial",
    ),
    (
        "adversarial-total",
        "4 students against 1 after the adversarial stage, equal total batch",
        None,
        f"{QUARTER}, adversarial",
        f"{ONE}, adversarial",
    ),
    (
        "score-matching",
        "4 small students with score matching against without",
        0.25,
        "4 small",
        "4 small, no score matching",
    ),
    ("four-small", "4 small students against 1 small at equal batch of each", None, "4 small", "1 small"),
    (
        "four-small-total",
        "4 small students against 1 small at equal total batch",
        None,
        "4 small, batch / 4",
        "1 small",
    ),
    (
        "four-small-one-large",
        "4 small students against 1 of the teacher's size at equal batch of each",
        None,
        "4 small",
        ONE,
    ),
    ("k-means", "k-means parts against consecutive ones", 1.01, "4 students, k-means", FOUR),
    ("random", "consecutive parts against random ones", None, FOUR, "4 students, random"),
    ("small-random", "consecutive parts against random ones, small students", None, "4 small", "4 small, random"),
)


# ---- the plane

PLANE = "64 Gaussians in 16 classes"
PLANE_SMALL: dict[str, Any] = {"width": 64, "score_matching": 300}
PLANE_ARMS: dict[str, PlaneArm] = {
    ONE: PlaneArm(),
    FOUR: PlaneArm(students=4),
    QUARTER: PlaneArm(students=4, batch=16),
    "1 small": PlaneArm(**PLANE_SMALL),
    "4 small": PlaneArm(students=4, **PLANE_SMALL),
    "4 small, batch / 4": PlaneArm(students=4, batch=16, **PLANE_SMALL),
    "4 small, no score matching": PlaneArm(students=4, **{**PLANE_SMALL, "score_matching": 0}),
    "4 students, random": PlaneArm(students=4, partition="random"),
    "4 students, k-means": PlaneArm(students=4, partition="kmeans"),
    "4 small, random": PlaneArm(students=4, partition="random", **PLANE_SMALL),
    f"{ONE}, adversarial": PlaneArm(adversarial=40),
    f"{FOUR}, adversarial": PlaneArm(students=4, adversarial=40),
    f"{QUARTER}, adversarial": PlaneArm(students=4, batch=16, adversarial=40),
}
PLANE_RATES = (5e-4, 1e-3, 2e-3)
PLANE_SEEDS = (0, 1, 2, 3, 4)


def plane_key(name: str, rate: float, seed: int) -> dict[str, Any]:
    """What a run in the plane depends on."""
    gan = {"gan_share": GAN_SHARE} if PLANE_ARMS[name].adversarial else {}
    return {"part": "plane", **asdict(PLANE_ARMS[name]), **gan, "rate": rate, "seed": seed}


def measure_plane() -> None:
    """All runs in the plane, seed by seed; rates are chosen on a seed of their own for one student, large and small."""
    file = BENCH.pieces / "plane-teacher.safetensors"
    if not file.exists():
        write_atomically(file, safetensors_bytes(plane_teacher().state_dict()))
    teacher = ClassDenoiser().eval().requires_grad_(False)
    teacher.load_state_dict(load_file(file))

    def run(name: str, rate: float, seed: int) -> Any:
        return BENCH.piece(plane_key(name, rate, seed), lambda: plane_run(teacher, PLANE_ARMS[name], rate, seed))

    for name in (ONE, "1 small"):
        print(
            f"plane {name}: {[round(run(name, r, TUNING_SEED)['matching']['w2'], 4) for r in PLANE_RATES]} at {PLANE_RATES}"
        )
    for seed in PLANE_SEEDS:
        for name in PLANE_ARMS:
            found = run(name, cast(float, plane_rate(name)), seed)
            print(
                f"plane seed {seed} {name}: { ({k: round(v['w2'], 4) for k, v in found.items() if isinstance(v, dict)}) }",
                flush=True,
            )


def plane_rate(name: str) -> float | None:
    """The rate of an arm: that of one student of its size."""
    tuned = "1 small" if "small" in name else ONE
    found = {rate: BENCH.kept(plane_key(tuned, rate, TUNING_SEED)) for rate in PLANE_RATES}
    if None in found.values():
        return None
    return min(PLANE_RATES, key=lambda rate: found[rate]["matching"]["w2"])


def finished_plane() -> dict[str, dict[int, Any]]:
    """The runs in the plane that are on disk, each at its end."""
    found: dict[str, dict[int, Any]] = {}
    for name in PLANE_ARMS:
        rate = plane_rate(name)
        runs = {seed: rate and BENCH.kept(plane_key(name, rate, seed)) for seed in PLANE_SEEDS}
        stage = "adversarial" if PLANE_ARMS[name].adversarial else "matching"
        ends = {seed: {**run, **run[stage]} for seed, run in runs.items() if run}
        if ends:
            found[name] = ends
    return found


def plane_claims(found: Mapping[str, Mapping[int, Any]]) -> list[Claim]:
    """Ratios of W2 over the seeds that both arms have."""
    made, command = [], f"{COMMAND} --part plane"
    floor = mean([plane_floor(seed) for seed in PLANE_SEEDS])
    for id, statement, paper, top, bottom in CLAIMS:
        seeds = sorted(found.get(top, {}).keys() & found.get(bottom, {}).keys())
        if len(seeds) < 2:
            continue
        above, below = ([found[name][s]["w2"] for s in seeds] for name in (top, bottom))
        passes = found[top][seeds[0]]["passes"] / found[bottom][seeds[0]]["passes"]
        note = (
            f"W2 {mean(above):.4f} against {mean(below):.4f}, floor {floor:.4f}; {passes:.2f} times the training passes"
        )
        made.append(
            made_claim(
                f"{id}-plane",
                f"{statement}, W2",
                paper,
                ratio_of_means(above, below),
                "<= 1.0",
                len(seeds),
                PLANE,
                command,
                note,
            )
        )
    for name, runs in found.items():
        for seed, run in runs.items():
            cost = Cost(parameters=run["parameters"], network_passes=1, training_passes=run["passes"])
            role: Any = "baseline" if name.startswith("1 ") else "student"
            BENCH.arms.append(ClaimedArm(PLANE, Arm(name, role, {"w2": run["w2"]}, cost, seed)))
    if found:
        BENCH.arms.append(ClaimedArm(PLANE, Arm("class against class", "floor", {"w2": floor}, Cost())))
    return made


# ---- images


def family(part: str) -> ImageArms:
    """What all arms share, with the seeds of a part."""
    return ImageArms(BENCH, DATA, SHARED, RATES, SEEDS[part])


def measure(part: str) -> None:
    """A part's runs, seed by seed, so that a stopped script leaves whole seeds."""
    for seed in SEEDS[part]:
        for chosen in ARMS[part]:
            found = family(part).run(chosen, seed, family(part).rate(chosen, EVERY), "report")
            print(f"{part} seed {seed} {chosen.name}: FID {found['metrics']['fid']:.3f}", flush=True)


def finished(part: str) -> dict[str, dict[int, Any]]:
    """The runs of a part that are on disk, by arm and seed; nothing is computed."""
    found: dict[str, dict[int, Any]] = {}
    for chosen in ARMS[part]:
        rate = family(part).kept_rate(chosen, EVERY)
        runs = {seed: rate and family(part).kept(chosen, seed, rate, "report") for seed in SEEDS[part]}
        found[chosen.name] = {seed: run for seed, run in runs.items() if run}
        if chosen.options.get("adversarial_updates"):
            ends = {seed: after_matching(run) for seed, run in found[chosen.name].items()}
            found[chosen.name.removesuffix(", adversarial")] = ends
    return found


def after_matching(run: Any) -> Any:
    """An adversarial run at the end of its first stage, from its curves."""
    updates = SHARED["student_updates"]
    at_end = {
        metric: next(p for p in points if p["student_updates"] == updates) for metric, points in run["curves"].items()
    }
    metrics = {metric: point["value"] for metric, point in at_end.items()}
    passes = at_end["fid"]["network_passes"]
    return {
        "metrics": metrics,
        "cost": {**run["cost"], "training_passes": passes, "training_seconds": None, "updates": {}},
    }


def claims(found: Mapping[str, Mapping[int, Any]]) -> list[Claim]:
    """Ratios of FID over the seeds that both arms have."""
    made = []
    for id, statement, paper, top, bottom in CLAIMS:
        seeds = sorted(found.get(top, {}).keys() & found.get(bottom, {}).keys())
        if len(seeds) < 2:
            continue
        part = next(name for name, arms in ARMS.items() if any(a.name.startswith(top) for a in arms))
        above, below = ([found[name][s]["metrics"]["fid"] for s in seeds] for name in (top, bottom))
        recall = [mean([found[name][s]["metrics"]["recall"] for s in seeds]) for name in (top, bottom)]
        passes = [mean([found[name][s]["cost"]["training_passes"] for s in seeds]) for name in (top, bottom)]
        note = (
            f"FID {mean(above):.3f} against {mean(below):.3f}, recall {recall[0]:.3f} against {recall[1]:.3f}; "
            f"{passes[0] / passes[1]:.2f} times the training passes"
        )
        made.append(
            family(part).ratio(id, f"{statement}, FID", paper, above, below, "<= 1.0", f"{COMMAND} --part {part}", note)
        )
    return made


def collect(found: Mapping[str, Mapping[int, Any]]) -> None:
    """The raw numbers of every run, and the teacher's and the floor's once."""
    for name, runs in found.items():
        for seed, run in runs.items():
            role: Any = "baseline" if name.startswith("1 ") else "student"
            BENCH.arms.append(ClaimedArm(DATA, Arm(name, role, run["metrics"], Cost(**run["cost"]), seed)))
    first = next(run for runs in found.values() for run in runs.values())
    for name, metrics in first["others"].items():
        role = "floor" if name.startswith("real") else "teacher"
        BENCH.arms.append(ClaimedArm(DATA, Arm(name, role, metrics, Cost(**first["other_costs"][name]), 0)))


# ---- the frontier

PANELS: tuple[tuple[str, str], ...] = (
    ("latency", "Milliseconds an image, batch 1"),
    ("used", "Parameters an image passes through"),
    ("memory", "Parameters held in memory"),
    ("passes", "Network passes in training"),
)


def frontier_rows(found: Mapping[str, Mapping[int, Any]]) -> list[dict[str, Any]]:
    """An arm a row: its FID on every seed, and what it costs in four ways."""
    rows = []
    for name, runs in found.items():
        if not runs:
            continue
        costs = [run["cost"] for run in runs.values()]
        # the fastest of the seeds: anything slower is the machine's other work
        latency = 1000 * min(cost["latency_seconds"]["batch 1"] for cost in costs)
        memory = costs[0]["parameters"]
        students = STUDENTS.get(name) or STUDENTS[f"{name}, adversarial"]
        rows.append(
            {
                "name": name,
                "quality": [run["metrics"]["fid"] for run in runs.values()],
                "latency": latency,
                "memory": memory,
                "used": memory / students,
                "passes": costs[0]["training_passes"],
            }
        )
    return rows


def plot(rows: Sequence[Mapping[str, Any]], panels: Sequence[tuple[str, str]], metric: str, path: Path) -> None:
    """The metric against latency, size, memory and training cost, an arm a number."""
    matplotlib.rcParams["svg.hashsalt"] = "stillhouse"
    figure = Figure(figsize=(9.5, 4.1 * -(-len(panels) // 2)), layout="constrained")
    axes = figure.subplots(-(-len(panels) // 2), 2, sharey=True).flatten()
    for axis, (key, title) in zip(axes, panels, strict=False):
        for number, row in enumerate(rows, 1):
            values, small = row["quality"], "small" in row["name"]
            middle = mean(values)
            axis.errorbar(
                row[key],
                middle,
                [[middle - min(values)], [max(values) - middle]],
                fmt="s" if small else "o",
                color="C1" if small else "C0",
                markersize=4,
                linewidth=0.8,
            )
            axis.annotate(
                str(number),
                (row[key], middle),
                xytext=(5, 2 + 8 * (number % 3 - 1)),
                textcoords="offset points",
                fontsize=8,
            )
        axis.set(
            xlabel=title,
            ylabel=f"{metric}, mean and range over seeds",
            xscale="linear" if key == "latency" else "log",
        )
        plain_logarithm(axis)
    lines = [f"{number}  {row['name']}" for number, row in enumerate(rows, 1)]
    if len(panels) % 2:
        axes[-1].axis("off")
        axes[-1].text(0.02, 0.98, "\n".join(lines), va="top", fontsize=9, transform=axes[-1].transAxes)
    else:
        figure.supxlabel(
            "    ".join(lines[: len(lines) // 2]) + "\n" + "    ".join(lines[len(lines) // 2 :]), fontsize=7
        )
    figure.savefig(path, metadata={"Date": None})


def plane_rows(found: Mapping[str, Mapping[int, Any]]) -> list[dict[str, Any]]:
    """An arm in the plane a row."""
    return [
        {
            "name": name,
            "quality": [run["w2"] for run in runs.values()],
            "memory": first["parameters"],
            "used": first["used"],
            "passes": first["passes"],
        }
        for name, runs in found.items()
        for first in [next(iter(runs.values()))]
    ]


def write() -> None:
    """Claims and plots from whatever is finished."""
    plane = finished_plane()
    made = plane_claims(plane)
    if plane:
        plot(plane_rows(plane), PANELS[1:], "W2", BENCH.results_file.with_name("multi_student-plane.svg"))
    found = {name: runs for part in ARMS for name, runs in finished(part).items()}
    if any(found.values()):
        collect(found)
        rows = frontier_rows(found)
        for row in rows:
            print(
                f"{row['name']:36} FID {mean(row['quality']):7.3f} ({len(row['quality'])} seeds)  {row['latency']:.2f} ms  "
                f"{row['used']:,.0f} of {row['memory']:,} parameters  {row['passes']:,.0f} passes"
            )
        plot(rows, PANELS, "FID", BENCH.results_file.with_name("multi_student-digits.svg"))
        made += claims(found)
    print(BENCH.write(made))


def main(part: Literal["plane", "full", "small", "partitions", "write", "all"] = "all") -> None:
    """Measure one part, or all, and write the result file.

    Args:
        part: which; write makes the file from what is on disk.
    """
    torch.set_num_threads(1)
    chosen = [name for name in ARMS if part in (name, "all")]
    students = [(a.options["students"], len(SEEDS[name])) for name in chosen for a in ARMS[name]]
    seconds = SECONDS_A_STUDENT * sum(count * seeds for count, seeds in students)
    print_estimate("multi_student", seconds + 600 * (part in ("plane", "all")), sum(seeds for _, seeds in students))
    if part in ("plane", "all"):
        measure_plane()
    for name in chosen:
        measure(name)
    write()


if __name__ == "__main__":
    tyro.cli(main)
