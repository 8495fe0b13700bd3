"""DisBack's claim, measured: python benchmarks/disback.py [--part grid|digits|narrow|mnist|write|all]

Does walking back along recorded nodes converge faster than the base alone, at equal student updates and at equal network
passes, the recording charged? Every arm has the teacher, the seeds, the batch and the same learning rates to choose from on
a seed (and split) of its own. Pieces that were not run are left out of the result file, which `--part write` makes from
those on disk.
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

from disback_grid import REGIMES, PlaneDenoiser, Regime, grid_arm, grid_floor, grid_teacher
from image_arms import TUNING_SEED, ImageArm, ImageArms, at, made_claim, mean, plain_logarithm
from stillhouse.core.evidence import Bench, Claim, ClaimedArm, print_estimate, ratio_of_means
from stillhouse.core.files import write_atomically
from stillhouse.core.result import Arm, Cost

FOLDER = Path(__file__).resolve().parent
BENCH = Bench("disback", FOLDER)
COMMAND = "python benchmarks/disback.py"
BASE = "base"
PATHS: dict[str, dict[str, Any]] = {
    BASE: {"path": "none"},
    "warm fake only": {"path": "warm-fake"},
    "DisBack, fixed": {"path": "backtrack", "switch": "fixed", "switch_updates": 10},
    "DisBack, adaptive": {"path": "backtrack", "switch": "adaptive", "switch_updates": 6},
}
Runs = Mapping[str, Mapping[int, Any]]
"""By arm and seed."""
MOMENTS = {"early": 0.125, "halfway": 0.5, "end": 1.0}
"""Shares of the student's updates at which arms are compared."""
GRID_RATES = (5e-4, 1e-3)
GRID_TUNING_SEEDS = (TUNING_SEED, TUNING_SEED + 1)
GRID_SEEDS = (0, 1, 2, 3, 4)

DIGITS: dict[str, Any] = {
    "data": "digits",
    "widths": (16, 32),
    "teacher_updates": 600,
    "student_updates": 150,
    "samples": 2500,
}
IMAGES: dict[str, dict[str, Any]] = {
    "digits": DIGITS,
    "narrow": {**DIGITS, "student_widths": (8, 16), "score_matching_updates": 200},
    "mnist": {
        "data": "mnist-5k",
        "widths": (16, 32, 48),
        "teacher_updates": 400,
        "teacher_batch": 64,
        "samples": 1000,
        "batch": 32,
        "student_updates": 60,
    },
}
TITLES = {"digits": "digits", "narrow": "digits, a student narrower than its teacher", "mnist": "mnist-5k"}
IMAGE_SEEDS = {"digits": (0, 1, 2, 3, 4), "narrow": (0, 1, 2), "mnist": (0, 1)}
IMAGE_RATES = {"digits": (4e-4, 8e-4), "narrow": (4e-4, 8e-4), "mnist": (8e-4,)}


# ---- the grid


def grid_key(name: str, regime: Regime, rate: float, seed: int) -> dict[str, Any]:
    """What a run on the grid depends on."""
    return {"part": "grid", "arm": name, **PATHS[name], **asdict(regime), "rate": rate, "seed": seed}


def grid_run(name: str, regime: Regime, rate: float, seed: int) -> Any:
    """One arm on the grid."""
    options = {"switch": "fixed", "switch_updates": 1, **PATHS[name]}
    key = grid_key(name, regime, rate, seed)
    return BENCH.piece(key, lambda: grid_arm(saved_grid_teacher(), **options, regime=regime, rate=rate, seed=seed))


def saved_grid_teacher() -> PlaneDenoiser:
    """The grid's teacher, trained once."""
    file = BENCH.pieces / "grid-teacher.safetensors"
    if not file.exists():
        write_atomically(file, safetensors_bytes(grid_teacher().state_dict()))
    teacher = PlaneDenoiser().eval().requires_grad_(False)
    teacher.load_state_dict(load_file(file))
    return teacher


def along(run: Any) -> float:
    """W2 averaged over the curve: what a rate is chosen by, which favours fast convergence for all arms alike."""
    return mean([point["value"] for point in run["curve"]])


def measure_grid() -> None:
    """All runs on the grid, seed by seed."""
    for regime in REGIMES:
        for name in PATHS:
            for rate in GRID_RATES:
                for seed in GRID_TUNING_SEEDS:
                    grid_run(name, regime, rate, seed)
        rates = {name: grid_rate(name, regime) for name in PATHS}
        print(f"{regime.name}: learning rates {rates}", flush=True)
        for seed in GRID_SEEDS:
            for name, rate in rates.items():
                curve = grid_run(name, regime, cast(float, rate), seed)["curve"]
                print(f"{regime.name} seed {seed} {name}: {[round(p['value'], 3) for p in curve]}", flush=True)


