"""DisBack's claim, measured: python benchmarks/disback.py [--part grid|digits|mnist|narrow|write|all]

Does walking back along recorded nodes converge faster than the base alone, at equal student updates and at equal network
passes, the recording charged? Every arm has the teacher, the seeds, the batch and the same three learning rates to choose
from on a seed (and split) of its own. Parts that were not run are left out of the result file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
import tyro

from disback_grid import CURVE, grid_arm, grid_floor, grid_teacher
from image_arms import TUNING_SEED, ImageArm, ImageArms, at, made_claim, mean
from stillhouse.core.evidence import Bench, Claim, ClaimedArm, print_estimate, ratio_of_means
from stillhouse.core.result import Arm, Cost

FOLDER = Path(__file__).resolve().parent
BENCH = Bench("disback", FOLDER)
COMMAND = "python benchmarks/disback.py"

PATHS: dict[str, dict[str, Any]] = {
    "base": {"path": "none"},
    "warm fake only": {"path": "warm-fake"},
    "DisBack, fixed": {"path": "backtrack", "switch": "fixed"},
    "DisBack, adaptive": {"path": "backtrack", "switch": "adaptive"},
}
GRID_RATES = (2e-4, 5e-4, 1e-3)
GRID_SEEDS = (0, 1, 2, 3, 4)
GRID_DWELL = 10
GRID_SIGMAS = (2.5, 80.0)
"""Where the student starts: at 80 its first points are a blur at the mean, far from all modes."""

IMAGES: dict[str, dict[str, Any]] = {
    "digits": {"data": "digits", "widths": (24, 48), "teacher_updates": 500, "student_updates": 200, "samples": 5000},
    "mnist-5k": {
        "data": "mnist-5k", "widths": (16, 32, 48), "teacher_updates": 500, "teacher_batch": 64, "samples": 2500,
        "batch": 32, "student_updates": 100,
    },
    "narrow student, digits": {
        "data": "digits", "widths": (24, 48), "teacher_updates": 500, "student_updates": 200, "samples": 5000,
        "student_widths": (16, 24), "score_matching_updates": 300,
    },
}  # fmt: skip
PART_OF = {"digits": "digits", "mnist-5k": "mnist", "narrow student, digits": "narrow"}
IMAGE_SEEDS = {"digits": (0, 1, 2, 3, 4), "mnist-5k": (0, 1, 2), "narrow student, digits": (0, 1, 2)}
IMAGE_RATES = (1e-4, 2e-4, 4e-4)


# ---- the grid


def grid_run(name: str, sigma: float, rate: float, seed: int) -> Any:
    """One arm on the grid."""
    options = PATHS[name]
    key = {
        "part": "grid",
        "arm": name,
        "sigma": sigma,
        "rate": rate,
        "seed": seed,
        "dwell": GRID_DWELL,
        "to": CURVE[-1],
    }

    def compute() -> Any:
        switch = options.get("switch", "fixed")
        return grid_arm(saved_grid_teacher(), options["path"], switch, GRID_DWELL, sigma, rate, seed)

    return BENCH.piece(key, compute)


def saved_grid_teacher() -> Any:
    """The grid's teacher, trained once in this process."""
    if not TEACHER:
        TEACHER.append(grid_teacher())
    return TEACHER[0]


TEACHER: list[Any] = []


def grid_rate(name: str, sigma: float) -> float:
    """The arm's learning rate: least W2 halfway through on the tuning seed, which favours fast convergence for all."""
    return min(
        GRID_RATES, key=lambda r: at(grid_run(name, sigma, r, TUNING_SEED)["curve"], "student_updates", CURVE[-2])
    )


def grid_claims() -> list[Claim]:
    """W2 of each arm against the base's: a quarter of the way, at the end, and at equal passes."""
    made = []
    for sigma in GRID_SIGMAS:
        found = {name: [grid_run(name, sigma, grid_rate(name, sigma), s) for s in GRID_SEEDS] for name in PATHS}
        place = f"25-mode grid, student starts at sigma {sigma:g}"
        for name, runs in found.items():
            for seed, run in zip(GRID_SEEDS, runs, strict=True):
                metrics = {f"w2_at_{p['student_updates']}": p["value"] for p in run["curve"]}
                cost = Cost(training_passes=run["curve"][-1]["network_passes"])
                BENCH.arms.append(ClaimedArm(place, Arm(name, "student" if "DisBack" in name else "baseline", metrics, cost, seed)))  # fmt: skip
        for name in list(PATHS)[1:]:
            made += grid_claims_of(name, found, sigma, place)
    floors = [grid_floor(seed) for seed in GRID_SEEDS]
    BENCH.arms += [ClaimedArm("25-mode grid", Arm("mixture against mixture", "floor", {"w2": f}, Cost(), s))
                   for s, f in zip(GRID_SEEDS, floors, strict=True)]  # fmt: skip
    return made


