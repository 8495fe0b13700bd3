"""A many-step diffusion model becomes a generator of one or a few steps: DMD2.

Improved Distribution Matching Distillation for Fast Image Synthesis (arXiv 2405.14867).

The student G starts as the teacher. It is moved by the difference of two scores of its own noised images,

    grad = E[ w (D_fake(x_t) - D_real(x_t)) dG/dtheta ],  x = G(z), x_t = x + sigma n        (eq. 1)

the teacher's D_real and a critic D_fake fitted to G's images as they change. The paper's four parts:

* no regression set of teacher pairs (section 4.1);
* a two time-scale rule: several critic updates for each student update (section 4.2), `updates_ratio`;
* a GAN loss on real images, its head on the critic's bottleneck (section 4.3), `gan_weight`;
* students of several steps, trained on what their own earlier steps make: backward simulation (section 4.4),
  `steps` and `inputs`.

Equations: `losses.matching_gradient` (eq. 1), `losses.denoising_loss` (eq. 3), `losses.generator_gan_loss` and
`losses.discriminator_loss` (eq. 4), `score_distillation.ScoreDistillation.backward_simulation`.

What differs, and why: an exponential average of the student is kept and exported (`ema_decay`; the paper has none),
because at small batches it halves the spread between checkpoints; `gan_weight="auto"` balances the two gradients on the
image, which is the authors' own advice for choosing the weight; guidance is on the teacher only, as published.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from stillhouse.core.errors import require
from stillhouse.core.estimate import Estimate, Stage
from stillhouse.core.files import folder_bytes, make_folder_atomically
from stillhouse.core.result import Arm, Result
from stillhouse.core.run import Run
from stillhouse.core.seeding import seed_everything
from stillhouse.core.training import fit
from stillhouse.diffusion.denoiser import Denoiser
from stillhouse.diffusion.discriminator import DiscriminatorHead, feature_shape
from stillhouse.diffusion.evaluation import Sampler
from stillhouse.diffusion.generator import Generator, load_generator, sample
from stillhouse.diffusion.lora import merged, with_lora
from stillhouse.diffusion.planning import pass_seconds, plan_network
from stillhouse.diffusion.samplers import few_step_sigmas
from stillhouse.diffusion.score_distillation import (
    Cadence,
    ConstantTarget,
    Discriminator,
    Recipe,
    ScoreDistillation,
)
from stillhouse.diffusion.task import (
    AXES,
    ImageTask,
    Setting,
    curve_updates,
    metrics_of,
    prepare,
    read_curves,
    sample_pictures,
    sampler_cost,
    standing_arms,
    teacher_samplers,
)
from stillhouse.diffusion.teacher import save_student


@dataclass(frozen=True, kw_only=True)
class Config(ImageTask):
    """Options of DMD2."""

    student_updates: int = 300
    """Updates of the student."""
    updates_ratio: int = 5
    """Critic updates for each student update (the two time-scale rule)."""
    steps: int = 1
    """Network passes of the student."""
    sigma_init: float | None = None
    """Noise level at which the student starts; the teacher's largest by default."""
    inputs: Literal["backward-simulation", "noised-real"] = "backward-simulation"
    """What a student of several steps is trained on: its own earlier steps, or noised real images."""
    batch: int = 64
    """Images a step, over all processes."""
    micro_batches: int = 1
    """Parts that a batch is worked through in, to save memory."""
    student_lr: float = 1e-4
    """Learning rate of the student."""
    fake_lr: float = 2e-4
    """Learning rate of the critic."""
    head_lr: float = 1e-3
    """Learning rate of the discriminator's head, which starts from nothing."""
    warmup_steps: int = 0
    """Steps over which the learning rates rise from 0."""
    cooldown: float = 0.3
    """Share of the steps, at the end, over which the learning rates fall to 0."""
    matching_weight: float = 1.0
    """Weight of the distribution-matching loss; 0 leaves the GAN alone."""
    fake_score: Literal["trained", "none"] = "trained"
    """none is score distillation sampling: no critic, the student's own image in its place."""
    gan_weight: float | Literal["auto"] = "auto"
    """Weight of the generator's GAN loss; 0 for none; auto for gradients of equal norm on the image."""
    critic_gan_weight: float = 0.01
    """Weight of the discriminator's loss beside the critic's."""
    gan_features: Literal["fake", "teacher"] = "fake"
    """Whose bottleneck the discriminator's head sits on."""
    lora_rank: int = 0
    """Rank of low-rank adapters to train instead of the whole student; 0 for the whole."""
    ema_decay: float = 0.95
    """Memory of the average of the student's weights that is exported; 0 for none."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of the networks; the weights stay float32."""