def grid_rate(name: str, regime: Regime) -> float | None:
    """The arm's learning rate if it was tuned already: least W2 along the way, on seeds of their own."""
    tuned = {rate: [BENCH.kept(grid_key(name, regime, rate, s)) for s in GRID_TUNING_SEEDS] for rate in GRID_RATES}
    if any(None in runs for runs in tuned.values()):
        return None
    return min(GRID_RATES, key=lambda rate: mean([along(run) for run in tuned[rate]]))


def finished_grid(regime: Regime) -> Runs:
    """The curves that are on disk."""
    found: dict[str, dict[int, Any]] = {}
    for name in PATHS:
        rate = grid_rate(name, regime)
        runs = {seed: rate and BENCH.kept(grid_key(name, regime, rate, seed)) for seed in GRID_SEEDS}
        found[name] = {seed: run["curve"] for seed, run in runs.items() if run}
    return found


# ---- images


def image_arms(part: str) -> tuple[ImageArms, list[ImageArm]]:
    """The four arms on a data set, on Diff-Instruct, which takes turns one to one."""
    shared = {**IMAGES[part], "updates_ratio": 1, "recording_updates": 100, "nodes": 5}
    family = ImageArms(BENCH, TITLES[part], shared, IMAGE_RATES[part], IMAGE_SEEDS[part])
    return family, [ImageArm(name, "disback", options) for name, options in PATHS.items()]


def measure_images(part: str) -> None:
    """All runs of a data set, seed by seed, so that a stopped script leaves whole seeds."""
    family, arms = image_arms(part)
    rates = {arm.name: family.rate(arm) for arm in arms}
    print(f"{part}: learning rates {rates}", flush=True)
    for seed in family.seeds:
        for arm in arms:
            found = family.run(arm, seed, rates[arm.name], "report")
            curve = [round(p["value"], 2) for p in found["curves"]["fid"]]
            print(f"{part} seed {seed} {arm.name}: FID {curve}", flush=True)


def finished_images(part: str) -> Runs:
    """The runs that are on disk."""
    family, arms = image_arms(part)
    found: dict[str, dict[int, Any]] = {}
    for arm in arms:
        rate = family.kept_rate(arm)
        runs = {seed: rate and family.kept(arm, seed, rate, "report") for seed in family.seeds}
        found[arm.name] = {seed: run for seed, run in runs.items() if run}
    return found


# ---- claims


def claims_of(curves: Runs, id: str, metric: str, place: str, part: str) -> list[Claim]:
    """Each arm against the base at equal student updates, and at equal passes with the recording charged."""
    made, command = [], f"{COMMAND} --part {part}"
    for name in list(PATHS)[1:]:
        seeds = sorted(curves[BASE].keys() & curves[name].keys())
        if len(seeds) < 2:
            continue
        slug = name.lower().replace(", ", "-").replace(" ", "-")
        pairs = [(curves[name][seed], curves[BASE][seed]) for seed in seeds]
        last = pairs[0][1][-1]
        places = {
            **{m: ("student_updates", share * last["student_updates"]) for m, share in MOMENTS.items()},
            "charged-early": ("network_passes", MOMENTS["early"] * last["network_passes"]),
            "charged-end": ("network_passes", last["network_passes"]),
        }
        for moment, (axis, position) in places.items():
            top, bottom = ([at(pair[side], axis, position) for pair in pairs] for side in (0, 1))
            where = (
                f"after {position:.0f} student updates"
                if axis == "student_updates"
                else (
                    f"after the network passes of {position / last['network_passes'] * last['student_updates']:.0f} updates of the "
                    "base, recording charged"
                )
            )
            statement, note = (
                f"{name} against the base, {metric} {where}",
                f"{metric} {mean(top):.3f} against {mean(bottom):.3f}",
            )
            found = ratio_of_means(top, bottom)
            made.append(
                made_claim(f"{id}-{slug}-{moment}", statement, None, found, "<= 1.0", len(seeds), place, command, note)
            )
    return made


def collect_grid(curves: Runs, regime: Regime) -> None:
    """The raw numbers of the grid's arms."""
    for name, runs in curves.items():
        for seed, curve in runs.items():
            metrics = {f"w2_at_{p['student_updates']}": p["value"] for p in curve}
            cost = Cost(training_passes=curve[-1]["network_passes"], updates={"student": curve[-1]["student_updates"]})
            BENCH.arms.append(ClaimedArm(regime.title, Arm(name, role(name), metrics, cost, seed)))


def role(name: str) -> Any:
    """Of an arm."""
    return "student" if "DisBack" in name else "baseline"


