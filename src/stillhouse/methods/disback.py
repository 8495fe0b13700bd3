"""A diffusion model becomes a one-step generator by way of recorded stops between the two: DisBack.

Distribution Backtracking Builds A Faster Convergence Trajectory for Diffusion Distillation (arXiv 2408.15991).

Early in score distillation the teacher's score is asked about samples that it has never seen. DisBack gives the student
nearer targets first:

* Degradation recording (eq. 7): s' starts as the teacher and is fitted to the samples of the frozen initial student G0,

      min_s' E || s'(x_t, t) - x_0 ||^2_w,  x_0 = G0(z)

  with nodes s'_1, ..., s'_N kept on the way; s'_0 is the teacher.
* Distribution backtracking (eq. 8, eq. 5): the student is distilled towards s'_{N-1}, ..., s'_1, s'_0 in turn,

      grad = E[ w_t ( s_phi(x_t, t) - s'_i(x_t, t) ) dG/dtheta ]

  while the fake score s_phi, which starts as s'_N, follows the student. The last target is the teacher, for good.

Only the target changes, so the walk combines with any base: `diff-instruct` (eq. 8 with plain weights, arXiv 2305.18455)
or `dmd2` (normalised weights and a GAN loss). `path` has the ablations: `warm-fake` starts the fake score as s'_N and
keeps the teacher as the target throughout; `none` is the base alone.

What differs, and why: nodes are kept as differences to the teacher and read strictly, because the released code reads
them with names that never match; the walk really ends on the teacher; `switch="adaptive"` goes on when the gap between
target and fake score has stopped falling, since a fixed dwell costs updates that the teacher could have used; recording
is charged to the arm and to its curve. A student narrower than the teacher (`student_widths`) learns the teacher's
score first (`score_matching`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from stillhouse.core.distributed import from_leader
from stillhouse.core.errors import require
from stillhouse.core.estimate import Estimate
from stillhouse.core.options import read_options
from stillhouse.core.portable import Portable
from stillhouse.core.result import Result, Table
from stillhouse.core.run import Run
from stillhouse.core.seeding import seed_everything
from stillhouse.core.training import fit
from stillhouse.diffusion.degradation import Backtracking, node_network, node_updates, save_node
from stillhouse.diffusion.denoiser import Denoiser
from stillhouse.diffusion.generator import Generator, load_generator, sample_command
from stillhouse.diffusion.losses import matching_gradient, plain_matching_gradient
from stillhouse.diffusion.planning import Before, plan_distillation
from stillhouse.diffusion.portable import portable_generator
from stillhouse.diffusion.score_distillation import ConstantTarget, ScoreDistillation, TargetScore
from stillhouse.diffusion.score_matching import match_teacher
from stillhouse.diffusion.students import (
    AdversarialTask,
    Charge,
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
    """Options of DisBack."""

    base: Literal["diff-instruct", "dmd2"] = "diff-instruct"
    """What the walk is added to: plain score differences, or DMD2 with its GAN (the gan options are for this one)."""
    path: Literal["backtrack", "warm-fake", "none"] = "backtrack"
    """backtrack walks the nodes; warm-fake only starts the critic from the last one; none is the base alone."""
    nodes: int = 5
    """Nodes recorded between the teacher and the initial student, the latter included."""
    recording_updates: int = 100
    """Updates of the degradation recording."""
    recording_lr: float = 8e-4
    """Learning rate of the degradation recording."""
    switch: Literal["fixed", "adaptive"] = "adaptive"
    """When the target moves on: after so many updates, as published, or when the score gap stops falling."""
    switch_updates: int = 6
    """Student updates a node (fixed), or the updates over which the gap is watched (adaptive)."""
    student_widths: tuple[int, ...] = ()
    """Channels of each level of a narrower student; the teacher's own network by default."""
    score_matching_updates: int = 400
    """Updates in which a narrower student first learns the teacher's score."""
    score_matching_lr: float = 1e-3
    """Learning rate of that."""


PRESETS: Mapping[str, Config] = {
    "laptop": Config(),
    # the only published recipe: experiments/sdxl of the paper's release, for a local Stable-Diffusion-type teacher
    "paper": Config(
        data="./images",
        teacher="./stable-diffusion",
        base="dmd2",
        guidance_scale=8.0,
        student_updates=100_000,
        batch=128,
        student_lr=5e-7,
        fake_lr=5e-7,
        head_lr=5e-7,
        recording_lr=5e-7,
        recording_updates=1000,
        nodes=10,
        switch="fixed",
        switch_updates=1000,
        gan_weight=5e-3,
        cooldown=0.0,
        ema_decay=0.0,
        precision="bfloat16",
        samples=10_000,
    ),
}


def initial_student(config: Config, setting: Setting, run: Run) -> tuple[Denoiser, Charge]:
    """G0: the teacher's weights, or a narrower network that has learned the teacher's score."""
    teacher = setting.teacher.denoiser
    if not config.student_widths:
        return copy.deepcopy(teacher), Charge()
    data, updates, lr = setting.real_images(), config.score_matching_updates, config.score_matching_lr
    return match_teacher(config.student_widths, teacher, setting.conditions, data, config, updates, lr, run)


