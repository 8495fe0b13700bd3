"""What the methods of score distillation share around their engine: options, networks, training, and the result."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn

from stillhouse.core.distributed import world_size
from stillhouse.core.errors import require
from stillhouse.core.files import folder_bytes, make_folder_atomically
from stillhouse.core.result import Arm, Curve, Result
from stillhouse.core.run import Run
from stillhouse.core.training import fit
from stillhouse.diffusion.denoiser import Denoiser
from stillhouse.diffusion.discriminator import DiscriminatorHead, feature_shape
from stillhouse.diffusion.evaluation import Sampler
from stillhouse.diffusion.recipe import Cadence, Recipe
from stillhouse.diffusion.samplers import few_step_sigmas
from stillhouse.diffusion.score_distillation import Discriminator, ScoreDistillation
from stillhouse.diffusion.task import (
    AXES,
    ImageTask,
    JudgedTask,
    Setting,
    curve_updates,
    metrics_of,
    read_curves,
    sample_pictures,
    sampler_cost,
    standing_arms,
    teacher_samplers,
)
from stillhouse.diffusion.teacher import save_student


@dataclass(frozen=True, kw_only=True)
class DistillationTask(JudgedTask):
    """Options of every method that trains a student by score distillation."""

    student_updates: int = 300
    """Updates of the student."""
    updates_ratio: int = 5
    """Critic updates for each student update (the two time-scale rule)."""
    sigma_init: float | None = None
    """Noise level at which the student starts; the teacher's largest by default."""
    batch: int = 64
    """Images a step, over all processes."""
    micro_batches: int = 1
    """Parts that a batch is worked through in, to save memory."""
    student_lr: float = 8e-4
    """Learning rate of the student."""
    fake_lr: float = 1.6e-3
    """Learning rate of the critic."""
    warmup_steps: int = 0
    """Steps over which the learning rates rise from 0."""
    cooldown: float = 0.7
    """Share of the steps, at the end, over which the learning rates fall to 0."""
    ema_decay: float = 0.98
    """Memory of the average of the student's weights that is exported; 0 for none."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of the networks; the weights stay float32."""


@dataclass(frozen=True, kw_only=True)
class StudentTask(DistillationTask, ImageTask):
    """Options of the methods of score distillation that are given images."""


@dataclass(frozen=True, kw_only=True)
class AdversarialTask(StudentTask):
    """Options of the methods that have a GAN loss too."""

    head_lr: float = 1e-3
    """Learning rate of the discriminator's head, which starts from nothing."""
    gan_weight: float | Literal["auto"] = "auto"
    """Weight of the generator's GAN loss; 0 for none; auto sets it by the gradients' norms on the image."""
    gan_share: float = 0.2
    """Under auto, norm of the GAN's gradient on the image as a share of the matching loss's."""
    critic_gan_weight: float = 0.01
    """Weight of the discriminator's loss beside the critic's."""


@dataclass(frozen=True)
class Charge:
    """What stages of training cost together; the arm that needs them pays for all of them."""

    passes: int = 0
    seconds: float = 0.0
    updates: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: Charge) -> Charge:
        names = dict.fromkeys((*self.updates, *other.updates))
        updates = {name: self.updates.get(name, 0) + other.updates.get(name, 0) for name in names}
        return Charge(self.passes + other.passes, self.seconds + other.seconds, updates)


