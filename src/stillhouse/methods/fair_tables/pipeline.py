"""The run from start to end: train, measure every arm alike, save, report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stillhouse.core.errors import require
from stillhouse.core.files import write_atomically
from stillhouse.core.result import Arm, Cost, Result, Role
from stillhouse.core.run import Run
from stillhouse.core.seeding import seed_everything
from stillhouse.methods.fair_tables import report
from stillhouse.methods.fair_tables.baselines import TabFairGAN, sample_marginals, train_tabfairgan
from stillhouse.methods.fair_tables.evaluation import METRICS, Maker, constant_arm, measure
from stillhouse.methods.fair_tables.images import colour_mnist_task
from stillhouse.methods.fair_tables.losses import reweighing
from stillhouse.methods.fair_tables.networks import (
    DiffusionSampler,
    FairVAE,
    FlowSampler,
    LatentSampler,
    NoiseSampler,
    parameters,
)
from stillhouse.methods.fair_tables.sampler import Shape, Student, build_vae, save_student
from stillhouse.methods.fair_tables.stages import (
    Data,
    Penalty,
    Plan,
    StudentLoss,
    TeacherLoss,
    distil_student,
    latents,
    seeded,
    train_by_loss,
    train_gan,
    train_noise_sampler,
    train_teacher,
)
from stillhouse.methods.fair_tables.task import Task, table_task
from stillhouse.tables.datasets import open_source

if TYPE_CHECKING:
    from stillhouse.methods.fair_tables import Config

SAMPLER_WIDTH = 128
"""Hidden width of the teacher's and the baselines' latent samplers; the student's has the student's width."""

GAN_RATE = 5e-4
"""Learning rate of the GAN on latents."""


LEAST: Mapping[str, float] = {
    **dict.fromkeys(("latent", "teacher_width", "student_width", "batch", "pairs"), 2),
    **dict.fromkeys(("teacher_updates", "student_updates", "sampler_updates", "tabfairgan_updates"), 1),
    **dict.fromkeys(("fairness_weight", "student_fairness_weight", "quality_weight", "utility_weight"), 0),
    **dict.fromkeys(("label_weight", "kl_weight", "tabfairgan_fairness", "most_rows"), 0),
    **dict.fromkeys(("rate", "student_rate", "tabfairgan_rate"), 1e-8),
    "measured_rows": 50,
}
"""The least value of every option that is a number."""


def check(config: Config) -> None:
    """Refuse numbers that no run can be made with.

    Raises:
        UserError: names the option and its least value.
    """
    for name, least in LEAST.items():
        option, value = "--" + name.replace("_", "-"), getattr(config, name)
        require(value >= least, f"{option} is {value:g}", f"use {least:g} or more")
    enough = len(config.smoothing) > 0 and min(config.smoothing) >= 0
    require(enough, f"--smoothing is {config.smoothing}", "give one or more widths, 0 for none")


def open_task(config: Config) -> Task:
    """The rows a config names, checked, split and encoded.

    Raises:
        UserError: they cannot be used, or an option is out of range.
    """
    check(config)
    if config.data == "colour-mnist":
        return colour_mnist_task(config.most_rows, config.seed)
    source = open_source(config.data, config.label, config.sensitive, config.positive, config.drop)
    return table_task(source, config.data, config.most_rows, config.seed)


def distill(config: Config, run: Run) -> Result:
    """See `stillhouse.methods.fair_tables.distill`."""
    task = open_task(config)
    run.log(f"{task.name}: {len(task.train):,} training rows, groups {', '.join(task.groups)}")
    teacher, teacher_maker = teach(config, task, run)
    student, student_maker = distil(config, task, teacher, run)
    makers = [teacher_maker, student_maker, *baselines(config, task, teacher, run)]
    arms = [measure(maker, task, config.measured_rows, run) for maker in makers]
    arms.append(constant_arm(task, run.seed))
    save_student(student, _shape(config, task, config.student_width), task.codec, run.model_folder)
    return _result(task, arms, student_maker, run)


def teach(config: Config, task: Task, run: Run) -> tuple[FairVAE, Maker]:
    """The teacher and its arm: the VAE with the penalty, and a flow on its latents."""
    loss = TeacherLoss(config.label_weight, config.kl_weight, penalty(config, task, config.fairness_weight))
    return _vae_arm(config, task, loss, "teacher", "teacher", run)


def _vae_arm(config: Config, task: Task, loss: TeacherLoss, name: str, role: Role, run: Run) -> tuple[FairVAE, Maker]:
    stage = name.replace(" ", "-")
    vae = new_vae(config, task, config.teacher_width, stage)
    fitted = train_teacher(vae, task.syntax, task.train, loss, _plan(config, config.teacher_updates), run, stage)
    flow = seeded(config.seed, stage + "-flow", lambda: FlowSampler(config.latent, SAMPLER_WIDTH))
    flowed = train_by_loss(flow, vae, task.train, _plan(config, config.sampler_updates), run, stage + "-flow")
    updates = {"vae": fitted.updates, "flow": flowed.updates}
    return vae, latent_maker(name, role, vae, flow, task, fitted.seconds + flowed.seconds, updates)


def distil(config: Config, task: Task, teacher: FairVAE, run: Run) -> tuple[Student, Maker]:
    """The student and its arm."""
    vae = new_vae(config, task, config.student_width, "student")
    fitted = distil_student(
        vae,
        teacher,
        task.syntax,
        task.train,
        student_loss(config, task),
        Plan(config.student_updates, config.batch, config.student_rate),
        run,
        "student",
    )
    sampler = seeded(config.seed, "student-sampler", lambda: NoiseSampler(config.latent, config.student_width))
    sampled = train_noise_sampler(
        sampler, vae, task.train, _plan(config, config.sampler_updates), run, "student-sampler"
    )
    updates = {"student": fitted.updates, "sampler": sampled.updates}
    maker = latent_maker("student", "student", vae, sampler, task, fitted.seconds + sampled.seconds, updates)
    return Student(vae, sampler, group_shares(task)), maker


def baselines(config: Config, task: Task, teacher: FairVAE, run: Run) -> Iterator[Maker]:
    """Everything the student is compared with, trained in the same run on the same rows."""
    real = task.select
    yield Maker("real rows", "floor", lambda n: real.take(torch.arange(min(n, len(real)))), note="fresh real rows")
    copy = task.train
    yield Maker("copy of the training rows", "floor", lambda n: copy.take(torch.arange(min(n, len(copy)))))
    yield Maker("marginals only", "floor", lambda n: sample_marginals(task.train, task.blocks, n))
    plain = TeacherLoss(config.label_weight, config.kl_weight, penalty(config, task, 0.0))
    yield _vae_arm(config, task, plain, "VAE without fairness", "baseline", run)[1]
    yield fldgm_gan(config, task, teacher, run)
    yield fldgm_diffusion(config, task, teacher, run)
    if task.codec:
        yield tabfairgan(config, task, run)


def fldgm_gan(config: Config, task: Task, teacher: FairVAE, run: Run) -> Maker:
    """FLDGM with a WGAN-GP on the teacher's latents."""
    gan = seeded(config.seed, "fldgm-gan", lambda: NoiseSampler(config.latent, SAMPLER_WIDTH))
    plan = Plan(2 * config.sampler_updates, config.batch, GAN_RATE)
    fitted = train_gan(gan, teacher, task.train, plan, run, "fldgm-gan")
    return latent_maker("FLDGM GAN", "baseline", teacher, gan, task, fitted.seconds, {"gan": fitted.updates})


