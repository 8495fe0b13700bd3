"""A conditional diffusion model becomes K one-step generators, each for a part of the conditions, behind one router.

Multi-student Diffusion Distillation for Better One-step Generators (arXiv 2410.23274).

The conditions are divided into disjoint parts V_1, ..., V_K of equal size; student k is distilled for V_k alone,

    G_k = Distill(mu_teacher; F(D, V_k)),  G(z, c) = G_k(z, c) for c in V_k                     (section 3.1)

so that each has less to learn and a sample still takes one pass of one network. A student's stages (sections 3.2, 3.3):

* teacher score matching, if it is smaller than the teacher: L_TSM = E lambda_t || mu_phi(x_t) - mu_teacher(x_t) ||^2 on
  the noised real images of its part; the fake score stays a copy of the teacher, since it keeps the role of a score;
* distribution matching with the conditions of its part (DMD's gradient), with `pairs` beside DMD's regression on noise-image
  pairs of the teacher, which are of all conditions for every student: filtered ones made it collapse (section 3.2);
* adversarial distribution matching, with conditions and real images of its part (DMD2's GAN loss).

Each student is a run of its own inside the run folder (`parts/<k>`), with a lock, a checkpoint and a log: K processes or
machines on one file system train one each with `stillhouse multi_student student RUN K`, a killed or failed one is resumed
alone, and `stillhouse resume RUN` trains what is missing and puts the students together.

What differs, and why: distribution matching uses the two time-scale rule and no pairs by default, as the paper itself does
for Stable Diffusion, since a set of pairs costs 35 passes each; pairs are compared by squares, not LPIPS; the adversarial stage starts from the average of the first stage's
weights. The router is part of the exported model and sends a text that no student was trained on to the student of the
nearest known text.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast

import torch
from tyro.conf import Positional

from stillhouse.core.distributed import from_leader, world_size
from stillhouse.core.errors import UserError, require
from stillhouse.core.estimate import Estimate, Stage
from stillhouse.core.files import make_folder_atomically, read_json, write_json
from stillhouse.core.options import read_options
from stillhouse.core.portable import Portable
from stillhouse.core.result import Result, Table
from stillhouse.core.run import Run, open_part
from stillhouse.core.seeding import seed_everything
from stillhouse.diffusion.autoencoder import load_autoencoder
from stillhouse.diffusion.conditions import load_text_encoder
from stillhouse.diffusion.denoiser import Denoiser, load_denoiser, save_denoiser
from stillhouse.diffusion.draw import RealImages
from stillhouse.diffusion.generator import Generator, sample_command
from stillhouse.diffusion.pairs import Regression, teacher_pairs
from stillhouse.diffusion.part_images import assembled_curves, draw_part, keep_images, mend_of
from stillhouse.diffusion.planning import Before, plan_distillation
from stillhouse.diffusion.portable import portable_generator
from stillhouse.diffusion.router import ROUTER, Parts, RoutedDenoiser, divide, label_embeddings, read_router
from stillhouse.diffusion.samplers import guided_passes
from stillhouse.diffusion.score_distillation import ConstantTarget, ScoreDistillation
from stillhouse.diffusion.score_matching import match_teacher
from stillhouse.diffusion.students import (
    AdversarialTask,
    Charge,
    check_student_task,
    image_result,
    new_discriminator,
    recipe,
    set_precision,
    student_arm,
    student_sigmas,
    train_student,
    trainable_copy,
)
from stillhouse.diffusion.task import Setting, load_splits, prepare, weights_hash
from stillhouse.diffusion.trials import image_trials, teacher_of

DONE = "done.json"
"""In a student's part of the run: what it cost. There only when its network is."""
SHARED_PARTS = ("vae", "scheduler")


@dataclass(frozen=True, kw_only=True)
class Config(AdversarialTask):
    """Options of Multi-Student Distillation."""

    students: int = 4
    """How many students; each image takes one pass of one of them."""
    partition: Literal["consecutive", "kmeans", "random"] = "consecutive"
    """How conditions are divided: in their order, near ones together, or at random (a control)."""
    student_updates: int = 100
    """Updates of each student by distribution matching."""
    adversarial_updates: int = 50
    """Updates of each student with the GAN loss after that; 0 for none."""
    batch: int = 32
    """Images a step of each student."""
    student_widths: tuple[int, ...] = ()
    """Channels of each level of smaller students; the teacher's own network by default."""
    score_matching_updates: int = 400
    """Updates in which a smaller student first learns the teacher's score; 0 for none (an ablation)."""
    score_matching_lr: float = 1e-3
    """Learning rate of that."""
    pairs: int = 0
    """Noise-image pairs of the teacher for a regression loss in distribution matching, made once and kept; 0 for none."""
    pair_weight: float = 0.25
    """Weight of that loss."""