def check_student_task(task: DistillationTask) -> None:
    """Refuse settings that cannot work.

    Raises:
        UserError: names the option and the mend.
    """
    require(task.student_updates > 0, "no student updates", "use --student-updates 1 or more")
    require(task.updates_ratio > 0, f"an updates ratio of {task.updates_ratio}", "use 1 or more")
    rates = [task.student_lr, task.fake_lr, *([task.head_lr] if isinstance(task, AdversarialTask) else [])]
    require(min(rates) > 0, "a learning rate of 0 or less", "use rates above 0")
    require(0 <= task.ema_decay < 1, f"an EMA decay of {task.ema_decay}", "use 0 or more, and less than 1")
    require(0 <= task.cooldown <= 1, f"a cooldown of {task.cooldown}", "give a share between 0 and 1")
    processes = world_size()
    require(
        task.batch % processes == 0 and task.teacher_batch % processes == 0,
        f"a batch of {task.batch} (teacher {task.teacher_batch}) on {processes} processes",
        "use multiples of the processes",
    )
    require(
        0 < task.micro_batches <= task.batch // processes,
        f"{task.micro_batches} micro-batches of a batch of {task.batch}",
        "use at least one image a micro-batch",
    )


# ---- the engine's parts


def student_sigmas(task: DistillationTask, teacher: Denoiser, steps: int = 1) -> tuple[float, ...]:
    """Noise levels at which a student of so many steps is called.

    Raises:
        UserError: a first level that is not positive, or below which there are too few.
    """
    first = teacher.preconditioning.sigma_max if task.sigma_init is None else task.sigma_init
    require(first > 0, f"a first noise level of {first}", "use a --sigma-init above 0")
    sigmas = tuple(few_step_sigmas(teacher.preconditioning, steps, first))
    require(
        len(sigmas) == steps,
        f"only {len(sigmas)} of {steps} levels lie below {first:g}",
        "raise --sigma-init or lower --steps",
    )
    return sigmas


def recipe(task: DistillationTask, sigmas: tuple[float, ...], **more: Any) -> Recipe:
    """The engine's numbers for this task; `more` are the method's own."""
    if isinstance(task, AdversarialTask):
        gan = {name: getattr(task, name) for name in ("head_lr", "gan_weight", "gan_share", "critic_gan_weight")}
        more = {**gan, **more}
    return Recipe(
        batch=task.batch,
        micro_batches=task.micro_batches,
        cadence=Cadence(student=task.updates_ratio, fake_score=1),
        sigmas=sigmas,
        student_lr=task.student_lr,
        fake_lr=task.fake_lr,
        warmup_steps=task.warmup_steps,
        steps=task.student_updates * task.updates_ratio,
        cooldown=task.cooldown,
        ema_decay=task.ema_decay,
        guidance_scale=task.guidance_scale,
        **more,
    )


def set_precision(task: DistillationTask, teacher: Denoiser) -> None:
    """The task's arithmetic for the teacher and, since they are copies of it, for student and critic."""
    teacher.autocast_dtype = torch.bfloat16 if task.precision == "bfloat16" else None


def trainable_copy(network: Denoiser) -> Denoiser:
    """A copy of the network to be trained."""
    return copy.deepcopy(network).requires_grad_(True).train()


def new_discriminator(features: Denoiser, setting: Setting) -> Discriminator:
    """A new head on the bottleneck of `features`."""
    head = DiscriminatorHead(*feature_shape(features, setting.conditions.of(setting.labels[:1]), "mid_block"))
    return Discriminator(head.to(setting.device), features)


# ---- training and the result


Judge = Callable[[Denoiser, int], Mapping[str, float]]
"""Metrics of a student network after so many of its updates."""


