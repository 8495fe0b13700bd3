"""SwiftBrush's claims, measured: python benchmarks/swiftbrush.py [--part tune|report|write|all]

Captioned digits, one cached teacher that predicts the noise. Every arm that trains differently chooses its learning rate from the same
two on the select split with a seed of its own; guidance scales take the rate of the arm that they are compared with. DMD2 sees
the images, has the same teacher and the same number of network passes. Arms that were not run are left out of the result file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
import tyro

from image_arms import TUNING_SEED, made_claim, run_value
from stillhouse.core.evidence import Bench, Claim, ClaimedArm, mean_with_interval, print_estimate, ratio_of_means
from stillhouse.core.result import Arm, Cost
from stillhouse.diffusion.images import load_images, split
from stillhouse.diffusion.teacher import teacher_folder
from stillhouse.methods.swiftbrush import PRESETS, teacher_plan

FOLDER = Path(__file__).resolve().parent
BENCH = Bench("swiftbrush", FOLDER)
COMMAND = "python benchmarks/swiftbrush.py"
DATA = "captioned digits"

UPDATES, BATCH, GUIDANCE = 250, 32, 2.0
TEACHER: dict[str, Any] = {"widths": (16, 32), "teacher_updates": 1200, "teacher_batch": 64}
SHARED: dict[str, Any] = {"batch": BATCH, "samples": 1000, "teacher_steps": 10}
PASSES = 8
"""Of a student update with guidance: image 2, target 2, fake score 2, its loss 2."""
DMD2_PASSES = 41
"""Of DMD2 with five critic updates and a GAN: image 2, target 2, critic 1, GAN 2, critic updates 5 x 6, images for them 4."""
RATES = (3e-4, 1e-3)
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Variant:
    """One arm: a method with options, and whose learning rate it takes."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    method: str = "swiftbrush"
    tuned_as: str = ""
    fake_ratio: float = 4.0
    """The fake score's learning rate over the student's."""


OURS = Variant("SwiftBrush")
ARMS = (
    OURS,
    Variant("no fake score (SDS)", {"fake_score": "none"}),
    Variant("no re-parametrisation", {"reparametrisation": "none"}),
    Variant("DMD2, sees images", {"updates_ratio": 5, "student_updates": round(UPDATES * PASSES / DMD2_PASSES)}, "dmd2", "", 2.0),
    Variant("guidance 1", {"guidance_scale": 1.0}, tuned_as="SwiftBrush"),
    Variant("guidance 4.5", {"guidance_scale": 4.5}, tuned_as="SwiftBrush"),
)  # fmt: skip
NAMED = {arm.name: arm for arm in ARMS}


def teacher_path() -> Path:
    """The cached teacher that the first SwiftBrush run trains."""
    config = replace(PRESETS["laptop"], **TEACHER)
    return teacher_folder(teacher_plan(config), split(load_images("captioned-digits"), seed=0).train)


def options_of(arm: Variant, seed: int, rate: float, judged_on: str) -> dict[str, Any]:
    """All options of a run."""
    common = {
        **SHARED, "seed": seed, "judged_on": judged_on, "student_lr": rate, "fake_lr": arm.fake_ratio * rate,
        "guidance_scale": GUIDANCE, "student_updates": UPDATES, **arm.options,
    }  # fmt: skip
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


def reports(arm: Variant) -> list[Any]:
    """The arm's reported runs, a seed each."""
    rate = rate_of(arm)
    return [run(arm, seed, rate, "report") for seed in SEEDS]


def finished(arm: Variant) -> bool:
    """Whether all of the arm's seeds were run in this checkout."""
    return (BENCH.pieces / f"{arm.name}.done").exists()


# ---- claims


def of(runs: Sequence[Any], metric: str) -> list[float]:
    """A metric of each run's student."""
    return [value["metrics"][metric] for value in runs]


def of_other(runs: Sequence[Any], arm: Callable[[str], bool], metric: str) -> list[float]:
    """A metric of another row of each run's table."""
    return [next(metrics for name, metrics in value["others"].items() if arm(name))[metric] for value in runs]


def is_teacher(name: str) -> bool:
    """Whether a row is the teacher's own."""
    return name == f"teacher, Heun, {SHARED['teacher_steps']} steps"


def is_chance(name: str) -> bool:
    """Whether a row is captions dealt at random."""
    return name == "captions dealt at random"


def claim(id: str, statement: str, found: tuple[float, tuple[float, float]], threshold: str, note: str = "") -> Claim:
    """A claim with its verdict; the paper's figures are of another scale, so none is put beside them."""
    return made_claim(id, statement, None, found, threshold, len(SEEDS), DATA, COMMAND, note)


def alignment_claims(ours: list[Any]) -> list[Claim]:
    """Text alignment by the attribute classifier, against the teacher, chance, and on prompts never seen."""
    mine, teacher = of(ours, "attribute_accuracy"), of_other(ours, is_teacher, "attribute_accuracy")
    chance, unseen = of_other(ours, is_chance, "attribute_accuracy"), of(ours, "held_out_accuracy")
    differences = [a - b for a, b in zip(mine, chance, strict=True)]
    return [
        claim("alignment-teacher", "Attribute accuracy against the teacher's", ratio_of_means(mine, teacher), ">= 0.95",
              f"{mean(mine):.3f} against {mean(teacher):.3f}"),
        claim("alignment-chance", "Attribute accuracy above captions dealt at random", mean_with_interval(differences), ">= 0.2",
              f"{mean(mine):.3f} against {mean(chance):.3f}"),
        claim("unseen-prompts", "Attribute accuracy on held-out combinations against all", ratio_of_means(unseen, mine), ">= 0.95",
              f"{mean(unseen):.3f} against {mean(mine):.3f}; the teacher's {mean(of_other(ours, is_teacher, 'held_out_accuracy')):.3f}"),
        claim("fid-teacher", "One step, FID against the guided teacher's 38 passes",
              ratio_of_means(of(ours, "fid"), of_other(ours, is_teacher, "fid")), "<= 1.0",
              f"{mean(of(ours, 'fid')):.2f} against {mean(of_other(ours, is_teacher, 'fid')):.2f}"),
    ]  # fmt: skip