PRESETS: Mapping[str, Config] = {
    "laptop": Config(),
    # ImageNet-64 with a local EDM teacher, experiments/imagenet of the paper's release
    "paper": Config(
        data="./imagenet-64",
        teacher="./edm-imagenet-64",
        student_updates=40_000,
        batch=280,
        student_lr=2e-6,
        fake_lr=2e-6,
        head_lr=2e-6,
        warmup_steps=500,
        cooldown=0.0,
        gan_weight=3e-3,
        ema_decay=0.0,
        precision="bfloat16",
        samples=50_000,
    ),
}


def student_sigmas(config: Config, teacher: Denoiser) -> tuple[float, ...]:
    """Noise levels at which the student is called."""
    first = config.sigma_init or teacher.preconditioning.sigma_max
    return tuple(few_step_sigmas(teacher.preconditioning, config.steps, first))


def recipe(config: Config, teacher: Denoiser) -> Recipe:
    """The engine's numbers for this config."""
    return Recipe(
        batch=config.batch,
        micro_batches=config.micro_batches,
        cadence=Cadence(student=config.updates_ratio, fake_score=1),
        sigmas=student_sigmas(config, teacher),
        inputs=config.inputs,
        student_lr=config.student_lr,
        fake_lr=config.fake_lr,
        head_lr=config.head_lr,
        warmup_steps=config.warmup_steps,
        steps=config.student_updates * config.updates_ratio,
        cooldown=config.cooldown,
        ema_decay=config.ema_decay,
        matching_weight=config.matching_weight,
        gan_weight=config.gan_weight,
        critic_gan_weight=config.critic_gan_weight,
        guidance_scale=config.guidance_scale,
    )


def build_engine(config: Config, setting: Setting) -> ScoreDistillation:
    """Student, critic and discriminator from the teacher's weights, in the shared engine."""
    teacher = setting.teacher.denoiser
    seed_everything(config.seed, "new weights of the student's adapters and the discriminator's head")
    teacher.autocast_dtype = torch.bfloat16 if config.precision == "bfloat16" else None
    student = with_lora(teacher, config.lora_rank) if config.lora_rank else trainable_copy(teacher)
    critic = trainable_copy(teacher) if config.fake_score == "trained" else None
    discriminator = None
    if config.gan_weight != 0:
        features = critic if config.gan_features == "fake" and critic else teacher
        head = DiscriminatorHead(*feature_shape(features, setting.conditions.of(setting.labels[:1]), "mid_block"))
        discriminator = Discriminator(head.to(setting.device), features)
    return ScoreDistillation(
        student,
        ConstantTarget(teacher),
        critic,
        setting.conditions,
        setting.real_images(),
        recipe(config, teacher),
        discriminator,
    )


def trainable_copy(teacher: Denoiser) -> Denoiser:
    """A copy of the teacher to be trained."""
    return copy.deepcopy(teacher).requires_grad_(True).train()


