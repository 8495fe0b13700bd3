"""SwiftBrush's claims, measured: python benchmarks/swiftbrush.py [--part run|write|all]

Captioned digits, one cached teacher that predicts the velocity. Every arm that trains differently chooses its learning rate from the same
`RATES` on the select split with a seed of its own, after `TUNING_UPDATES`; guidance scales take the rate of the arm that they
are compared with. DMD2 sees the images, and has the same teacher and student updates; what its passes come to is beside it. Seeds are the outer loop:
what was not run is left out of the result file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal

import torch
import tyro

from image_arms import TUNING_SEED, made_claim, run_value
from stillhouse.core.evidence import Bench, Claim, ClaimedArm, mean_with_interval, print_estimate, ratio_of_means
from stillhouse.core.result import Arm, Cost
from stillhouse.diffusion.teacher import teacher_folder
from stillhouse.methods.swiftbrush import PRESETS, teacher_plan
from stillhouse.vision.images import load_images, split

FOLDER = Path(__file__).resolve().parent
BENCH = Bench("swiftbrush", FOLDER)
COMMAND = "python benchmarks/swiftbrush.py"
DATA = "captioned digits"

UPDATES, TUNING_UPDATES, BATCH, GUIDANCE = 100, 40, 32, 2.0
"""Student updates of a reported and of a tuning run, images a batch, guidance scale."""
TEACHER: dict[str, Any] = {"widths": (16, 32), "teacher_updates": 1200, "teacher_batch": 64}
SHARED: dict[str, Any] = {"batch": BATCH, "samples": 600, "teacher_steps": 8, "updates_ratio": 5}
RATES = (4e-4, 8e-4)
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Variant:
    """One arm: a method with options, and whose learning rate it takes."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    method: str = "swiftbrush"
    tuned_as: str = ""
    fake_ratio: float = 4.0
    """The fake score's learning rate over that of `RATES`: adapters start from nothing, a copy of the teacher does not."""


OURS = Variant("SwiftBrush")
ARMS = (
    OURS,
    Variant("no fake score (SDS)", {"fake_score": "none", "updates_ratio": 1}),
    Variant("no re-parametrisation", {"reparametrisation": "none"}),
    Variant("DMD2, sees images", {}, "dmd2", "", 2.0),
    Variant("guidance 1", {"guidance_scale": 1.0}, tuned_as="SwiftBrush"),
    Variant("guidance 4.5", {"guidance_scale": 4.5}, tuned_as="SwiftBrush"),
)
NAMED = {arm.name: arm for arm in ARMS}


def teacher_path() -> Path:
    """The cached teacher that the first SwiftBrush run trains."""
    config = replace(PRESETS["laptop"], **TEACHER)
    return teacher_folder(teacher_plan(config), split(load_images("captioned-digits"), seed=0).train)


def options_of(arm: Variant, seed: int, rate: float, judged_on: str) -> dict[str, Any]:
    """All options of a run."""
    common = {
        **SHARED,
        "seed": seed,
        "judged_on": judged_on,
        "student_lr": rate,
        "fake_lr": arm.fake_ratio * rate,
        "guidance_scale": GUIDANCE,
        "student_updates": UPDATES if judged_on == "report" else TUNING_UPDATES,
        **arm.options,
    }
    if arm.method == "dmd2":
        return {**common, "data": "captioned-digits", "teacher": str(teacher_path())}
    return {**common, **TEACHER}


def run(arm: Variant, seed: int, rate: float, judged_on: str) -> Any:
    """A run as a JSON value, taken up where an earlier start of the script left it."""
    options = options_of(arm, seed, rate, judged_on)
    key = {"method": arm.method, **options, "teacher": "captioned digits"}
    value = BENCH.piece(key, lambda: run_value(BENCH, arm.method, options))
    shown = {name: round(value["metrics"][name], 3) for name in ("fid", "precision", "recall", "attribute_accuracy")}
    print(f"{judged_on} seed {seed} {arm.name} at {rate:g}: {shown}", flush=True)
    return value


