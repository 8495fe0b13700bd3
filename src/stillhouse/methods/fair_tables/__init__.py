"""Learn a fair representation of a table (or images), distil it into a small sampler, and generate fair data of any length.

Generating Synthetic Fair Syntax-agnostic Data by Learning and Distilling Fair Representation (arXiv 2408.10755).

Teacher: a VAE q(z | x, s, y), p(x | z, s), p(y | z) with the distance-covariance penalty

    V^2(Z, S) = sum_s p(s)^2 INT (q(z|s) - q(z))^2 dz,    closed form over the Gaussian posteriors,
    L_teacher = -log p(x | z, s) - label log p(y | z) + kl KL(q || N(0, I)) + beta V^2.

Student: smaller networks, L = quality ||mu_T - mu_S||_1 + utility KL(q_T || q_S) + beta' V^2(Z_S, S); its decoder is
matched to the teacher's output distributions on rows as they are generated; its sampler turns noise into its latents in one pass, matched in
distribution. A synthetic row: z from the sampler, s independent of z, x from p(x | z, s), y from p(y | z) alone.

What differs from the paper, and why: V^2 is computed in the log domain and divided by D(all, all), so beta has no
unit and posteriors cannot lower it by growing wide, and densities are compared smoothed, because narrow posteriors see
only local differences (`--penalty published` is the paper's form); numbers have their own likelihood instead of bins;
the student repeats the fairness term, so that fairness cannot drift; noise is matched to latents in distribution,
because a pointwise loss collapses to their mean; the decoder is distilled too, since in a table it is as large as the
encoder; nothing sees the rows that the result is measured on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import tyro

from stillhouse.core.errors import UserError, require
from stillhouse.core.estimate import Estimate, Stage
from stillhouse.core.options import read_options
from stillhouse.core.portable import Portable
from stillhouse.core.result import Result
from stillhouse.core.run import Run
from stillhouse.methods.fair_tables import pipeline
from stillhouse.methods.fair_tables.portable import portable_sampler
from stillhouse.methods.fair_tables.sampler import FairImages, FairTable, load_student
from stillhouse.methods.fair_tables.trial import table_trials


@dataclass(frozen=True)
class Config:
    """Options of a run."""

    data: str = "loans"
    """loans (built in, biased in a known way), adult, compas, law-school ($STILLHOUSE_DATA), colour-mnist, or a .csv or .parquet file."""
    label: str = ""
    """Label column; needed for a file."""
    sensitive: tuple[str, ...] = ()
    """Sensitive columns, one or more; several are protected jointly (every combination is a group)."""
    positive: str = ""
    """Label value of the positive class; the rarer of two by default."""
    drop: tuple[str, ...] = ()
    """Columns to leave out (identifiers, dates, free text)."""
    most_rows: int = 0
    """Use at most this many rows, drawn by seed; 0 uses all."""
    latent: int = 8
    """Dimensions of z."""
    teacher_width: int = 128
    """Hidden width of the teacher's networks."""
    student_width: int = 48
    """Hidden width of the student's networks."""
    encoder_sees: Literal["x", "x, s", "x, s, y"] = "x, s, y"
    """What the encoders read: x alone, s too (the paper's), or the label as well."""
    fairness_weight: float = 100.0
    """beta: weight of the teacher's distance-covariance penalty; 0 is a plain VAE."""
    student_fairness_weight: float = 100.0
    """beta': weight of the same penalty on the student's own latents."""
    penalty: Literal["relative", "published"] = "relative"
    """relative (no unit, smoothed) or published (the paper's, whose weight is a power of ten such as 1e7)."""
    fair_given: Literal["nothing", "label"] = "nothing"
    """z says nothing of s at all, or nothing beyond what the label says; the second keeps labels that z could not hold
    where the label nearly tells the group, and leaves it to the drawing of s to part the two."""
    smoothing: tuple[float, ...] = (0.5, 1.0)
    """Widths at which the relative penalty compares densities; 0 is no smoothing."""
    quality_weight: float = 1.0
    """Weight of the student's quality loss."""
    utility_weight: float = 1.0
    """Weight of the student's utility loss."""
    label_weight: float = 2.0
    """Weight of the label's likelihood in the teacher."""
    kl_weight: float = 0.3
    """Weight of the KL to the prior; below 1 z holds more of the row."""
    teacher_updates: int = 500
    """Updates of the teacher (and of the VAE without fairness)."""
    student_updates: int = 400
    """Updates of the student's encoder and decoder."""
    sampler_updates: int = 500
    """Updates of every latent sampler."""
    tabfairgan_updates: int = 800
    """Updates of the TabFairGAN-style baseline (three of four are its critic's)."""
    tabfairgan_fairness: float = 1.0
    """lambda: weight of the TabFairGAN-style baseline's parity term."""
    tabfairgan_rate: float = 2e-3
    """Learning rate of the TabFairGAN-style baseline."""
    batch: int = 512
    """Rows an update."""
    pairs: int = 256
    """Rows of a batch that the penalty compares with one another."""
    rate: float = 2e-3
    """Learning rate of VAEs and samplers."""
    student_rate: float = 5e-3
    """Learning rate of the student's encoder and decoder, which are small and see the teacher's answers."""
    measured_rows: int = 4000
    """Synthetic rows that every arm is measured on."""
    seed: int = 0
    """Seed of splits, weights and draws."""


