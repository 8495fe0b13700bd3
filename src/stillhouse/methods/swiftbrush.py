"""A text-to-image diffusion model becomes a one-step generator from prompts alone, without a single image: SwiftBrush.

SwiftBrush: One-Step Text-to-Image Diffusion Model with Variational Score Distillation (arXiv 2312.05239).

The student f starts as the teacher and is called once, on pure noise z. A prompt y is all that a step is given:

* Re-parametrisation (section 3.3): the teacher predicts noise; the student is read as the image that this noise implies,

      f(z, y) = (z - sigma_T eps_theta(z, T, y)) / alpha_T

* Variational score distillation (eq. 5, after ProlificDreamer, arXiv 2305.16213): with x = f(z, y), x_t = alpha_t x + sigma_t e,

      grad = E[ w(t) ( eps_psi(x_t, t, y) - eps_phi(x_t, t, y) ) df/dtheta ],  w(t) = sigma_t^2

  eps_psi is the frozen teacher, eps_phi follows the student's images. The two are one network: with its low-rank adapters on
  it is eps_phi, with them off eps_psi, bit for bit. Both are guided, with the same scale.
* The adapters learn the student's images (eq. 6), the prompt dropped in a share of the steps,

      min_phi E || alpha_t eps_phi(x_t, t, y) - alpha_t e ||^2

Equations: `vsd_weight`, `lora_weight`, `losses.plain_matching_gradient`, `lora.AdaptersOff`, and "sample" of
`preconditioning.VariancePreserving`, which is the student without re-parametrisation.

What differs, and why: the sign and scale are those of denoised images in EDM's coordinates, which is the same gradient;
adapters sit on all layers by default, since the attention of a small network is too little of it (`lora_layers`);
`fake_score="none"` is score distillation sampling (arXiv 2209.14988), the paper's ablation. Where prompts come from a file, the
student is judged against the teacher's own many-step images, because there are no others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from stillhouse.core.errors import require
from stillhouse.core.estimate import Estimate
from stillhouse.core.options import read_options
from stillhouse.core.portable import Portable
from stillhouse.core.result import Arm, Cost, Result, Table
from stillhouse.core.run import Run
from stillhouse.core.seeding import seed_everything
from stillhouse.diffusion.conditions import TEXT_WIDTH, new_text_encoder, require_known_words, text_conditions
from stillhouse.diffusion.denoiser import Denoiser
from stillhouse.diffusion.draw import RealImages
from stillhouse.diffusion.generator import Generator, load_generator, sample_command
from stillhouse.diffusion.lora import AdaptersOff, with_lora
from stillhouse.diffusion.losses import plain_matching_gradient
from stillhouse.diffusion.planning import plan_prompt_distillation
from stillhouse.diffusion.portable import portable_generator
from stillhouse.diffusion.preconditioning import VariancePreserving
from stillhouse.diffusion.prompts import BUILT_IN, judged_prompts, read_prompts, teacher_images
from stillhouse.diffusion.recipe import Recipe
from stillhouse.diffusion.score_distillation import ScoreDistillation
from stillhouse.diffusion.students import (
    DistillationTask,
    check_student_task,
    image_result,
    recipe,
    save_model_folder,
    set_precision,
    student_arm,
    student_sigmas,
    train_student,
    trainable_copy,
)
from stillhouse.diffusion.task import (
    Setting,
    best_device,
    check_judged_task,
    picture_columns,
    setting_of,
    teacher_widths,
)
from stillhouse.diffusion.teacher import (
    TeacherPlan,
    new_unet,
    open_text_teacher,
    teacher_folder,
    train_teacher,
)
from stillhouse.diffusion.trials import image_trials
from stillhouse.vision.captioned_digits import CAPTIONS
from stillhouse.vision.images import load_images, split

ATTENTION = ("to_q", "to_v")
"""Layers that carry adapters in the paper's release."""