def train_student(
    engine: ScoreDistillation,
    task: DistillationTask,
    setting: Setting,
    run: Run,
    before: Charge | None = None,
    stage: str = "student",
    judge: Judge | None = None,
) -> Charge:
    """Train the engine's student, its average judged along the way; what it cost, together with what came before.

    Args:
        before: earlier stages, which the curve is charged with too.
        stage: name of the stage, for `fit`.
        judge: by default the metrics that the student's arm gets.
    """
    before, ratio = before or Charge(), task.updates_ratio
    judge = judge or (lambda student, _: setting.measure(setting.student_sampler(student, engine.recipe.sigmas)))

    def evaluate(step: int, seconds: float) -> None:
        if not run.leader:
            return
        updates = before.updates.get("student", 0) + -(-step // ratio)
        metrics = judge(engine.ema.average, updates)
        position = {"student_updates": updates, "network_passes": before.passes + engine.ledger["network_passes"]}
        clock = round(before.seconds + seconds, 3)
        run.record(stage=stage, update=step, seconds=clock, evaluation=dict(metrics), **position)

    when = frozenset(update * ratio for update in curve_updates(task.student_updates))
    steps = task.student_updates * ratio
    fitted = fit(engine.step, engine.state, steps, run, stage=stage, evaluate=evaluate, evaluate_at=when)
    return before + _spent(engine, fitted.seconds)


def _spent(engine: ScoreDistillation, seconds: float) -> Charge:
    """What the engine has cost so far."""
    ledger = engine.ledger
    updates = {"student": ledger["student_updates"], "fake_score": ledger["fake_score_updates"]}
    return Charge(ledger["network_passes"], seconds, updates)


def save_model_folder(student: Denoiser, sigmas: tuple[float, ...], setting: Setting, run: Run) -> None:
    """Save the student as the run's model, in its teacher's format."""
    make_folder_atomically(run.model_folder, lambda place: save_student(student, setting.teacher, place, sigmas=sigmas))


def student_arm(
    sampler: Sampler, student: nn.Module, setting: Setting, run: Run, charge: Charge, note: str = ""
) -> Arm:
    """The row of a saved student."""
    cost = sampler_cost(
        sampler,
        student,
        setting.conditions,
        bytes_on_disk=folder_bytes(run.model_folder),
        training_seconds=charge.seconds,
        training_passes=charge.passes,
        updates=charge.updates,
    )
    return Arm(f"student, {sampler.name}", "student", setting.measure(sampler), cost, setting.seed, note)


def image_result(
    method: str,
    task: JudgedTask,
    run: Run,
    setting: Setting,
    student: Arm,
    sampler: Sampler,
    *,
    notes: Sequence[str] = (),
    curves: tuple[Curve, ...] | None = None,
) -> Result:
    """The table, curves, pictures and summary of a finished run; curves from its stage "student" by default."""
    teacher, *others = standing_arms(task, setting)
    full, _, one = teacher_samplers(task, setting.teacher)
    pictures = sample_pictures(
        run, setting, {"The teacher": full, "The student": sampler, "The teacher with one pass": one}
    )
    return Result(
        method=method,
        summary=summary(teacher, student),
        metrics=metrics_of(setting),
        arms=(teacher, student, *others),
        axes=AXES,
        curves=read_curves(run, "student", student.name) if curves is None else curves,
        pictures=pictures,
        notes=(*reading_notes(task, setting), *notes),
    )


def summary(teacher: Arm, student: Arm) -> str:
    """The outcome in a sentence."""
    one = {arm.name: arm.cost.latency_seconds["batch 1"] for arm in (teacher, student)}
    return (
        f"The student makes an image in {student.cost.network_passes:g} network pass"
        f"{'es' if student.cost.network_passes != 1 else ''} instead of {teacher.cost.network_passes:g}, "
        f"{one[teacher.name] / one[student.name]:.0f} times faster one at a time, "
        f"with FID {student.metrics['fid']:.2f} against the teacher's {teacher.metrics['fid']:.2f} "
        f"and recall {student.metrics['recall']:.2f} against {teacher.metrics['recall']:.2f}."
    )


def reading_notes(task: JudgedTask, setting: Setting) -> tuple[str, ...]:
    """What a reader must know to read the numbers right."""
    splits = setting.splits
    return (
        f"Trained on {len(splits.train)} images of {splits.train.name}; judged by {task.samples} generated images against "
        f"{len(splits.report if task.judged_on == 'report' else splits.select)} held-out ones.",
        "FID with few reference images has a bias of its own: the floor is what real training images score.",
        f"Features come from a small classifier trained on the same training images "
        f"(accuracy {setting.features.accuracy:.3f} on held-out ones), not from Inception.",
    )