def collect_images(runs: Runs, part: str) -> None:
    """The raw numbers of the arms on images, with the teacher's and the floors once."""
    for name, by_seed in runs.items():
        for seed, run in by_seed.items():
            metrics = {
                **run["metrics"],
                **{f"fid_at_{p['student_updates']:.0f}": p["value"] for p in run["curves"]["fid"]},
            }
            BENCH.arms.append(ClaimedArm(TITLES[part], Arm(name, role(name), metrics, Cost(**run["cost"]), seed)))
    first = next(iter(runs[BASE].values()))
    for name, metrics in first["others"].items():
        cost = Cost(**first["other_costs"][name])
        BENCH.arms.append(
            ClaimedArm(TITLES[part], Arm(name, "floor" if name.startswith("real") else "teacher", metrics, cost, 0))
        )


# ---- plots


def plot(panels: Mapping[str, Runs], metric: str, path: Path, floor: float | None = None) -> None:
    """A row a regime: the metric against student updates, and against passes with the recording charged."""
    matplotlib.rcParams["svg.hashsalt"] = "stillhouse"
    figure = Figure(figsize=(9.5, 3.4 * len(panels)), layout="constrained")
    axes = figure.subplots(len(panels), 2, squeeze=False, sharey="row")
    for row, (title, curves) in zip(axes, panels.items(), strict=True):
        last = next(iter(curves[BASE].values()))[-1]
        for panel, axis in zip(row, ("student_updates", "network_passes"), strict=True):
            for number, (name, runs) in enumerate(curves.items()):
                band(panel, list(runs.values()), axis, last["student_updates"] / last[axis], name, f"C{number}")
            if floor:
                panel.axhline(floor, color="grey", linewidth=0.8, linestyle=":", label="floor")
            plain_logarithm(panel)
        row[0].set(xlabel="Student updates", ylabel=f"{metric}, mean and range over seeds")
        row[1].set(xlabel="Network passes in updates of the base, recording charged")
        row[0].set_title(title, loc="left", fontsize=10)
        row[0].legend(fontsize=8)
    figure.savefig(path, metadata={"Date": None})


def band(panel: Any, curves: Sequence[Any], axis: str, scale: float, name: str, colour: str) -> None:
    """Mean of the seeds' curves as a line, their range as a band."""
    if not curves:
        return
    x = [point[axis] * scale for point in curves[0]]
    y = [[point["value"] for point in points] for points in zip(*curves, strict=True)]
    panel.plot(x, [mean(values) for values in y], marker="o", markersize=3, linewidth=1.2, color=colour, label=name)
    panel.fill_between(x, [min(v) for v in y], [max(v) for v in y], color=colour, alpha=0.15, linewidth=0)


def write() -> None:
    """Claims and plots from whatever is finished."""
    made: list[Claim] = []
    grids = {regime: finished_grid(regime) for regime in REGIMES}
    grids = {regime: curves for regime, curves in grids.items() if all(curves.values())}
    floors = [grid_floor(seed) for seed in GRID_SEEDS]
    for regime, curves in grids.items():
        collect_grid(curves, regime)
        made += claims_of(curves, f"grid-{regime.name}", "W2", regime.title, "grid")
        BENCH.arms += [
            ClaimedArm(regime.title, Arm("mixture against mixture", "floor", {"w2": f}, Cost(), s))
            for s, f in zip(GRID_SEEDS, floors, strict=True)
        ]
    if grids:
        plot(
            {r.title: curves for r, curves in grids.items()},
            "W2",
            BENCH.results_file.with_name("disback-grid.svg"),
            mean(floors),
        )
    images = {part: finished_images(part) for part in IMAGES}
    images = {part: runs for part, runs in images.items() if all(runs.values())}
    curves_of = {
        part: {n: {s: run["curves"]["fid"] for s, run in by.items()} for n, by in runs.items()}
        for part, runs in images.items()
    }
    for part, runs in images.items():
        collect_images(runs, part)
        made += claims_of(curves_of[part], part, "FID", TITLES[part], part)
    if images:
        plot(
            {TITLES[part]: c for part, c in curves_of.items()},
            "FID",
            BENCH.results_file.with_name("disback-images.svg"),
        )
    print(BENCH.write(made))


def main(part: Literal["grid", "digits", "narrow", "mnist", "write", "all"] = "all") -> None:
    """Measure one part, or all, and write the result file.

    Args:
        part: which; write makes the file from what is on disk.
    """
    torch.set_num_threads(1)
    chosen = [name for name in IMAGES if part in (name, "all")]
    grid = (
        len(PATHS)
        * len(REGIMES)
        * (len(GRID_SEEDS) + len(GRID_RATES) * len(GRID_TUNING_SEEDS))
        * (part in ("grid", "all"))
    )
    images = sum(len(PATHS) * (len(IMAGE_SEEDS[p]) + len(IMAGE_RATES[p]) * (len(IMAGE_RATES[p]) > 1)) for p in chosen)
    print_estimate("disback", 7 * grid + 40 * images, grid + images)
    if part in ("grid", "all"):
        measure_grid()
    for name in chosen:
        measure_images(name)
    write()


if __name__ == "__main__":
    tyro.cli(main)
