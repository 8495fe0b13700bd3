"""Multi-Student Distillation's claims, measured: python benchmarks/multi_student.py [--part digits|fashion|write|all]

Four students against one at equal total and at equal per-student batch, small students with and without score matching, and the
partitions. All arms share teacher, seeds, updates and the same learning rates to choose from; partitions and numbers of students
take the rate of the arm that they are compared with. Parts that were not run are left out of the result file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
import tyro

from image_arms import ImageArm, ImageArms, mean
from stillhouse.core.evidence import Bench, Claim, print_estimate

FOLDER = Path(__file__).resolve().parent
BENCH = Bench("multi_student", FOLDER)
COMMAND = "python benchmarks/multi_student.py"

SMALL = {"student_widths": (8, 16), "score_matching_updates": 300}
DATA: dict[str, dict[str, Any]] = {
    "digits": {"data": "digits", "widths": (24, 48), "teacher_updates": 500, "student_updates": 100, "adversarial_updates": 50},
    "fashion-mnist": {"data": "fashion-mnist", "size": 16, "widths": (24, 48), "teacher_updates": 1500, "student_updates": 150,
                      "adversarial_updates": 75},
}  # fmt: skip
SEEDS = {"digits": (0, 1, 2, 3, 4), "fashion-mnist": (0, 1, 2, 3, 4)}
PART_OF = {"digits": "digits", "fashion-mnist": "fashion"}
RATES = (1e-4, 2e-4, 4e-4)


def arms(gan: bool) -> list[ImageArm]:
    """The arms, by distribution matching alone or with the adversarial stage after it."""
    stage: dict[str, Any] = {} if gan else {"adversarial_updates": 0}
    end = ", adversarial" if gan else ""

    def arm(name: str, tuned_as: str = "", **options: Any) -> ImageArm:
        return ImageArm(name + end, "multi_student", {**stage, **options}, tuned_as + end if tuned_as else "")

    made = [
        arm("1 student", students=1, batch=64),
        arm("4 students", "1 student", students=4, batch=64),
        arm("4 students, batch / 4", "1 student", students=4, batch=16),
    ]
    if gan:
        return made
    return [
        *made,
        arm("2 students", "1 student", students=2, batch=64),
        arm("4 students, k-means", "1 student", students=4, batch=64, partition="kmeans"),
        arm("4 students, random", "1 student", students=4, batch=64, partition="random"),
        arm("1 small", students=1, batch=64, **SMALL),
        arm("4 small", "1 small", students=4, batch=64, **SMALL),
        arm("4 small, no score matching", "1 small", students=4, batch=64, **{**SMALL, "score_matching_updates": 0}),
    ]


CLAIMS: tuple[tuple[str, str, float | None, str, str], ...] = (
    ("four-against-one", "4 students against 1 at equal batch each, FID", 0.90, "4 students", "1 student"),
    ("equal-total-batch", "4 students of a quarter of the batch against 1, FID", 0.97, "4 students, batch / 4", "1 student"),
    ("two-against-one", "2 students against 1 at equal batch each, FID", None, "2 students", "1 student"),
    ("k-means", "k-means parts against consecutive ones, FID", 1.01, "4 students, k-means", "4 students"),
    ("random", "consecutive parts against random ones, FID", None, "4 students", "4 students, random"),
    ("score-matching", "4 small students with score matching against without, FID", 0.25, "4 small", "4 small, no score matching"),
    ("four-small", "4 small students against 1 small, FID", None, "4 small", "1 small"),
    ("adversarial", "4 students against 1 after the adversarial stage, FID", 0.94, "4 students, adversarial", "1 student, adversarial"),
    ("adversarial-total", "The same at equal total batch", None, "4 students, batch / 4, adversarial", "1 student, adversarial"),
)  # fmt: skip


def family(data: str) -> ImageArms:
    """What all arms of a data set share."""
    return ImageArms(BENCH, data, DATA[data], RATES, SEEDS[data])


def measure(data: str) -> dict[str, list[Any]]:
    """All arms' reported runs."""
    every = [*arms(gan=False), *arms(gan=True)]
    found = {}
    for arm in every:
        found[arm.name] = family(data).reports(arm, every)
        print(f"{data} {arm.name}: FID {mean([v['metrics']['fid'] for v in found[arm.name]]):.3f}", flush=True)
    (BENCH.pieces / f"{PART_OF[data]}.done").touch()
    return found


def claims_of(data: str) -> list[Claim]:
    """Ratios of FID over the seeds; memory, passes and latency stand in the arms' costs."""
    found, made = measure(data), []
    for name, values in found.items():
        family(data).collect(next(a for a in (*arms(False), *arms(True)) if a.name == name), values,
                             "baseline" if name.startswith("1 ") else "student")  # fmt: skip
    for id, statement, paper, top, bottom in CLAIMS:
        above, below = ([v["metrics"]["fid"] for v in found[name]] for name in (top, bottom))
        passes = [mean([v["cost"]["training_passes"] for v in found[name]]) for name in (top, bottom)]
        note = f"FID {mean(above):.3f} against {mean(below):.3f}; {passes[0] / passes[1]:.2f} times the training passes"
        made.append(family(data).ratio(f"{id}-{PART_OF[data]}", statement, paper, above, below, "<= 1.0",
                                       f"{COMMAND} --part {PART_OF[data]}", note))  # fmt: skip
    return made


def main(part: Literal["digits", "fashion", "write", "all"] = "all") -> None:
    """Measure one part, or all, and write the result file.

    Args:
        part: which; fashion needs Fashion-MNIST below $STILLHOUSE_DATA.
    """
    torch.set_num_threads(1)
    chosen = [data for data, name in PART_OF.items() if part in (name, "all")]
    runs = {data: len((*arms(False), *arms(True))) * len(SEEDS[data]) + 3 * len(RATES) for data in chosen}
    print_estimate(
        "multi_student", sum(n * (120 if d == "digits" else 600) for d, n in runs.items()), sum(runs.values())
    )
    for data in chosen:
        measure(data)
    finished = [data for data, name in PART_OF.items() if (BENCH.pieces / f"{name}.done").exists()]
    print(BENCH.write([claim for data in finished for claim in claims_of(data)]))


if __name__ == "__main__":
    tyro.cli(main)