def fldgm_diffusion(config: Config, task: Task, teacher: FairVAE, run: Run) -> Maker:
    """FLDGM with a diffusion on the teacher's latents."""
    diffusion = seeded(config.seed, "fldgm-diffusion", lambda: DiffusionSampler(config.latent, SAMPLER_WIDTH))
    plan = _plan(config, config.sampler_updates)
    fitted = train_by_loss(diffusion, teacher, task.train, plan, run, "fldgm-diffusion")
    updates = {"diffusion": fitted.updates}
    return latent_maker("FLDGM diffusion", "baseline", teacher, diffusion, task, fitted.seconds, updates)


def tabfairgan(config: Config, task: Task, run: Run) -> Maker:
    """A GAN of whole rows with a parity term."""
    sizes = task.blocks, len(task.groups), len(task.classes), config.teacher_width
    generator = seeded(config.seed, "tabfairgan", lambda: TabFairGAN(*sizes))
    plan = Plan(config.tabfairgan_updates, config.batch, config.tabfairgan_rate)
    fitted = train_tabfairgan(generator, task.train, task.positive, config.tabfairgan_fairness, plan, run, "tabfairgan")
    draw = _no_gradient(generator.sample)
    cost = Cost(
        parameters=parameters(generator),
        latency_seconds=_latency(draw),
        training_seconds=fitted.seconds,
        updates={"gan": fitted.updates},
    )
    return Maker("TabFairGAN-style", "baseline", draw, cost)