def distill(config: Config, run: Run) -> Result:
    """Train the student and judge it beside its teacher."""
    check(config)
    setting = prepare(config, run)
    engine = build_engine(config, setting)
    sigmas = engine.recipe.sigmas
    ratio = config.updates_ratio

    def evaluate(step: int, seconds: float) -> None:
        if not run.leader:
            return
        metrics = setting.measure(setting.student_sampler(engine.ema.average, sigmas))
        position = {"student_updates": -(-step // ratio), "network_passes": engine.ledger["network_passes"]}
        run.record(stage="student", update=step, seconds=round(seconds, 3), evaluation=metrics, **position)

    when = frozenset(update * ratio for update in curve_updates(config.student_updates))
    fitted = fit(
        engine.step,
        engine.state,
        config.student_updates * ratio,
        run,
        stage="student",
        evaluate=evaluate,
        evaluate_at=when,
    )
    student = merged(engine.ema.average)
    sampler = setting.student_sampler(student, sigmas)
    if run.leader:
        make_folder_atomically(
            run.model_folder, lambda place: save_student(student, setting.teacher, place, sigmas=sigmas)
        )
    arm = Arm(
        f"student, {sampler.name}",
        "student",
        setting.measure(sampler),
        sampler_cost(
            sampler,
            student,
            setting.conditions,
            bytes_on_disk=folder_bytes(run.model_folder),
            training_seconds=fitted.seconds,
            training_passes=engine.ledger["network_passes"],
            updates={"student": engine.ledger["student_updates"], "fake_score": engine.ledger["fake_score_updates"]},
        ),
        config.seed,
    )
    return result(config, run, setting, arm, sampler)


def result(config: Config, run: Run, setting: Setting, student: Arm, sampler: Sampler) -> Result:
    """The table, curves, pictures and summary of a finished run."""
    teacher, *others = standing_arms(config, setting)
    metrics = metrics_of(setting)
    full, _, one = teacher_samplers(config, setting.teacher)
    pictures = sample_pictures(
        run, setting, {"The teacher": full, "The student": sampler, "The teacher with one pass": one}
    )
    return Result(
        method="dmd2",
        summary=summary(teacher, student),
        metrics=metrics,
        arms=(teacher, student, *others),
        axes=AXES,
        curves=read_curves(run, "student", student.name),
        pictures=pictures,
        notes=notes(config, setting),
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


def notes(config: Config, setting: Setting) -> tuple[str, ...]:
    """What a reader must know to read the numbers right."""
    splits = setting.splits
    return (
        f"Trained on {len(splits.train)} images of {config.data}; judged by {config.samples} generated images against "
        f"{len(splits.report if config.judged_on == 'report' else splits.select)} held-out ones.",
        "FID with few reference images has a bias of its own: the floor is what real training images score.",
        f"Features come from a small classifier trained on the same training images "
        f"(accuracy {setting.features.accuracy:.3f} on held-out ones), not from Inception.",
    )


def check(config: Config) -> None:
    """Refuse settings that cannot work together.

    Raises:
        UserError: names the option and the mend.
    """
    require(config.student_updates > 0, "no student updates", "use --student-updates 1 or more")
    require(config.updates_ratio > 0, f"an updates ratio of {config.updates_ratio}", "use 1 or more")
    require(config.steps > 0, f"a student of {config.steps} steps", "use --steps 1 or more")
    require(
        config.gan_weight != 0 or config.matching_weight > 0, "neither a matching nor a GAN loss", "give one a weight"
    )
    require(
        0 < config.micro_batches <= config.batch,
        f"{config.micro_batches} micro-batches of a batch of {config.batch}",
        "use at least one image a micro-batch",
    )


def estimate(config: Config) -> Estimate:
    """Passes, checkpoints and seconds of a run, from two timed passes of its network."""
    check(config)
    network, cached = plan_network(config)
    forward, backward = pass_seconds(network, config.batch)
    parameters, images = network.parameter_count, config.batch
    gan = config.gan_weight != 0
    per_student = 2 + 2 + (1 if gan else 0)
    per_critic = 1 + 2 + (2 if gan else 0)
    steps = config.student_updates * config.updates_ratio
    passes = images * (config.student_updates * per_student + steps * per_critic)
    teacher_passes = 0 if cached else 2 * config.teacher_updates * config.teacher_batch
    evaluations = len(curve_updates(config.student_updates)) + 2 * config.teacher_steps + 10
    mean_pass = (forward + backward) / 2
    return Estimate(
        (
            Stage(
                "teacher",
                0 if cached else config.teacher_updates,
                teacher_passes,
                teacher_passes * mean_pass,
                16 * parameters,
            ),
            Stage("student", steps, passes, passes * mean_pass, 4 * 8 * parameters),
            Stage("evaluation", 0, evaluations * config.samples, evaluations * config.samples * forward),
        )
    )


def load(folder: Path) -> Generator:
    """The generator that a run saved."""
    return load_generator(folder)


COMMANDS: Mapping[str, Callable[..., None]] = {"sample": sample}