@dataclass(frozen=True, kw_only=True)
class Config(DistillationTask):
    """Options of SwiftBrush."""

    prompts: str = BUILT_IN
    """A text file with a prompt a line, or captioned-digits: captions of digits in styles, some combinations left out."""
    guidance_scale: float = 2.0
    """Classifier-free guidance of the teacher and of the fake score, in distillation; of the teacher in comparisons."""
    reparametrisation: Literal["x0", "none"] = "x0"
    """x0 reads the student's output as the image that its noise implies; none takes the output itself as the image."""
    fake_score: Literal["lora", "none"] = "lora"
    """none is score distillation sampling: no fake score, the student's own image in its place."""
    lora_rank: int = 16
    """Rank of the fake score's adapters."""
    lora_alpha: int = 16
    """Scale of the adapters, times their rank."""
    lora_layers: Literal["all", "attention"] = "all"
    """Layers with adapters: all convolutions and projections, or the queries and values of attention, as published."""
    prompt_dropout: float = 0.1
    """Share of steps in which the fake score learns without the prompt, so that it can be guided."""
    updates_ratio: int = 1
    """Fake score updates for each student update."""
    student_lr: float = 1e-4
    """Learning rate of the student."""
    fake_lr: float = 1e-3
    """Learning rate of the fake score's adapters."""


PRESETS: Mapping[str, Config] = {
    "laptop": Config(
        widths=(16, 32),
        teacher_updates=1200,
        teacher_batch=64,
        teacher_steps=10,
        student_updates=200,
        updates_ratio=5,
        batch=32,
        student_lr=8e-4,
        fake_lr=3e-3,
        samples=1000,
    ),
    # Stable Diffusion 2.1-base and prompts of JourneyDB, as in the paper's release; three epochs of 1.4 million prompts
    "paper": Config(
        teacher="./stable-diffusion-2-1-base",
        prompts="./prompts.txt",
        guidance_scale=4.5,
        lora_rank=64,
        lora_alpha=108,
        lora_layers="attention",
        student_updates=65_000,
        batch=64,
        student_lr=1e-6,
        fake_lr=1e-3,
        cooldown=0.0,
        ema_decay=0.9999,
        precision="bfloat16",
        samples=10_000,
    ),
}


# ---- the paper's weights