PRESETS: Mapping[str, Config] = {
    "laptop": Config(),
    # ImageNet-64 with a local EDM teacher: four times 250 consecutive classes, section 4.2
    "paper": Config(
        data="./imagenet-64",
        teacher="./edm-imagenet-64",
        students=4,
        student_updates=40_000,
        adversarial_updates=20_000,
        batch=128,
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


def parts_of(config: Config, setting: Setting) -> Parts:
    """V_1, ..., V_K: the labels of each student."""
    embeddings = label_embeddings(setting.teacher.denoiser, setting.conditions)
    return divide(embeddings, config.students, config.partition, config.seed)


# ---- one student


def train_part(config: Config, setting: Setting, number: int, part: Run) -> None:
    """All stages of student `number`, in its own part of the run; nothing if it is done."""
    if is_done(part.folder):
        return
    labels = parts_of(config, setting)[number]
    data, sigmas = setting.real_images().of_labels(labels), student_sigmas(config, setting.teacher.denoiser)
    set_precision(config, setting.teacher.denoiser)
    student, charge = initial_student(config, setting, data, number, part)

    def judge(network: Denoiser, updates: int) -> Mapping[str, float]:
        keep_images(part, updates, draw_part(setting, network, sigmas, labels))
        return {}

    engine = matching_engine(config, setting, student, data, sigmas, regression_of(config, setting))
    charge = train_student(engine, config, setting, part, charge, f"matching-{number}", judge)
    if config.adversarial_updates:
        task = replace(config, student_updates=config.adversarial_updates)
        engine = adversarial_engine(task, setting, engine, number)
        charge = train_student(engine, task, setting, part, charge, f"adversarial-{number}", judge)
    if part.leader:
        average = engine.ema.average
        make_folder_atomically(part.model_folder, lambda place: save_denoiser(average, place))
        write_json(part.folder / DONE, vars(charge))
    from_leader("the student is on disk")


def initial_student(
    config: Config, setting: Setting, data: RealImages, number: int, part: Run
) -> tuple[Denoiser, Charge]:
    """The teacher's weights, or a smaller network that has learned the teacher's score on the part's images."""
    teacher = setting.teacher.denoiser
    if not config.student_widths:
        return teacher, Charge()
    updates, lr, stage = config.score_matching_updates, config.score_matching_lr, f"score-matching-{number}"
    return match_teacher(config.student_widths, teacher, setting.conditions, data, config, updates, lr, part, stage)


def regression_of(config: Config, setting: Setting) -> Regression | None:
    """The regression on the teacher's pairs, the same for every student: neither conditions nor images are filtered."""
    if not config.pairs:
        return None
    teacher, labels = setting.teacher.denoiser, setting.splits.train.labels.to(setting.device)
    guidance, digest = config.guidance_scale, weights_hash(teacher)
    made = teacher_pairs(teacher, setting.conditions, labels, config.pairs, config.teacher_steps, guidance, digest)
    return Regression(made, config.pair_weight)


def pairs_charge(config: Config, setting: Setting) -> Charge:
    """What the set of pairs cost, once for all students."""
    regression = regression_of(config, setting)
    return Charge(regression.pairs.passes, regression.pairs.seconds) if regression else Charge()


def matching_engine(
    config: Config,
    setting: Setting,
    student: Denoiser,
    data: RealImages,
    sigmas: tuple[float, ...],
    regression: Regression | None = None,
) -> ScoreDistillation:
    """Distribution matching with the labels of `data`, and the regression on pairs of all labels."""
    teacher = setting.teacher.denoiser
    return ScoreDistillation(
        trainable_copy(student),
        ConstantTarget(teacher),
        trainable_copy(teacher),
        setting.conditions,
        data,
        recipe(config, sigmas, gan_weight=0.0),
        regression=regression,
    )


def adversarial_engine(config: Config, setting: Setting, first: ScoreDistillation, number: int) -> ScoreDistillation:
    """The first stage's student and critic go on, with a discriminator on the same part's real images."""
    assert first.fake_score
    seed_everything(config.seed, "discriminator's head of student", number)
    critic = trainable_copy(first.fake_score)
    return ScoreDistillation(
        trainable_copy(first.ema.average),
        first.target,
        critic,
        setting.conditions,
        first.data,
        recipe(config, first.recipe.sigmas),
        new_discriminator(critic, setting),
    )


# ---- all of them


def distill(config: Config, run: Run) -> Result:
    """Train the students that are not done, put them behind the router, and judge that beside the teacher."""
    check(config)
    setting = prepare(config, run)
    parts = parts_of(config, setting)
    train_missing(config, setting, run)
    if not run.leader:
        return Result("multi_student", "", (), ())  # the leader's is kept
    sigmas = student_sigmas(config, setting.teacher.denoiser)
    make_folder_atomically(run.model_folder, lambda place: put_together(place, run, setting, parts, sigmas))
    routed = RoutedDenoiser(part_networks(run, setting, config), parts, setting.conditions.table).to(setting.device)
    sampler = setting.student_sampler(routed.eval().requires_grad_(False), sigmas)
    charges = [charge_of(part_folder(run, number)) for number in range(config.students)]
    shared = pairs_charge(config, setting)
    note = f"{config.students} students; costs of training are those of all of them"
    arm = student_arm(sampler, routed, setting, run, sum(charges, shared), note)
    folders = [part_folder(run, number) for number in range(config.students)]
    curves = assembled_curves(folders, setting, parts, arm.name, shared.passes)
    result = image_result("multi_student", config, run, setting, arm, sampler, curves=curves)
    return replace(result, tables=(students_table(setting, parts, charges, routed),), notes=(*result.notes, NOTE))


NOTE = (
    "A student's curve has the images of all students at equally many updates of each; its passes are those of all. All "
    "students are held in memory, one computes an image: parameters are of all, latency is of one."
)


def part_folder(run: Run, number: int) -> Path:
    """Folder of student `number`'s own run."""
    return run.folder / "parts" / str(number)


def is_done(part: Path) -> bool:
    """Whether a student is trained and its network there."""
    return (part / DONE).exists() and (part / "model").is_dir()


def charge_of(part: Path) -> Charge:
    """What a student cost.

    Raises:
        UserError: its record is damaged.
    """
    try:
        return Charge(**read_json(part / DONE))
    except (TypeError, UserError) as error:
        raise UserError(f"{part / DONE} does not say what the student cost", mend_of(part)) from error


def train_missing(config: Config, setting: Setting, run: Run) -> None:
    """Train one student after the other, passing over those that fail or that other processes work on.

    Raises:
        UserError: some are not done at the end; names them.
    """
    troubles: dict[int, UserError] = {}
    for number in range(config.students):
        # one process decides for all of its group, since a student may be finished elsewhere at any moment
        if from_leader("done" if is_done(part_folder(run, number)) else ""):
            continue
        trouble = train_alone(config, setting, run, number)
        if trouble:
            run.log(f"student {number} is not done: {trouble}")
            troubles[number] = trouble
    if troubles:
        number, first = next(iter(troubles.items()))
        numbers = ", ".join(map(str, troubles))
        raise UserError(
            f"not all students are done ({numbers}); student {number}: {first.what}",
            f"{first.mend}; then go on with: stillhouse resume {run.folder}",
        )


def train_alone(config: Config, setting: Setting, run: Run, number: int) -> UserError | None:
    """Train student `number`, or say what kept it from being trained.

    Raises:
        UserError: it failed in a group of processes, of which others may still be at work on it.
    """
    try:
        part = open_part(run.folder, str(number), quiet=run.quiet, checkpoint_seconds=run.checkpoint_seconds)
    except UserError as error:
        return error
    with part:
        try:
            train_part(config, setting, number, part)
        except UserError as error:
            if world_size() > 1:
                raise
            return error
    return None


def part_networks(run: Run, setting: Setting, config: Config) -> list[Denoiser]:
    """The finished students."""
    null = setting.teacher.denoiser.null_condition
    found = [load_denoiser(part_folder(run, number) / "model").to(setting.device) for number in range(config.students)]
    for student in found:
        student.null_condition = null
    return found


def put_together(place: Path, run: Run, setting: Setting, parts: Parts, sigmas: tuple[float, ...]) -> None:
    """The exported model: a folder a student, the parts they share with the teacher, and the router."""
    for number in range(len(parts)):
        shutil.copytree(part_folder(run, number) / "model", place / f"student-{number}")
    if setting.teacher.text_encoder:
        setting.teacher.text_encoder.save(place)
    for shared in SHARED_PARTS:
        if (setting.teacher.folder / shared).is_dir():
            shutil.copytree(setting.teacher.folder / shared, place / shared)
    write_json(place / ROUTER, {"parts": parts, "class_names": setting.conditions.names, "sigmas": sigmas})


def students_table(setting: Setting, parts: Parts, charges: list[Charge], routed: RoutedDenoiser) -> Table:
    """What each student is for and what it cost."""
    rows = tuple(
        (
            number,
            ", ".join(setting.conditions.names[label] for label in part),
            sum(p.numel() for p in routed.students[number].parameters()),
            charge.updates["student"],
            charge.passes,
            round(charge.seconds, 1),
        )
        for number, (part, charge) in enumerate(zip(parts, charges, strict=True))
    )
    columns = ("Student", "Conditions", "Parameters", "Updates", "Network passes in training", "Training seconds")
    return Table("The students", columns, rows)


def check(config: Config) -> None:
    """Refuse settings that cannot work together.

    Raises:
        UserError: names the option and the mend.
    """
    check_student_task(config)
    require(config.students > 0, f"{config.students} students", "use --students 1 or more")
    require(config.adversarial_updates >= 0, f"{config.adversarial_updates} adversarial updates", "use 0 or more")
    require(config.pairs >= 0, f"{config.pairs} pairs", "use --pairs 0 or more")
    require(config.pairs == 0 or config.pair_weight > 0, f"a pair weight of {config.pair_weight}", "use more than 0")
    require(config.score_matching_updates >= 0, f"{config.score_matching_updates} matching updates", "use 0 or more")
    require(
        config.adversarial_updates == 0 or config.gan_weight != 0,
        "adversarial updates with --gan-weight 0",
        "use --adversarial-updates 0, or give the GAN a weight",
    )


def estimate(config: Config) -> Estimate:
    """Passes, checkpoints and seconds of a run, all students one after the other."""
    check(config)
    matching = config.score_matching_updates * config.students if config.student_widths else 0
    before = [Before("score-matching", matching, 3)] if matching else []
    task = replace(config, student_updates=config.student_updates + config.adversarial_updates)
    plan = plan_distillation(task, gan=config.adversarial_updates > 0, before=before, students=config.students)
    if not config.pairs:
        return plan
    evaluation = plan.stages[-1]  # forward passes only, as the pairs are
    passes = config.pairs * (2 * config.teacher_steps - 1) * guided_passes(config.guidance_scale)
    pairs = Stage("pairs", 0, passes, passes * evaluation.seconds / evaluation.network_passes)
    return Estimate((pairs, *plan.stages))


def load(folder: Path) -> Generator:
    """One generator over all students: `generator(["seven", "three"])`.

    Raises:
        UserError: the folder is missing or damaged.
    """
    parts, names, sigmas = read_router(folder / ROUTER)
    students = [load_denoiser(folder / f"student-{number}") for number in range(len(parts))]
    text_encoder = load_text_encoder(folder) if students[0].takes_text else None
    with torch.no_grad():
        table = text_encoder.embed(names) if text_encoder else None
    routed = RoutedDenoiser(students, parts, table).eval().requires_grad_(False)
    return Generator(routed, sigmas, names, text_encoder, load_autoencoder(folder))


def portable(run: Path) -> Portable:
    """A graph a student, and the router that says which labels are whose."""
    config, folder = read_options(run, "multi_student", Config), run / "model"
    generator = load(folder)
    routed = cast(RoutedDenoiser, generator.denoiser)
    divided, _, _ = read_router(folder / ROUTER)
    parts = {
        f"student-{i}": (cast(Denoiser, network), part)
        for i, (network, part) in enumerate(zip(routed.students, divided, strict=True))
    }
    return portable_generator(generator, load_splits(config), seed=config.seed, parts=parts, files=(ROUTER,))


def student(run: Positional[Path], number: Positional[int], quiet: bool = False) -> None:
    """Train one student of a run in this process, while others may train the others; then: stillhouse resume RUN.

    Args:
        run: the run folder, made by `stillhouse run multi_student`.
        number: which student, from 0.
        quiet: nothing on the terminal but errors.
    """
    config = read_options(run, "multi_student", Config)
    check(config)
    require(0 <= number < config.students, f"no student {number}", f"choose 0 to {config.students - 1}")
    with open_part(run, str(number), quiet=quiet) as part:
        train_part(config, prepare(config, part), number, part)


COMMANDS: Mapping[str, Callable[..., None]] = {"sample": sample_command(load), "student": student}
TRIALS = image_trials("multi_student", Config, load, teacher_of)
