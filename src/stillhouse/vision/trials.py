"""Try a classifier of images on images that nothing was fitted on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch

from stillhouse.core.result import Table
from stillhouse.core.trial import Number, Output, Ready, Shown, Trial, Words
from stillhouse.vision.images import ImageData, grid

SHOWN_CLASSES = 5

Classify = Callable[[torch.Tensor], torch.Tensor]


def classifier_trials(opened: Callable[[Path], tuple[Classify, ImageData]]) -> Mapping[str, Trial]:
    """What a method of image classifiers offers to try.

    Args:
        opened: from the run folder, the student (images in [-1, 1] to class scores) and the report split.
    """

    def open_run(run: Path) -> Ready:
        classify, report = opened(run)

        @torch.no_grad()
        def answer(number: int) -> Iterator[Output]:
            image, truth = report.images[number : number + 1], report.class_names[int(report.labels[number])]
            started = time.perf_counter()
            shares = classify(image).softmax(1)[0]
            seconds = time.perf_counter() - started
            order = shares.argsort(descending=True).tolist()
            yield Shown(f"Image {number}", grid(image, 1), f"image {number} of the report split, a {truth}")
            said = report.class_names[order[0]]
            yield Words(
                "The student says", f"{said}, and it is {'right' if said == truth else f'wrong: {truth}'}", seconds
            )
            rows = tuple((report.class_names[i], round(float(shares[i]), 3)) for i in order[:SHOWN_CLASSES])
            yield Table("Shares of the classes", ("Class", "Share"), rows)

        return Ready({"number": Number("Image number", 0, len(report) - 1, 0)}, answer)

    about = "An image that nothing was fitted on, what the student says it is, and how long that took."
    return {"classify": Trial("Classify an image", about, open_run)}
