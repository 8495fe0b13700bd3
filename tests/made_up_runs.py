"""Made-up but complete runs for the tests of pages: every kind of arm, curves, pictures, and awkward values."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from PIL import Image

from stillhouse.core.result import Arm, Cost, Curve, Metric, Picture, Result, Table, save_result
from stillhouse.core.run import Run

AXES = {"student_updates": "Student updates", "passes": "Network passes in training", "seconds": "Training seconds"}


def made_up_curve(arm: str, metric: str, start: float, end: float, pace: float, points: int = 16) -> Curve:
    """A noisy decay from `start` to `end`."""
    random = np.random.default_rng(len(arm) + len(metric))
    rows = []
    for i in range(points):
        noise = 1 + 0.06 * float(random.standard_normal())
        value = end + (start - end) * math.exp(-pace * i) * noise
        rows.append({"student_updates": 50.0 * i, "passes": 38400.0 * i, "seconds": 7.3 * i, "value": value})
    return Curve(arm, metric, tuple(rows))


def digit_picture(path: Path, columns: int, scale: int, noise: float) -> None:
    """A grid of blotches in the size of real sample grids."""
    random = np.random.default_rng(columns)
    grid = np.kron(random.random((4 * 8, columns * 8)) * noise, np.ones((scale, scale)))
    Image.fromarray((grid * 255).astype("uint8")).save(path)


def made_up_result() -> Result:
    """A one-step image method's result with everything that a page has to deal with."""
    metrics = (
        Metric("fid", "FID", "lower", "Distance between real and made images in the eyes of a classifier.", floor=1.12),
        Metric("kid", "KID", "lower", "Like FID, without its bias on few images.", unit="×1000", floor=0.04),
        Metric("recall", "Recall", "higher", "Share of real images that look like a made one."),
        Metric("accuracy", "Class accuracy", "higher", "Share of images of the class asked for.", unit="%", floor=98.2),
    )
    teacher = Arm(
        "Teacher, Heun 18 steps",
        "teacher",
        {"fid": 2.31, "kid": 0.41, "recall": 0.762, "accuracy": 97.4},
        Cost(1_742_433, 6_990_112, 35, {"batch 1": 0.0871, "batch 64": 0.0124}, 212.0, 1_536_000, {"teacher": 3000}),
    )
    passes = {"batch 1": 0.00262, "batch 64": 0.00035}
    students = (
        Arm(
            "DMD2, one step",
            "student",
            {"fid": 2.28, "kid": 0.39, "recall": 0.731, "accuracy": 98.1},
            Cost(1_742_433, 6_990_112, 1, passes, 164.0, 614_400, {"student": 800, "fake_score": 4000}),
        ),
        Arm(
            "DMD2, four steps",
            "student",
            {"fid": 1.94, "kid": 0.28, "recall": 0.755, "accuracy": 98.0},
            Cost(1_742_433, 6_990_112, 4, {"batch 1": 0.0101, "batch 64": 0.0014}, 198.0, 801_200, {"student": 800}),
        ),
        Arm(
            "Without GAN & λ<1",
            "student",
            {"fid": 3.72, "kid": math.nan, "recall": 0.702, "accuracy": 96.9},
            Cost(1_742_433, 6_990_112, 1, passes, 141.0, 614_400, {"student": 800}),
            note="same updates, λ_gan = 0",
        ),
    )
    others = (
        Arm(
            "Teacher, Heun 2 steps",
            "baseline",
            {"fid": 48.6, "kid": 61.2, "accuracy": 71.3},
            Cost(1_742_433, 6_990_112, 3, {"batch 1": 0.0077, "batch 64": 0.0011}),
        ),
        Arm("<b>Peer</b> library", "peer", {"fid": 4.02, "kid": 1.1, "recall": 0.69}, Cost(1_742_433, None, 1)),
        Arm("Real half against real half", "floor", {"fid": 1.12, "kid": 0.04, "recall": 0.902, "accuracy": 98.9}),
    )
    curves = (
        made_up_curve("DMD2, one step", "fid", 96, 2.28, 0.7),
        made_up_curve("DMD2, four steps", "fid", 60, 1.94, 0.8),
        made_up_curve("Without GAN & λ<1", "fid", 96, 3.72, 0.6),
        made_up_curve("DMD2, one step", "recall", 0.2, 0.731, 0.5),
        made_up_curve("DMD2, four steps", "recall", 0.31, 0.755, 0.5),
    )
    pictures = (
        Picture(
            "Teacher, 35 passes", "pictures/teacher.png", 'Rows of "teacher" digits 0 to 9', "The same noise as below."
        ),
        Picture("Student, one pass", "pictures/student.png", "Rows of student digits 0 to 9 & more"),
    )
    table = Table(
        "Peak memory as batch & width grow",
        ("Width", "Batch", "Peak memory, MB", "What dominates"),
        (("32", 64, 412.5, "activations"), ("64", 64, 988.25, "activations"), ("64", 256, math.nan, "<none>")),
        "One update of all three networks.",
    )
    return Result(
        "dmd2",
        "A student that needs one network pass an image reaches FID 2.28; its teacher needs 35 passes for 2.31 "
        "(real against real: 1.12). It draws 33 times faster.",
        metrics,
        (*students, *others, teacher),
        AXES,
        curves,
        pictures,
        (table,),
        ("Features come from a classifier trained on the same digits, so FID is comparable within this page only.",),
    )


def made_up_run(folder: Path, result: Result | None = None, **options: object) -> Run:
    """A finished run folder that holds `result`."""
    result = result or made_up_result()
    settings = {"data": "digits", "seed": 0, "student_updates": 800, "teacher": "train", "lora_rank": None, **options}
    with Run.create(result.method, settings, out=folder, quiet=True) as run:
        for picture in result.pictures:
            digit_picture(run.picture_file(Path(picture.path).name), 12, 5, 1.0)
        save_result(result, run.result_file)
    return run


def unfinished_run(folder: Path) -> Run:
    """A run folder without a result."""
    with Run.create("dmd2", {"data": "digits"}, out=folder, quiet=True) as run:
        return run