def vsd_weight(sigma: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    """s / (1 + s^2): what sigma_t^2 (eps_psi - eps_phi) is of D_phi - D_psi, at s = sigma_t / alpha_t (eq. 5).

    eps = (x_t - alpha_t D) / sigma_t, so the difference is alpha_t sigma_t (D_phi - D_psi), alpha_t^2 = 1 / (1 + s^2).
    """
    return sigma / (1 + sigma**2)


def lora_weight(sigma: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    """alpha_t^2 = 1 / (1 + s^2), beside the model's own weight of |D - x|^2 (eq. 6)."""
    return 1 / (1 + sigma**2)


def one_step_student(config: Config, teacher: Denoiser) -> Denoiser:
    """A copy of the teacher to be trained, read as x0 or, without re-parametrisation, as what it puts out.

    Raises:
        UserError: without re-parametrisation, of a teacher with EDM's preconditioning.
    """
    student, noise = trainable_copy(teacher), teacher.preconditioning
    if config.reparametrisation == "none":
        require(
            isinstance(noise, VariancePreserving),
            "a teacher with EDM's preconditioning predicts the image already",
            "leave out --reparametrisation none, or give a teacher that predicts the noise",
        )
        student.preconditioning = replace(noise, prediction="sample")  # type: ignore[type-var]
    return student


# ---- what a run is given


def prepare(config: Config, prompts: tuple[str, ...], run: Run) -> Setting:
    """Teacher, and the images that students are judged against; a prompt file is the only data that is read."""
    check_judged_task(config)
    if config.prompts == BUILT_IN:
        return _captioned_digits(config, run)
    device, folder = best_device(), Path(config.teacher)
    if config.teacher == "train":
        require_known_words(prompts, new_text_encoder(CAPTIONS))  # before the minutes of training, not after
        folder = _built_in_teacher(config, run)
    teacher = open_text_teacher(folder, judged_prompts(prompts), device, config.prediction)
    assert teacher.text_encoder
    require_known_words(prompts, teacher.text_encoder)
    set_precision(config, teacher.denoiser)
    return setting_of(config, teacher_images(teacher, config), teacher, device, run)


def _captioned_digits(config: Config, run: Run) -> Setting:
    """The built-in teacher, judged against held-out images of its own data; the student sees none of them."""
    splits, device = split(load_images(BUILT_IN), seed=0), best_device()
    teacher = open_text_teacher(_built_in_teacher(config, run), splits.train.class_names, device)
    return setting_of(config, splits, teacher, device, run)


def teacher_plan(config: Config) -> TeacherPlan:
    """The small text-to-image teacher: it predicts the velocity, as Stable Diffusion 2.1 does.

    A student that predicts the noise divides its error by alpha_T = 0.068, which minutes of training cannot make up for.
    """
    widths = teacher_widths(config, 8)
    return TeacherPlan(
        widths=widths, text=True, prediction="v_prediction", updates=config.teacher_updates, batch=config.teacher_batch
    )


def _built_in_teacher(config: Config, run: Run) -> Path:
    data = split(load_images(BUILT_IN), seed=0).train
    return train_teacher(teacher_plan(config), data, run, best_device())


# ---- the method


def numbers(config: Config, teacher: Denoiser) -> Recipe:
    """The engine's numbers."""
    return recipe(
        config,
        student_sigmas(config, teacher),
        matching_gradient=plain_matching_gradient,
        matching_weighting=vsd_weight,
        fake_weighting=lora_weight,
        fake_guidance_scale=config.guidance_scale,
        null_share=config.prompt_dropout,
        weight_decay=0.0,
        clip=1.0,
    )


def build_engine(config: Config, setting: Setting, prompts: tuple[str, ...]) -> ScoreDistillation:
    """The student, and one network that is the teacher or the fake score, in the shared engine; no images."""
    teacher, encoder = setting.teacher.denoiser, setting.teacher.text_encoder
    assert encoder
    seed_everything(config.seed, "new weights of the fake score's adapters")
    set_precision(config, teacher)
    layers = ATTENTION if config.lora_layers == "attention" else None
    both = with_lora(teacher, config.lora_rank, config.lora_alpha, layers)
    return ScoreDistillation(
        one_step_student(config, teacher),
        AdaptersOff(both),
        both if config.fake_score == "lora" else None,
        text_conditions(prompts, encoder, setting.device),
        RealImages(None, torch.arange(len(prompts), device=setting.device)),
        numbers(config, teacher),
    )


def distill(config: Config, run: Run) -> Result:
    """Train the student on prompts and judge it beside its teacher."""
    check(config)
    prompts = read_prompts(config.prompts)
    setting = prepare(config, prompts, run)
    engine = build_engine(config, setting, prompts)
    charge = train_student(engine, config, setting, run)
    if not run.leader:
        return Result("swiftbrush", "", (), ())  # the leader's is kept
    student, sigmas = engine.ema.average, engine.recipe.sigmas
    save_model_folder(student, sigmas, setting, run)
    sampler = setting.student_sampler(student, sigmas)
    arm = student_arm(sampler, student, setting, run, charge)
    result = image_result("swiftbrush", config, run, setting, arm, sampler)
    more = (Arm("captions dealt at random", "floor", setting.evaluator.chance(), Cost(), config.seed, CHANCE),)
    columns = tuple((i, setting.conditions.names[label]) for i, label in enumerate(picture_columns(setting), 1))
    return replace(
        result,
        summary=f"{result.summary} {alignment(result, prompts)}",
        arms=(*result.arms, *more),
        tables=(Table("What the pictures show", ("Column", "Prompt"), columns),),
        notes=notes(config, setting, prompts),
    )


def alignment(result: Result, prompts: Sequence[str]) -> str:
    """How well images fit their prompts, in a sentence."""
    student, teacher = (result.arm(role).metrics for role in ("student", "teacher"))
    key, what = ("class_accuracy", "prompts")
    if "attribute_accuracy" in student:
        key, what = "attribute_accuracy", "captions' attributes"
    return (
        f"It saw {len(prompts)} prompts and no image; {student[key]:.0%} of the {what} are seen in its images, "
        f"{teacher[key]:.0%} in its teacher's."
    )


CHANCE = "real images, each held against another's caption"


def notes(config: Config, setting: Setting, prompts: Sequence[str]) -> tuple[str, ...]:
    """What a reader must know to read the numbers right."""
    reference = len(setting.evaluator.reference)
    shared = (
        f"The student saw {len(prompts)} prompts and no image.",
        "FID with few reference images has a bias of its own: the floor is what real training images score.",
    )
    if config.prompts == BUILT_IN:
        return (
            *shared,
            f"Judged by {config.samples} generated images against {reference} held-out real ones, which neither the teacher "
            "nor the student saw; captions of all combinations, the held-out ones included.",
            f"Attributes are read by a classifier with a head for each, trained on the images the teacher learned from "
            f"(whole captions right on {setting.features.accuracy:.3f} of held-out real images); its features are the FID's.",
        )
    return (
        *shared,
        f"Judged by {config.samples} generated images of {len(setting.conditions.names)} of the prompts against {reference} of "
        "the teacher's own many-step images: 'real' in this report means these, so it says how near the student comes to "
        "its teacher and nothing about either's truth.",
        "Features come from a small classifier that learned to tell the prompts by the teacher's images.",
    )


def check(config: Config) -> None:
    """Refuse settings that cannot work together.

    Raises:
        UserError: names the option and the mend.
    """
    check_student_task(config)
    require(
        config.teacher == "train" or config.prompts != BUILT_IN,
        "the built-in prompts are for the built-in teacher",
        "give the prompts of your teacher's kind with --prompts FILE",
    )
    require(config.lora_rank > 0, f"adapters of rank {config.lora_rank}", "use --lora-rank 1 or more")
    require(config.lora_alpha > 0, f"an adapter scale of {config.lora_alpha}", "use --lora-alpha 1 or more")
    require(0 <= config.prompt_dropout < 1, f"a prompt dropout of {config.prompt_dropout}", "use 0 or more, below 1")
    require(config.guidance_scale >= 0, f"a guidance scale of {config.guidance_scale}", "use 0 or more")
    if config.reparametrisation == "none":
        require(config.prediction != "edm", "EDM's networks predict the image", "leave out --reparametrisation none")


def estimate(config: Config) -> Estimate:
    """Passes, checkpoints and seconds of a run, from two timed passes of its network."""
    check(config)
    prompts = read_prompts(config.prompts)
    fake = config.fake_score == "lora"
    if config.teacher != "train":
        teacher = open_text_teacher(Path(config.teacher), judged_prompts(prompts)[:1], best_device(), config.prediction)
        return plan_prompt_distillation(config, teacher.denoiser, True, fake_score=fake)
    network, cached = planned_teacher(config)
    return plan_prompt_distillation(config, network, cached, fake_score=fake)


def planned_teacher(config: Config) -> tuple[Denoiser, bool]:
    """A network like the built-in teacher's, and whether that one need not be trained."""
    plan, data = teacher_plan(config), split(load_images(BUILT_IN), seed=0).train
    unet = new_unet(plan.widths, data.channels, data.size, data.classes, TEXT_WIDTH)
    return Denoiser(unet, plan.preconditioning), teacher_folder(plan, data).is_dir()


def load(folder: Path) -> Generator:
    """The generator that a run saved."""
    return load_generator(folder)


def portable(run: Path) -> Portable:
    """The generator as one graph from noise and token ids to images; judged where the prompts' true images are known."""
    config = read_options(run, "swiftbrush", Config)
    splits = split(load_images(BUILT_IN), seed=0) if config.prompts == BUILT_IN else None
    return portable_generator(load(run / "model"), splits, seed=config.seed)


COMMANDS: Mapping[str, Callable[..., None]] = {"sample": sample_command(load)}


def _teacher_of(config: Config) -> Path | None:
    built_in = teacher_folder(teacher_plan(config), split(load_images(BUILT_IN), seed=0).train)
    folder = built_in if config.teacher == "train" else Path(config.teacher)
    return folder if folder.is_dir() else None


TRIALS = image_trials("swiftbrush", Config, load, _teacher_of)