def record_degradation(config: Config, setting: Setting, initial: Denoiser, nodes: Path, run: Run) -> Charge:
    """Stage 1 (eq. 7): the teacher's copy is fitted to the frozen initial student's samples, nodes kept on the way."""
    teacher = setting.teacher.denoiser
    frozen = copy.deepcopy(initial).requires_grad_(False)
    numbers = recipe(config, student_sigmas(config, teacher), gan_weight=0.0)
    numbers = replace(numbers, fake_lr=config.recording_lr, cooldown=0.0)
    degraded = trainable_copy(teacher)
    engine = ScoreDistillation(
        frozen, ConstantTarget(teacher), degraded, setting.conditions, setting.real_images(), numbers
    )
    when = node_updates(config.recording_updates, config.nodes)

    def keep(update: int, _seconds: float) -> None:
        if run.leader:
            save_node(nodes, when.index(update) + 1, degraded, teacher)

    updates = config.recording_updates
    fitted = fit(engine.step, engine.state, updates, run, stage="recording", evaluate=keep, evaluate_at=frozenset(when))
    from_leader("every node is on disk")
    return Charge(engine.ledger["network_passes"], fitted.seconds, {"recording": fitted.updates})


def target_score(config: Config, teacher: Denoiser, nodes: Path) -> TargetScore:
    """The walk back along the nodes, or the teacher throughout."""
    if config.path == "backtrack":
        # half of the student's updates at least are for the teacher itself
        most = max(config.switch_updates, config.student_updates // (2 * config.nodes))
        return Backtracking(teacher, nodes, config.nodes, config.switch, config.switch_updates, most)
    return ConstantTarget(teacher)


def build_engine(config: Config, setting: Setting, initial: Denoiser, nodes: Path) -> ScoreDistillation:
    """Stage 2 (eq. 8 and eq. 5): the student towards the target score, the fake score from the last node."""
    teacher = setting.teacher.denoiser
    seed_everything(config.seed, "new weights of the student's adapters and the discriminator's head")
    start = teacher if config.path == "none" else node_network(nodes, config.nodes, teacher)
    critic, plain = trainable_copy(start), config.base == "diff-instruct"
    numbers = recipe(
        config,
        student_sigmas(config, teacher),
        matching_gradient=plain_matching_gradient if plain else matching_gradient,
        gan_weight=0.0 if plain else config.gan_weight,
    )
    return ScoreDistillation(
        trainable_copy(initial),
        target_score(config, teacher, nodes),
        critic,
        setting.conditions,
        setting.real_images(),
        numbers,
        new_discriminator(critic, setting) if numbers.gan_weight != 0 else None,
    )


def distill(config: Config, run: Run) -> Result:
    """Record the path, walk it back, and judge the student beside its teacher."""
    check(config)
    setting = prepare(config, run)
    set_precision(config, setting.teacher.denoiser)
    initial, charge = initial_student(config, setting, run)
    nodes = run.folder / "nodes"
    if config.path != "none":
        charge += record_degradation(config, setting, initial, nodes, run)
    engine = build_engine(config, setting, initial, nodes)
    charge = train_student(engine, config, setting, run, charge)
    if not run.leader:
        return Result("disback", "", (), ())  # the leader's is kept
    student, sigmas = engine.ema.average, engine.recipe.sigmas
    save_model_folder(student, sigmas, setting, run)
    sampler = setting.student_sampler(student, sigmas)
    arm = student_arm(sampler, student, setting, run, charge)
    result = image_result("disback", config, run, setting, arm, sampler, notes=notes(config))
    return replace(result, tables=walk_table(engine.target))


def walk_table(target: TargetScore) -> tuple[Table, ...]:
    """Where the walk was, and how far the fake score was from the target on arriving and on leaving."""
    if not isinstance(target, Backtracking):
        return ()
    here = (target.position, "to the end" if target.position == 0 else "not left", "", "")
    caption = "Mean absolute difference of target and fake score on noised student images; node 0 is the teacher."
    columns = ("Node", "Student updates", "Score gap on arrival", "Score gap on leaving")
    return (Table("The walk back", columns, (*target.visits, here), caption),)


def notes(config: Config) -> tuple[str, ...]:
    """What the shared notes do not say."""
    if config.path == "none":
        return ()
    return (
        f"The {config.recording_updates} updates of the recording are in the student's training seconds and passes, and "
        "shift its curve along the axis of network passes.",
    )


def check(config: Config) -> None:
    """Refuse settings that cannot work together.

    Raises:
        UserError: names the option and the mend.
    """
    check_student_task(config)
    require(config.nodes > 0, f"a path of {config.nodes} nodes", "use --nodes 1 or more")
    require(
        config.recording_updates >= config.nodes,
        f"{config.nodes} nodes in {config.recording_updates} recording updates",
        "record at least an update a node",
    )
    require(config.switch_updates > 0, f"{config.switch_updates} updates a node", "use --switch-updates 1 or more")
    dwell, walk = config.switch_updates * (config.nodes - 1), config.path == "backtrack"
    require(
        not walk or dwell < config.student_updates,
        f"a walk of {dwell} or more updates that {config.student_updates} student updates do not finish",
        "use fewer nodes, fewer --switch-updates, or more --student-updates",
    )


def estimate(config: Config) -> Estimate:
    """Passes, checkpoints and seconds of a run, from two timed passes of its network."""
    check(config)
    matching = [Before("score-matching", config.score_matching_updates, 3)] if config.student_widths else []
    recording = [Before("recording", config.recording_updates, 3)] if config.path != "none" else []
    gan = config.base == "dmd2" and config.gan_weight != 0
    return plan_distillation(config, gan=gan, before=(*matching, *recording))


def load(folder: Path) -> Generator:
    """The generator that a run saved."""
    return load_generator(folder)


def portable(run: Path) -> Portable:
    """The generator as one graph from noise and condition to images, judged on the run's held-out images."""
    config = read_options(run, "disback", Config)
    return portable_generator(load(run / "model"), load_splits(config), seed=config.seed)


COMMANDS: Mapping[str, Callable[..., None]] = {"sample": sample_command(load)}
TRIALS = image_trials("disback", Config, load, teacher_of)
