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

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stillhouse.core.errors import require
from stillhouse.core.estimate import Estimate
from stillhouse.core.options import read_options
from stillhouse.core.portable import Portable
from stillhouse.core.result import Result
from stillhouse.core.run import Run
from stillhouse.core.seeding import seed_everything
from stillhouse.diffusion.generator import Generator, load_generator, sample_command
from stillhouse.diffusion.lora import merged, with_lora
from stillhouse.diffusion.planning import plan_distillation
from stillhouse.diffusion.portable import portable_generator
from stillhouse.diffusion.score_distillation import ConstantTarget, ScoreDistillation
from stillhouse.diffusion.students import (
    AdversarialTask,
    check_student_task,
    image_result,
    new_discriminator,
    recipe,
    save_model_folder,
    set_precision,
    student_arm,
    student_sigmas,
    train_student,
    trainable_copy,
)
from stillhouse.diffusion.task import Setting, load_splits, prepare
from stillhouse.diffusion.trials import image_trials, teacher_of


@dataclass(frozen=True, kw_only=True)
class Config(AdversarialTask):
    """Options of DMD2."""

    steps: int = 1
    """Network passes of the student."""
    inputs: Literal["backward-simulation", "noised-real"] = "backward-simulation"
    """What a student of several steps is trained on: its own earlier steps, or noised real images."""
    matching_weight: float = 1.0
    """Weight of the distribution-matching loss; 0 leaves the GAN alone."""
    fake_score: Literal["trained", "none"] = "trained"
    """none is score distillation sampling: no critic, the student's own image in its place."""
    gan_features: Literal["fake", "teacher"] = "fake"
    """Whose bottleneck the discriminator's head sits on."""
    lora_rank: int = 0
    """Rank of low-rank adapters to train instead of the whole student; 0 for the whole."""


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
        gan_weight=3e-3,
        cooldown=0.0,
        ema_decay=0.0,
        precision="bfloat16",
        samples=50_000,
    ),
}


def build_engine(config: Config, setting: Setting) -> ScoreDistillation:
    """Student, critic and discriminator from the teacher's weights, in the shared engine."""
    teacher = setting.teacher.denoiser
    seed_everything(config.seed, "new weights of the student's adapters and the discriminator's head")
    set_precision(config, teacher)
    student = with_lora(teacher, config.lora_rank) if config.lora_rank else trainable_copy(teacher)
    critic = trainable_copy(teacher) if config.fake_score == "trained" else None
    features = critic if config.gan_features == "fake" and critic else teacher
    return ScoreDistillation(
        student,
        ConstantTarget(teacher),
        critic,
        setting.conditions,
        setting.real_images(),
        recipe(
            config,
            student_sigmas(config, teacher, config.steps),
            inputs=config.inputs,
            matching_weight=config.matching_weight,
        ),
        new_discriminator(features, setting) if config.gan_weight != 0 else None,
    )


def distill(config: Config, run: Run) -> Result:
    """Train the student and judge it beside its teacher."""
    check(config)
    setting = prepare(config, run)
    engine = build_engine(config, setting)
    charge = train_student(engine, config, setting, run)
    if not run.leader:
        return Result("dmd2", "", (), ())  # the leader's is kept
    student, sigmas = merged(engine.ema.average), engine.recipe.sigmas
    save_model_folder(student, sigmas, setting, run)
    sampler = setting.student_sampler(student, sigmas)
    arm = student_arm(sampler, student, setting, run, charge)
    return image_result("dmd2", config, run, setting, arm, sampler)


def check(config: Config) -> None:
    """Refuse settings that cannot work together.

    Raises:
        UserError: names the option and the mend.
    """
    check_student_task(config)
    require(config.steps > 0, f"a student of {config.steps} steps", "use --steps 1 or more")
    require(
        config.gan_weight != 0 or config.matching_weight > 0, "neither a matching nor a GAN loss", "give one a weight"
    )
    require(
        config.gan_weight == 0 or config.gan_features == "teacher" or config.fake_score == "trained",
        "the GAN loss would sit on a fake score that is not there",
        "use --gan-features teacher",
    )


def estimate(config: Config) -> Estimate:
    """Passes, checkpoints and seconds of a run, from two timed passes of its network."""
    check(config)
    earlier = (config.steps - 1) / 2 if config.inputs == "backward-simulation" else 0
    return plan_distillation(config, gan=config.gan_weight != 0, earlier=earlier)


def load(folder: Path) -> Generator:
    """The generator that a run saved."""
    return load_generator(folder)


def portable(run: Path) -> Portable:
    """The generator as one graph from noise and condition to images, judged on the run's held-out images."""
    config = read_options(run, "dmd2", Config)
    return portable_generator(load(run / "model"), load_splits(config), seed=config.seed)


COMMANDS: Mapping[str, Callable[..., None]] = {"sample": sample_command(load)}
TRIALS = image_trials("dmd2", Config, load, teacher_of)
