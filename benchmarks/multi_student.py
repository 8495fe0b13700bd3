"""Multi-Student Distillation's claims, measured: python benchmarks/multi_student.py [--part full|small|partitions|write|all]

Four students against one at equal total and at equal per-student batch, small students with and without score matching,
and the partitions, on digits. All arms share teacher, seeds, updates and the same learning rates to choose from;
partitions and numbers of students take the rate of the arm with one student, which favours that arm. An arm "by matching
alone" is its adversarial run at the end of the first stage. Pieces that were not run are left out of the result file,
which `--part write` makes from those on disk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib
import torch
import tyro
from matplotlib.figure import Figure

from image_arms import ImageArm, ImageArms, mean
from stillhouse.core.evidence import Bench, Claim, ClaimedArm, print_estimate
from stillhouse.core.result import Arm, Cost

FOLDER = Path(__file__).resolve().parent
BENCH = Bench("multi_student", FOLDER)
COMMAND = "python benchmarks/multi_student.py"
DATA = "digits"
SHARED: dict[str, Any] = {
    "data": DATA, "widths": (16, 32), "teacher_updates": 600, "student_updates": 80, "adversarial_updates": 0,
    "updates_ratio": 2, "samples": 2500,
}  # fmt: skip
GAN: dict[str, Any] = {"adversarial_updates": 30}
SMALL: dict[str, Any] = {"student_widths": (8, 16), "score_matching_updates": 200}
RATES = (1e-4, 2e-4, 4e-4)
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
    ("four-against-one", "4 students against 1 at equal batch of each student, FID", 0.90, FOUR, ONE),
    ("equal-total-batch", "4 students against 1 at equal total batch, FID", 0.97, QUARTER, ONE),
    ("adversarial", "4 students against 1 after the adversarial stage, equal batch of each, FID", 0.94, f"{FOUR}, adversarial", f"{ONE}, adversarial"),
    ("adversarial-total", "4 students against 1 after the adversarial stage, equal total batch, FID", None, f"{QUARTER}, adversarial", f"{ONE}, adversarial"),
    ("score-matching", "4 small students with score matching against without, FID", 0.25, "4 small", "4 small, no score matching"),
    ("four-small", "4 small students against 1 small at equal batch of each, FID", None, "4 small", "1 small"),
    ("four-small-total", "4 small students against 1 small at equal total batch, FID", None, "4 small, batch / 4", "1 small"),
    ("four-small-one-large", "4 small students against 1 of the teacher's size at equal batch of each, FID", None, "4 small", ONE),
    ("k-means", "k-means parts against consecutive ones, FID", 1.01, "4 students, k-means", FOUR),
    ("random", "consecutive parts against random ones, FID", None, FOUR, "4 students, random"),
)  # fmt: skip


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
        seeds = sorted(found[top].keys() & found[bottom].keys())
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
        made.append(family(part).ratio(id, statement, paper, above, below, "<= 1.0", f"{COMMAND} --part {part}", note))
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
        rows.append({
            "name": name, "fid": [run["metrics"]["fid"] for run in runs.values()], "latency": latency, "memory": memory,
            "used": memory / students, "passes": costs[0]["training_passes"],
        })  # fmt: skip
    return rows


def plot(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """FID against latency, size, memory and training cost, an arm a number."""
    matplotlib.rcParams["svg.hashsalt"] = "stillhouse"
    figure = Figure(figsize=(9.5, 8.2), layout="constrained")
    panels = figure.subplots(2, 2, sharey=True).flatten()
    for panel, (key, title) in zip(panels, PANELS, strict=True):
        for number, row in enumerate(rows, 1):
            fid = mean(row["fid"])
            small = "small" in row["name"]
            panel.errorbar(row[key], fid, [[fid - min(row["fid"])], [max(row["fid"]) - fid]],
                           fmt="s" if small else "o", color="C1" if small else "C0", markersize=4, linewidth=0.8)  # fmt: skip
            panel.annotate(str(number), (row[key], fid), xytext=(5, 2), textcoords="offset points", fontsize=8)
        panel.set(xlabel=title, xscale="linear" if key == "latency" else "log", yscale="log")
        panel.grid(alpha=0.3)
    for panel in panels[::2]:
        panel.set_ylabel("FID, mean and range over seeds")
    lines = [f"{number}  {row['name']}" for number, row in enumerate(rows, 1)]
    half = -(-len(lines) // 2)
    for column, part in enumerate((lines[:half], lines[half:])):
        figure.text(0.08 + 0.45 * column, -0.01, "\n".join(part), va="top", fontsize=9)
    figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")


def write() -> None:
    """Claims and plot from whatever is finished."""
    found = {name: runs for part in ARMS for name, runs in finished(part).items()}
    collect(found)
    rows = frontier_rows(found)
    for row in rows:
        print(f"{row['name']:36} FID {mean(row['fid']):7.3f} ({len(row['fid'])} seeds)  {row['latency']:.2f} ms  "
              f"{row['used']:,.0f} of {row['memory']:,} parameters  {row['passes']:,.0f} passes")  # fmt: skip
    plot(rows, BENCH.results_file.with_name("multi_student-frontier.svg"))
    print(BENCH.write(claims(found)))


def main(part: Literal["full", "small", "partitions", "write", "all"] = "all") -> None:
    """Measure one part, or all, and write the result file.

    Args:
        part: which; write makes the file from what is on disk.
    """
    torch.set_num_threads(1)
    chosen = [name for name in ARMS if part in (name, "all")]
    students = [(a.options["students"], len(SEEDS[name])) for name in chosen for a in ARMS[name]]
    seconds = SECONDS_A_STUDENT * sum(count * seeds for count, seeds in students)
    print_estimate("multi_student", seconds, sum(seeds for _, seeds in students))
    for name in chosen:
        measure(name)
    write()


if __name__ == "__main__":
    tyro.cli(main)