def rate_of(arm: Variant) -> float:
    """The arm's learning rate: best FID on the select split."""
    tuned = NAMED.get(arm.tuned_as, arm)
    return min(RATES, key=lambda rate: run(tuned, TUNING_SEED, rate, "select")["metrics"]["fid"])


def marker(arm: Variant, seed: int) -> Path:
    """A file that is there once the arm was run with this seed."""
    return BENCH.pieces / f"{arm.name}, {seed}, {UPDATES}.done"


def seeds_of(*arms: Variant) -> list[int]:
    """Seeds that all of these arms were run with."""
    return [seed for seed in SEEDS if all(marker(arm, seed).exists() for arm in arms)]


# ---- claims


@dataclass(frozen=True)
class Pair:
    """SwiftBrush beside another arm, on the seeds that both have."""

    other: Variant
    base: Variant = OURS

    @property
    def seeds(self) -> list[int]:
        """The seeds."""
        return seeds_of(self.base, self.other)

    def of(self, arm: Variant, metric: str) -> list[float]:
        """A metric of the arm's student, a number a seed."""
        return [run(arm, seed, rate_of(arm), "report")["metrics"][metric] for seed in self.seeds]

    def passes(self, arm: Variant) -> int:
        """Network passes of the arm's training."""
        return int(run(arm, self.seeds[0], rate_of(arm), "report")["cost"]["training_passes"])

    def row(self, name: str, metric: str) -> list[float]:
        """A metric of another row of SwiftBrush's tables."""
        return [run(self.base, seed, rate_of(self.base), "report")["others"][name][metric] for seed in self.seeds]

    def claim(
        self,
        id: str,
        statement: str,
        top: Sequence[float],
        bottom: Sequence[float],
        threshold: str,
        note: str = "",
        *,
        difference: bool = False,
    ) -> Claim:
        """A ratio (or difference) with its verdict; the paper's figures are of another scale, so none is beside it."""
        found = ratio_of_means(top, bottom)
        if difference:
            found = mean_with_interval([a - b for a, b in zip(top, bottom, strict=True)])
        line = f"{mean(top):.3f} against {mean(bottom):.3f}" + (f"; {note}" if note else "")
        return made_claim(id, statement, None, found, threshold, len(top), DATA, COMMAND, line)


TEACHER_ROW = f"teacher, Heun, {SHARED['teacher_steps']} steps"
CHANCE_ROW = "captions dealt at random"


def alignment_claims() -> list[Claim]:
    """Text alignment by the attribute classifier, against the teacher, chance, and on prompts never seen."""
    pair = Pair(OURS)
    mine, unseen = pair.of(OURS, "attribute_accuracy"), pair.of(OURS, "held_out_accuracy")
    of_teacher = mean(pair.row(TEACHER_ROW, "held_out_accuracy"))
    return [
        pair.claim(
            "alignment-teacher",
            "Attribute accuracy against the teacher's",
            mine,
            pair.row(TEACHER_ROW, "attribute_accuracy"),
            ">= 0.95",
        ),
        pair.claim(
            "alignment-chance",
            "Attribute accuracy above captions dealt at random",
            mine,
            pair.row(CHANCE_ROW, "attribute_accuracy"),
            ">= 0.2",
            difference=True,
        ),
        pair.claim(
            "unseen-prompts",
            "Attribute accuracy on held-out combinations against all",
            unseen,
            mine,
            ">= 0.95",
            f"the teacher's {of_teacher:.3f}",
        ),
        pair.claim(
            "fid-teacher",
            "One step, FID against the guided teacher's 30 passes",
            pair.of(OURS, "fid"),
            pair.row(TEACHER_ROW, "fid"),
            "<= 1.0",
        ),
        pair.claim(
            "fid-start",
            "One step, FID against the teacher with one pass, which the student starts as",
            pair.of(OURS, "fid"),
            pair.row("teacher, one pass", "fid"),
            "<= 1.0",
        ),
        pair.claim(
            "recall-teacher",
            "One step, recall against the guided teacher's",
            pair.of(OURS, "recall"),
            pair.row(TEACHER_ROW, "recall"),
            ">= 0.95",
        ),
    ]


