"""What an image task will cost, from the network it will use and two timed passes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from stillhouse.core.estimate import Estimate, Stage
from stillhouse.diffusion.conditions import new_text_encoder
from stillhouse.diffusion.denoiser import Denoiser, load_denoiser
from stillhouse.diffusion.preconditioning import Edm
from stillhouse.diffusion.samplers import guided_passes
from stillhouse.diffusion.students import DistillationTask, StudentTask
from stillhouse.diffusion.task import ImageTask, curve_updates, load_splits, teacher_plan
from stillhouse.diffusion.teacher import new_unet, teacher_folder
from stillhouse.vision.images import captions

REPEATS = 5


@dataclass(frozen=True)
class Before:
    """A stage that a method has before its student's."""

    name: str
    updates: int
    passes: int
    """Of one item, a backward pass counted as one more."""


def plan_distillation(
    task: StudentTask, *, gan: bool, earlier: float = 0, before: Sequence[Before] = (), students: int = 1
) -> Estimate:
    """Passes, checkpoints and seconds of score distillation, from two timed passes of the teacher's network.

    Args:
        gan: whether there is a GAN loss.
        earlier: the student's own passes before the one that is trained, on average.
        before: the method's stages before the student's.
        students: how many are trained, each by the task.
    """
    network, cached = plan_network(task)
    updates = task.student_updates * students
    steps = updates * task.updates_ratio
    # student: image (2), target, critic, GAN (2); critic: its loss (2), GAN on fake and real (4), image where it has none
    per_student = 2 + guided_passes(task.guidance_scale) + 1 + 2 * gan
    per_critic = 2 + 4 * gan
    passes = round(task.batch * (updates * per_student + steps * per_critic + steps - updates + steps * earlier))
    return _estimate(task, network, cached, passes, steps, 8, before)


def plan_prompt_distillation(task: DistillationTask, network: Denoiser, cached: bool, *, fake_score: bool) -> Estimate:
    """The same for image-free distillation, whose target and fake score are both guided and held once.

    Args:
        network: one like the teacher's.
        cached: whether the teacher need not be trained.
        fake_score: whether there is one.
    """
    updates, steps = task.student_updates, task.student_updates * task.updates_ratio
    guided = guided_passes(task.guidance_scale)
    # student: image (2), target, fake score; fake score: its loss (2), image where the student has no turn
    per_student, per_step = 2 + guided * (1 + fake_score), 2 * fake_score
    passes = task.batch * (updates * per_student + steps * per_step + (steps - updates) * fake_score)
    return _estimate(task, network, cached, passes, steps, 4)


def _estimate(
    task: DistillationTask,
    network: Denoiser,
    cached: bool,
    student_passes: int,
    steps: int,
    copies: int,
    before: Sequence[Before] = (),
) -> Estimate:
    forward, backward = pass_seconds(network, task.batch)
    parameters, mean_pass = network.parameter_count, (forward + backward) / 2

    def stage(name: str, updates: int, passes: int, copies: int) -> Stage:
        return Stage(name, updates, passes, passes * mean_pass, 4 * copies * parameters)

    teacher_updates = 0 if cached else task.teacher_updates
    guided = guided_passes(task.guidance_scale)
    evaluations = len(curve_updates(task.student_updates)) + 2 * guided * task.teacher_steps + 10
    return Estimate(
        (
            stage("teacher", teacher_updates, 2 * teacher_updates * task.teacher_batch, 4),
            *(stage(b.name, b.updates, b.updates * b.passes * task.batch, 4) for b in before),
            stage("student", steps, student_passes, copies),
            Stage("evaluation", 0, evaluations * task.samples, evaluations * task.samples * forward),
        )
    )


def plan_network(task: ImageTask) -> tuple[Denoiser, bool]:
    """A network like the task's teacher, and whether the teacher need not be trained."""
    if task.teacher != "train":
        return load_denoiser(Path(task.teacher), task.prediction), True
    splits = load_splits(task)
    plan, data = teacher_plan(task, splits), splits.train
    width = new_text_encoder(captions(data)).model.config.hidden_size if plan.text else None
    unet = new_unet(plan.widths, data.channels, data.size, data.classes, width)
    return Denoiser(unet, Edm()), teacher_folder(plan, data).is_dir()


def pass_seconds(denoiser: Denoiser, batch: int) -> tuple[float, float]:
    """Seconds of a forward pass and of a backward pass, an image, measured at this batch size."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    denoiser = denoiser.to(device).train()
    x, sigma = torch.randn(batch, *denoiser.sample_shape, device=device), torch.ones(batch, device=device)
    condition = _some_condition(denoiser, batch, device)
    times = []
    for _ in range(REPEATS):
        started = _now(device)
        denoised = denoiser(x, sigma, condition)
        middle = _now(device)
        denoised.square().mean().backward()
        times.append((middle - started, _now(device) - middle))
    # the fastest of each: anything slower is the machine's other work
    forward, backward = (min(column) for column in zip(*times, strict=True))
    return forward / batch, backward / batch


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def _some_condition(denoiser: Denoiser, batch: int, device: torch.device) -> torch.Tensor | None:
    if denoiser.takes_text:
        return torch.zeros(batch, 8, denoiser.config.cross_attention_dim, device=device)
    if denoiser.config.num_class_embeds is None:
        return None
    return torch.zeros(batch, dtype=torch.long, device=device)