PRESETS = {
    "laptop": Config(),
    "paper": Config(
        data="adult",
        teacher_width=64,
        student_width=32,
        penalty="published",
        fairness_weight=1e7,
        student_fairness_weight=1e7,
        smoothing=(0.0,),
        label_weight=1.0,
        kl_weight=1.0,
        teacher_updates=15_000,
        student_updates=15_000,
        sampler_updates=20_000,
        tabfairgan_updates=35_000,
        batch=2048,
        pairs=2048,
        rate=1e-3,
        student_rate=1e-3,
        measured_rows=29_000,
    ),
}


def distill(config: Config, run: Run) -> Result:
    """Train teacher, student and baselines, measure all of them, and save the student."""
    return pipeline.distill(config, run)


def estimate(config: Config) -> Estimate:
    """Updates, passes and seconds by stage, from a short measurement on this machine.

    Raises:
        UserError: the table cannot be used.
    """
    with torch.random.fork_rng(devices=[]):
        per_update = pipeline.seconds_per_update(config)
    return Estimate(
        tuple(
            Stage(name, updates, updates * config.batch * passes, updates * per_update[kind])
            for name, kind, updates, passes in pipeline.plan(config)
        )
    )


def load(folder: Path) -> FairTable | FairImages:
    """The saved student, ready to generate."""
    return load_student(folder)


def portable(run: Path) -> Portable:
    """The sampler, and the utility and fairness of the rows that its exported forms draw."""
    return portable_sampler(run, read_options(run, "fair_tables", Config))


def generate(
    run: tyro.conf.Positional[Path],
    out: Path,
    rows: int = 10_000,
    where: tuple[str, ...] = (),
    seed: int = 0,
) -> None:
    """Write a fair synthetic table of any length, a block of rows at a time.

    Args:
        run: folder of a finished run.
        out: the .csv or .parquet file to write.
        rows: how many.
        where: conditions such as sex=Female that every row must meet.
        seed: same seed, same rows.
    """
    from stillhouse.tables.writing import write_table

    with Run.open(run, quiet=True) as opened:
        opened.result  # noqa: B018 (raises where the run has not finished)
        table = load_student(opened.model_folder)
    if not isinstance(table, FairTable):
        raise UserError(
            f"{run} makes images, not a table", "use it from Python: stillhouse.load(folder).generate(rows)"
        )
    conditions = dict(condition(text) for text in where)
    started = time.monotonic()
    written = write_table(table.blocks(rows, seed, conditions), out)
    print(f"{written:,} rows in {time.monotonic() - started:.1f} s: {out}")


def condition(text: str) -> tuple[str, str]:
    """ "column=value" as a pair.

    Raises:
        UserError: there is no equals sign.
    """
    name, sign, value = text.partition("=")
    require(bool(sign), f"{text!r} is not a condition", "write it as column=value")
    return name, value


COMMANDS: dict[str, Callable[..., None]] = {"generate": generate}
TRIALS = table_trials(lambda run: read_options(run, "fair_tables", Config))