def latent_maker(
    name: str, role: Role, vae: FairVAE, sampler: LatentSampler, task: Task, seconds: float, updates: dict[str, int]
) -> Maker:
    """An arm that draws z from a sampler, s independently, and decodes."""
    student = Student(vae, sampler, group_shares(task))

    def draw(rows: int) -> Data:
        return student.draw(rows, task.syntax)

    passes = float(2 * getattr(sampler, "steps", 0.5) + 1) if isinstance(sampler, FlowSampler) else 0.0
    cost = Cost(
        parameters=parameters(vae, sampler),
        bytes_on_disk=4 * parameters(vae, sampler),
        network_passes=passes or float(getattr(sampler, "steps", 1) + 1),
        latency_seconds=_latency(draw),
        training_seconds=seconds,
        updates=updates,
    )
    return Maker(name, role, draw, cost, lambda data: latents(vae, data))


def _latency(draw: Callable[[int], Data], rows: int = 5000) -> dict[str, float]:
    """Seconds a row, the best of three draws."""
    taken = []
    with torch.random.fork_rng(devices=[]):
        for _ in range(3):
            started = time.perf_counter()
            draw(rows)
            taken.append((time.perf_counter() - started) / rows)
    return {f"batch {rows}": min(taken)}


def _no_gradient(sample: Callable[[int], Data]) -> Callable[[int], Data]:
    def draw(rows: int) -> Data:
        with torch.no_grad():
            return sample(rows)

    return draw


def group_shares(task: Task) -> Tensor:
    """p(s) of the training rows."""
    counts = torch.bincount(task.train.s, minlength=len(task.groups)).float()
    return counts / counts.sum()


def new_vae(config: Config, task: Task, width: int, stage: str) -> FairVAE:
    """An untrained VAE whose weights depend on the seed and the stage's name."""
    return seeded(config.seed, stage, lambda: build_vae(task.syntax, _shape(config, task, width)))


def penalty(config: Config, task: Task, weight: float) -> Penalty:
    """The config's dependence penalty with some weight."""
    weights = reweighing(task.train.s, task.train.y) if config.fair_given == "label" else None
    return Penalty(weight, config.penalty, config.smoothing, len(task.train), config.pairs, weights)


def student_loss(config: Config, task: Task) -> StudentLoss:
    """The config's student loss."""
    own = penalty(config, task, config.student_fairness_weight)
    return StudentLoss(config.quality_weight, config.utility_weight, own)


def _shape(config: Config, task: Task, width: int) -> Shape:
    return Shape(len(task.groups), len(task.classes), config.latent, width, config.encoder_sees)


def _plan(config: Config, updates: int) -> Plan:
    return Plan(updates, config.batch, config.rate)


def _result(task: Task, arms: list[Arm], student: Maker, run: Run) -> Result:
    with _drawing_seed(run):
        synthetic = student.draw(8000)
    student_arm = next(arm for arm in arms if arm.role == "student")
    teacher_arm = next(arm for arm in arms if arm.role == "teacher")
    bias, sheet = report.bias_table(task, synthetic), report.datasheet(task, student_arm, run.seed)
    write_atomically(run.model_folder / "DATASHEET.md", report.datasheet_text(sheet))
    draw = report.distributions_picture if task.codec else report.images_picture
    pictures = (report.bias_picture(task, bias, run), draw(task, synthetic, run), report.front_picture(arms, run))
    pairs = report.nearest_pairs_table(task, synthetic)
    tables = (bias, report.closest_table(task, synthetic), *([pairs] if pairs else []), sheet)
    return Result(
        "fair_tables",
        _summary(student_arm, teacher_arm, arms),
        METRICS,
        tuple(arms),
        pictures=pictures,
        tables=tables,
        notes=_notes(task),
    )