def grid_claims_of(name: str, found: dict[str, list[Any]], sigma: float, place: str) -> list[Claim]:
    """One arm's three ratios."""
    made, slug = [], name.lower().replace(", ", "-").replace(" ", "-")
    base = [run["curve"] for run in found["base"]]
    curves = [run["curve"] for run in found[name]]
    moments = {"early": CURVE[3], "end": CURVE[-1]}
    for moment, updates in moments.items():
        top, bottom = ([at(c, "student_updates", updates) for c in cs] for cs in (curves, base))
        note = f"W2 {mean(top):.3f} against {mean(bottom):.3f}"
        made.append(made_claim(f"grid-{sigma:g}-{slug}-{moment}", f"{name} against the base, W2 after {updates} student updates",
                               None, ratio_of_means(top, bottom), "<= 1.0", len(top), place, f"{COMMAND} --part grid", note))  # fmt: skip
    passes = [at_passes(c, base_c) for c, base_c in zip(curves, base, strict=True)]
    top, bottom = [p[0] for p in passes], [p[1] for p in passes]
    made.append(made_claim(f"grid-{sigma:g}-{slug}-charged", f"{name} against the base, W2 at equal network passes, recording charged",
                           None, ratio_of_means(top, bottom), "<= 1.0", len(top), place, f"{COMMAND} --part grid",
                           f"W2 {mean(top):.3f} against {mean(bottom):.3f}"))  # fmt: skip
    return made


def at_passes(curve: list[dict[str, float]], base: list[dict[str, float]]) -> tuple[float, float]:
    """Both curves' values at half of the base's passes."""
    position = base[-1]["network_passes"] / 2
    return at(curve, "network_passes", position), at(base, "network_passes", position)


# ---- images


def image_arms(data: str) -> tuple[ImageArms, list[ImageArm]]:
    """The four arms on a data set, on Diff-Instruct."""
    family = ImageArms(BENCH, data, {**IMAGES[data], "updates_ratio": 1}, IMAGE_RATES, IMAGE_SEEDS[data])
    return family, [ImageArm(name, "disback", options) for name, options in PATHS.items()]


def run_images(data: str) -> None:
    """All tuning and reported runs of one data set."""
    family, arms = image_arms(data)
    for arm in arms:
        for seed, value in zip(family.seeds, family.reports(arm), strict=True):
            print(f"{data} seed {seed} {arm.name}: FID {value['metrics']['fid']:.3f}", flush=True)
    (BENCH.pieces / f"{PART_OF[data]}.done").touch()


def image_claims(data: str) -> list[Claim]:
    """FID of each arm against the base's: a fifth of the way, at the end, and at equal passes."""
    family, arms = image_arms(data)
    found = {arm.name: family.reports(arm) for arm in arms}
    for arm in arms:
        family.collect(arm, found[arm.name], "student" if "DisBack" in arm.name else "baseline")
    made, command, updates = [], f"{COMMAND} --part {PART_OF[data]}", IMAGES[data]["student_updates"]
    base = [value["curves"]["fid"] for value in found["base"]]
    for arm in arms[1:]:
        curves, slug = [value["curves"]["fid"] for value in found[arm.name]], arm.name.replace(" ", "-")
        for moment, share in (("early", 0.2), ("end", 1.0)):
            top, bottom = ([at(c, "student_updates", share * updates) for c in cs] for cs in (curves, base))
            made.append(family.ratio(f"{PART_OF[data]}-{slug}-{moment}", f"{arm.name} against the base, FID at equal student updates ({moment})",
                                     None, top, bottom, "<= 1.0", command))  # fmt: skip
        passes = [at_passes(c, b) for c, b in zip(curves, base, strict=True)]
        made.append(family.ratio(f"{PART_OF[data]}-{slug}-charged", f"{arm.name} against the base, FID at equal network passes, recording charged",
                                 None, [p[0] for p in passes], [p[1] for p in passes], "<= 1.0", command))  # fmt: skip
    return made


def write() -> None:
    """Claims from whatever parts are finished."""
    made = grid_claims() if (BENCH.pieces / "grid.done").exists() else []
    for data, part in PART_OF.items():
        made += image_claims(data) if (BENCH.pieces / f"{part}.done").exists() else []
    print(BENCH.write(made))


def main(part: Literal["grid", "digits", "mnist", "narrow", "write", "all"] = "all") -> None:
    """Measure one part, or all, and write the result file.

    Args:
        part: which.
    """
    torch.set_num_threads(1)
    grid = len(PATHS) * len(GRID_SIGMAS) * (len(GRID_SEEDS) + len(GRID_RATES))
    images = {data: len(PATHS) * (len(IMAGE_SEEDS[data]) + len(IMAGE_RATES)) for data in IMAGES}
    pieces = grid * (part in ("grid", "all")) + sum(n for d, n in images.items() if part in (PART_OF[d], "all"))
    seconds = grid * 6 * (part in ("grid", "all")) + sum(
        90 * n for d, n in images.items() if part in (PART_OF[d], "all")
    )
    print_estimate("disback", seconds, pieces)
    if part in ("grid", "all"):
        grid_claims()
        (BENCH.pieces / "grid.done").touch()
        BENCH.arms.clear()
    for data, name in PART_OF.items():
        if part in (name, "all"):
            run_images(data)
    write()


if __name__ == "__main__":
    tyro.cli(main)
