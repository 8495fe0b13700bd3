"""Try an image generator: the student beside its teacher, from the same noise, with a stopwatch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from stillhouse.core.options import read_options
from stillhouse.core.result import Table
from stillhouse.core.trial import Choice, Number, Output, Ready, Shown, Text, Trial, Words
from stillhouse.diffusion.autoencoder import load_autoencoder
from stillhouse.diffusion.denoiser import load_denoiser
from stillhouse.diffusion.evaluation import Sampler, draw_images, heun_sampler, student_sampler
from stillhouse.diffusion.generator import Generator
from stillhouse.diffusion.task import ImageTask, JudgedTask, load_splits, teacher_plan
from stillhouse.diffusion.teacher import NULL_TEXT, teacher_folder
from stillhouse.vision.images import grid

MOST_IMAGES = 60
COLUMNS = 10
EVERYTHING = "all in turn"
MOST_OPTIONS = 200
Task = TypeVar("Task", bound=JudgedTask)


def image_trials(
    method: str, config: type[Task], load: Callable[[Path], Generator], teacher: Callable[[Task], Path | None]
) -> Mapping[str, Trial]:
    """What a method of image generators offers to try.

    Args:
        method: its name in the catalogue.
        config: its Config.
        load: opens the run's model folder.
        teacher: where the teacher of a run with this config lies; None where it is no longer there.
    """

    def open_run(run: Path) -> Ready:
        generator = load(run / "model")
        task = read_options(run, method, config)
        folder = teacher(task)
        many_steps = teacher_sampler(folder, task, generator) if folder else None
        first: list[int | str] = [generator.names[0] if generator.names else ""]
        list(
            draw_both(generator, many_steps, first, seed=0)
        )  # what is slow the first time is over before anyone looks at a watch
        return ready(generator, many_steps)

    about = "Images by the student and by its teacher, from the same noise, with the time each took."
    return {"draw": Trial("Draw images", about, open_run)}


def teacher_of(task: ImageTask) -> Path | None:
    """Where the teacher of a run lies; None where it was trained here and is no longer in the cache."""
    if task.teacher != "train":
        folder = Path(task.teacher)
    else:
        splits = load_splits(task)
        folder = teacher_folder(teacher_plan(task, splits), splits.train)
    return folder if folder.is_dir() else None


def teacher_sampler(folder: Path, task: JudgedTask, generator: Generator) -> Sampler:
    """The teacher as its run compared it: Heun's sampler with the run's steps and guidance."""
    denoiser = load_denoiser(folder, task.prediction).requires_grad_(False)
    if generator.text_encoder:
        denoiser.null_condition = generator.text_encoder.embed((NULL_TEXT,))[0]
    return heun_sampler(denoiser, task.teacher_steps, task.guidance_scale, load_autoencoder(folder))


def ready(generator: Generator, teacher: Sampler | None) -> Ready:
    """A caption or a class, how many images, and which noise."""
    numbers = {"count": Number("Images", 1, MOST_IMAGES, 20), "seed": Number("Noise number", 0, 1_000_000, 0)}
    names = tuple(map(str, generator.names))

    def answer(count: int, seed: int, of: str = EVERYTHING) -> Iterator[Output]:
        chosen: list[int | str] = (
            [of] * count if of != EVERYTHING else [(names or ("",))[i % max(1, len(names))] for i in range(count)]
        )
        return draw_both(generator, teacher, chosen, seed)

    if generator.text_encoder:
        example = names[len(names) // 2] if names else "a photo"
        return Ready({"of": Text("Prompt", example, 300), **numbers}, answer)
    if len(names) > 1:
        return Ready({"of": Choice("Class", (EVERYTHING, *names[:MOST_OPTIONS]), EVERYTHING), **numbers}, answer)
    return Ready(numbers, answer)


def draw_both(generator: Generator, teacher: Sampler | None, chosen: list[int | str], seed: int) -> Iterator[Output]:
    """The student's images at once, the teacher's when they are there, and how much longer those took."""
    rows = list(dict.fromkeys(chosen))
    labels, conditions = torch.tensor([rows.index(one) for one in chosen]), generator.conditions_of(rows)
    student = student_sampler(generator.denoiser, generator.sigmas, generator.autoencoder)

    def draw(sampler: Sampler) -> tuple[Tensor, float]:
        started = time.perf_counter()
        return draw_images(sampler, conditions, labels, seed), time.perf_counter() - started

    def shown(title: str, images: Tensor, seconds: float, passes: int) -> Shown:
        words = (
            f"{len(images)} images of {', '.join(map(str, rows[:COLUMNS]))} by the {title.lower()}"
            if rows != [""]
            else f"{len(images)} images by the {title.lower()}"
        )
        passes_told = f"{passes} network pass{'es' if passes != 1 else ''} an image"
        return Shown(title, grid(images, min(COLUMNS, len(images))), words, seconds, passes_told)

    images, quick = draw(student)
    yield shown("Student", images, quick, student.passes)
    if teacher is None:
        yield Words("Teacher", "It is not at hand: it was trained for the run and is no longer in the cache.")
        return
    images, slow = draw(teacher)
    yield shown("Teacher", images, slow, teacher.passes)
    yield Table(
        "Stopwatch",
        ("Who", "Seconds", "Network passes an image"),
        (
            ("student", round(quick, 4), student.passes),
            ("teacher", round(slow, 4), teacher.passes),
            ("teacher over student", round(slow / quick, 1), round(teacher.passes / student.passes, 1)),
        ),
        "Wall-clock on this machine, for all the images together.",
    )