@contextmanager
def _drawing_seed(run: Run) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        seed_everything(run.seed, "report")
        yield


def _summary(student: Arm, teacher: Arm, arms: list[Arm]) -> str:
    real = next(arm for arm in arms if arm.name == "copy of the training rows")
    share = (student.cost.parameters or 0) / (teacher.cost.parameters or 1)
    return (
        f"Models trained on the synthetic rows have parity ratio {student.metrics['parity_ratio']:.2f} "
        f"(on the real training rows {real.metrics['parity_ratio']:.2f}) at balanced accuracy "
        f"{student.metrics['balanced_accuracy']:.2f} ({real.metrics['balanced_accuracy']:.2f}), "
        f"and {student.metrics['aware_parity_ratio']:.2f} ({real.metrics['aware_parity_ratio']:.2f}) where they also read "
        "the sensitive columns; "
        f"the student has {share:.0%} of the teacher's parameters."
    )


def _notes(task: Task) -> tuple[str, ...]:
    counts = torch.bincount(task.report.s, minlength=len(task.groups)).tolist()
    small = [name for name, count in zip(task.groups, counts, strict=True) if count < 50]
    notes = [
        "Parity is a property of decisions on real rows; a classifier that never says yes has parity 1 and no use.",
        "There is no differential-privacy guarantee.",
    ]
    if small:
        notes.append(f"Groups with fewer than 50 report rows are left out of ratios: {', '.join(small)}.")
    if task.codec is None:
        notes.append("The TabFairGAN-style baseline is for tables and is left out for images.")
    return tuple(notes)


def plan(config: Config) -> tuple[tuple[str, str, int, int], ...]:
    """Stage name, kind of update, updates, and network passes per row of a batch."""
    samplers = ("teacher-flow", "student-sampler", "plain-flow", "fldgm-diffusion")
    rows = [
        ("teacher", "fair", config.teacher_updates, 4),
        ("student", "student", config.student_updates, 6),
        ("VAE without fairness", "plain", config.teacher_updates, 4),
        *((name, "sampler", config.sampler_updates, 3) for name in samplers),
        ("fldgm-gan", "sampler", 2 * config.sampler_updates, 3),
    ]
    if config.data != "colour-mnist":
        rows.append(("tabfairgan", "plain", config.tabfairgan_updates, 4))
    return tuple(rows)


def seconds_per_update(config: Config, updates: int = 3) -> dict[str, float]:
    """Seconds of one update by kind, timed on the config's own rows."""
    task = open_task(config)
    teacher = new_vae(config, task, config.teacher_width, "estimate")
    student = new_vae(config, task, config.student_width, "estimate")
    flow = FlowSampler(config.latent, SAMPLER_WIDTH)
    rows = task.train.batch(config.batch)
    weighted, free = penalty(config, task, 1.0), penalty(config, task, 0.0)
    return {
        "fair": _timed(lambda: _forward(teacher, task, rows, weighted).backward(), updates),
        "plain": _timed(lambda: _forward(teacher, task, rows, free).backward(), updates),
        "student": _timed(lambda: _forward(student, task, rows, weighted).backward(), updates)
        + _timed(lambda: _forward(teacher, task, rows, free), updates),
        "sampler": _timed(lambda: flow.loss(latents(teacher, rows)).backward(), updates),
    }


def _forward(vae: FairVAE, task: Task, rows: Data, weight: Penalty) -> Tensor:
    mu, logvar = vae.encode(rows.x, rows.s, rows.y)
    output, logits = vae.decode(mu, rows.s)
    return task.syntax.nats(output, rows.x).mean() + logits.mean() + weight(mu, logvar, rows.s, rows.y)


def _timed(work: Callable[[], object], times: int) -> float:
    work()
    started = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - started) / times