def ablation_claims() -> list[Claim]:
    """Without the fake score, without re-parametrisation, and DMD2."""
    made = []
    sds, plain, dmd2 = (NAMED[name] for name in ("no fake score (SDS)", "no re-parametrisation", "DMD2, sees images"))
    if (pair := Pair(sds)).seeds:
        made += [
            pair.claim(
                "vsd-sds-fid",
                "FID against score distillation sampling's",
                pair.of(OURS, "fid"),
                pair.of(sds, "fid"),
                "<= 0.9",
            ),
            pair.claim(
                "vsd-sds-recall",
                "Recall above score distillation sampling's",
                pair.of(OURS, "recall"),
                pair.of(sds, "recall"),
                ">= 0.05",
                difference=True,
            ),
        ]
    if (pair := Pair(plain)).seeds:
        made.append(
            pair.claim(
                "reparametrisation",
                "FID with re-parametrisation against without",
                pair.of(OURS, "fid"),
                pair.of(plain, "fid"),
                "<= 0.9",
            )
        )
    if (pair := Pair(dmd2)).seeds:
        made += [
            pair.claim(
                f"dmd2-{metric}",
                f"{title} without an image against DMD2's with images, at equal student updates",
                pair.of(OURS, metric),
                pair.of(dmd2, metric),
                threshold,
                f"{pair.passes(OURS):,} passes against {pair.passes(dmd2):,}; "
                "DMD2 has prompts and images of every combination",
            )
            for metric, title, threshold in (
                ("fid", "FID", "<= 1.5"),
                ("attribute_accuracy", "Attribute accuracy", ">= 0.95"),
            )
        ]
    return made


def guidance_claims() -> list[Claim]:
    """Precision up and recall down with the guidance scale."""
    low, high = NAMED["guidance 1"], NAMED["guidance 4.5"]
    pair = Pair(high, low)
    if not pair.seeds:
        return []
    return [
        pair.claim(
            f"guidance-{metric}",
            f"{metric.replace('_', ' ').capitalize()} at guidance 4.5 against at 1",
            pair.of(high, metric),
            pair.of(low, metric),
            threshold,
            f"at {GUIDANCE:g} {mean(pair.of(OURS, metric)):.3f}",
        )
        for metric, threshold in (("precision", ">= 1.0"), ("recall", "<= 1.0"), ("attribute_accuracy", ">= 1.0"))
    ]


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean."""
    return sum(values) / len(values)


def collect(arm: Variant, seed: int) -> None:
    """Put the raw numbers into the result file; the standing rows once a seed."""
    value = run(arm, seed, rate_of(arm), "report")
    role: Any = "student" if arm is OURS else "baseline"
    BENCH.arms.append(ClaimedArm(DATA, Arm(arm.name, role, value["metrics"], Cost(**value["cost"]), seed)))
    for name, metrics in value["others"].items() if arm is OURS else ():
        other: Any = (
            "teacher" if name == TEACHER_ROW else "floor" if "real" in name or name == CHANCE_ROW else "baseline"
        )
        BENCH.arms.append(ClaimedArm(DATA, Arm(name, other, metrics, Cost(), seed)))


def write() -> None:
    """Claims from whatever was run."""
    for arm in ARMS:
        for seed in seeds_of(arm):
            collect(arm, seed)
    print(BENCH.write([*alignment_claims(), *ablation_claims(), *guidance_claims()]))


def main(part: Literal["run", "write", "all"] = "all") -> None:
    """Measure, and write the result file.

    Args:
        part: run measures, write puts down what is there.
    """
    torch.set_num_threads(1)
    print_estimate("swiftbrush", 45 * len(ARMS) * len(SEEDS), len(ARMS) * len(SEEDS))
    tuned, others = (arm for arm in ARMS if not arm.tuned_as), (arm for arm in ARMS if arm.tuned_as)
    for arms in map(tuple, (tuned, others)) if part in ("run", "all") else ():
        for seed, arm in product(SEEDS, arms):
            run(arm, seed, rate_of(arm), "report")
            marker(arm, seed).touch()
    if part in ("write", "all"):
        write()


if __name__ == "__main__":
    tyro.cli(main)