def ablation_claims(ours: list[Any]) -> list[Claim]:
    """Without the fake score, without re-parametrisation, and DMD2."""
    made = []
    if finished(NAMED["no fake score (SDS)"]):
        sds = reports(NAMED["no fake score (SDS)"])
        made += [
            claim("vsd-sds-fid", "FID against score distillation sampling's", ratio_of_means(of(ours, "fid"), of(sds, "fid")), "<= 0.9",
                  f"{mean(of(ours, 'fid')):.2f} against {mean(of(sds, 'fid')):.2f}"),
            claim("vsd-sds-recall", "Recall less score distillation sampling's",
                  mean_with_interval([a - b for a, b in zip(of(ours, "recall"), of(sds, "recall"), strict=True)]), ">= 0.05",
                  f"{mean(of(ours, 'recall')):.3f} against {mean(of(sds, 'recall')):.3f}"),
        ]  # fmt: skip
    if finished(NAMED["no re-parametrisation"]):
        plain = reports(NAMED["no re-parametrisation"])
        made.append(claim("reparametrisation", "FID with re-parametrisation against without", ratio_of_means(of(ours, "fid"), of(plain, "fid")), "<= 0.9",
                          f"{mean(of(ours, 'fid')):.2f} against {mean(of(plain, 'fid')):.2f}"))  # fmt: skip
    if finished(NAMED["DMD2, sees images"]):
        dmd2 = reports(NAMED["DMD2, sees images"])
        passes = [mean([value["cost"]["training_passes"] for value in runs]) for runs in (ours, dmd2)]
        made.append(claim("dmd2", "FID without an image against DMD2's with images, at equal passes", ratio_of_means(of(ours, "fid"), of(dmd2, "fid")), "<= 1.5",
                          f"{mean(of(ours, 'fid')):.2f} against {mean(of(dmd2, 'fid')):.2f}; {passes[0]:.0f} passes against {passes[1]:.0f}; "
                          "DMD2 has prompts and images of every combination"))  # fmt: skip
    return made


def guidance_claims(ours: list[Any]) -> list[Claim]:
    """Precision up and recall down with the guidance scale."""
    low, high = NAMED["guidance 1"], NAMED["guidance 4.5"]
    if not (finished(low) and finished(high)):
        return []
    found, made = {1.0: reports(low), GUIDANCE: ours, 4.5: reports(high)}, []
    for metric, threshold in (("precision", ">= 1.0"), ("recall", "<= 1.0"), ("attribute_accuracy", ">= 1.0")):
        line = ", ".join(f"{mean(of(runs, metric)):.3f} at {scale:g}" for scale, runs in found.items())
        made.append(claim(f"guidance-{metric}", f"{metric.replace('_', ' ').capitalize()} at guidance 4.5 against at 1",
                          ratio_of_means(of(found[4.5], metric), of(found[1.0], metric)), threshold, line))  # fmt: skip
    return made


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean."""
    return sum(values) / len(values)


def collect(arm: Variant, values: Sequence[Any]) -> None:
    """Put the raw numbers into the result file; the standing rows once a seed."""
    for seed, value in zip(SEEDS, values, strict=True):
        role: Any = "student" if arm is OURS else "baseline"
        BENCH.arms.append(ClaimedArm(DATA, Arm(arm.name, role, value["metrics"], Cost(**value["cost"]), seed)))
        for name, metrics in value["others"].items() if arm is OURS else ():
            other: Any = "teacher" if is_teacher(name) else "floor" if "real" in name or is_chance(name) else "baseline"
            BENCH.arms.append(ClaimedArm(DATA, Arm(name, other, metrics, Cost(), seed)))


def write() -> None:
    """Claims from whatever arms are finished."""
    for arm in ARMS:
        if finished(arm):
            collect(arm, reports(arm))
    ours = reports(OURS)
    print(BENCH.write([*alignment_claims(ours), *ablation_claims(ours), *guidance_claims(ours)]))


def main(part: Literal["tune", "report", "write", "all"] = "all") -> None:
    """Measure, and write the result file.

    Args:
        part: tune chooses learning rates, report runs the seeds, write puts down what is there.
    """
    torch.set_num_threads(1)
    tuned = [arm for arm in ARMS if not arm.tuned_as]
    print_estimate("swiftbrush", 60 * (len(tuned) * len(RATES) + len(ARMS) * len(SEEDS)), 8 + len(ARMS) * len(SEEDS))
    for arm in tuned if part in ("tune", "all") else ():
        rate_of(arm)
    for arm in ARMS if part in ("report", "all") else ():
        reports(arm)
        (BENCH.pieces / f"{arm.name}.done").touch()
    if part in ("write", "all"):
        write()


if __name__ == "__main__":
    tyro.cli(main)
