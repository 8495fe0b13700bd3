"""The pieces of the fair_tables benchmark: whole runs, ablations, the proxy test, sizes. Each gives JSON values."""

from __future__ import annotations

import dataclasses
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cattrs
import numpy as np
import pandas as pd
import torch
from torch import Tensor

from stillhouse.core.run import Run
from stillhouse.methods import fair_tables
from stillhouse.methods.fair_tables import pipeline, stages
from stillhouse.methods.fair_tables.evaluation import measure
from stillhouse.methods.fair_tables.networks import FairVAE, Syntax
from stillhouse.methods.fair_tables.sampler import FairTable
from stillhouse.methods.fair_tables.stages import posteriors
from stillhouse.methods.fair_tables.table_syntax import label_divergence
from stillhouse.methods.fair_tables.task import Task, table_task
from stillhouse.tables.codec import TableCodec
from stillhouse.tables.datasets import open_source
from stillhouse.tables.fairness import association
from stillhouse.tables.writing import write_table

BASE = fair_tables.PRESETS["laptop"]
OF_STUDENT: dict[str, dict[str, Any]] = {
    "student": {},
    "no quality loss": {"quality_weight": 0.0},
    "no utility loss": {"utility_weight": 0.0},
    "no student fairness": {"student_fairness_weight": 0.0},
    "pairs as encoded": {},
    "student reads x": {"encoder_sees": "x"},
    "width 12": {"student_width": 12},
    "width 24": {"student_width": 24},
    "width 96": {"student_width": 96},
}
"""Ablations that share the teacher of their seed; `as_encoded` stands in for `as_generated` where the name says so."""
OF_TEACHER: dict[str, dict[str, Any]] = {
    "beta 0": {"fairness_weight": 0.0, "student_fairness_weight": 0.0},
    "beta 10": {"fairness_weight": 10.0, "student_fairness_weight": 10.0},
    "beta 1000": {"fairness_weight": 1000.0, "student_fairness_weight": 1000.0},
    "encoder of x and s": {"encoder_sees": "x, s"},
    "encoder of x": {"encoder_sees": "x"},
    "published penalty": {
        "penalty": "published",
        "fairness_weight": 1e7,
        "student_fairness_weight": 1e7,
        "smoothing": (0.0,),
    },
}
LENGTHS = (50_000, 200_000, 500_000, 1_000_000)
PREPARED = (6_000, 12_000, 24_000, 48_842)


@contextmanager
def scratch_run(config: fair_tables.Config) -> Iterator[Run]:
    """A run folder that is thrown away afterwards."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Run.create("fair_tables", cattrs.unstructure(config), out=Path(folder) / "run", quiet=True) as run,
    ):
        yield run


def peak_bytes() -> int:
    """Most memory this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def whole_run(options: dict[str, Any], seed: int) -> dict[str, Any]:
    """All arms of one run, its seconds, and the process's peak memory so far."""
    config = dataclasses.replace(BASE, **options, seed=seed)
    wall, cpu = time.monotonic(), time.process_time()
    with scratch_run(config) as run:
        result = fair_tables.distill(config, run)
    return {
        "arms": cattrs.unstructure(result.arms),
        "seconds": time.monotonic() - wall,
        "cpu_seconds": time.process_time() - cpu,
        "peak_bytes": peak_bytes(),
    }


def student_ablations(options: dict[str, Any], seed: int) -> dict[str, Any]:
    """Students of one teacher, by the name of what was changed."""
    config = dataclasses.replace(BASE, **options, seed=seed)
    with scratch_run(config) as run:
        task = pipeline.open_task(config)
        teacher, _ = pipeline.teach(dataclasses.replace(config, sampler_updates=1), task, run)
    found = {}
    for name, changed in OF_STUDENT.items():
        changed_config = dataclasses.replace(config, **changed)
        pairs = as_encoded if name == "pairs as encoded" else stages.as_generated
        with scratch_run(changed_config) as run, patch.object(stages, "as_generated", pairs):
            _, maker = pipeline.distil(changed_config, task, teacher, run)
            found[name] = cattrs.unstructure(measure(maker, task, config.measured_rows, run))
    return found


def as_encoded(student: FairVAE, teacher: FairVAE, syntax: Syntax, z: Tensor, z_t: Tensor, s: Tensor) -> Tensor:
    """`as_generated` on the rows' own groups: the student sees z and s only as they occur together."""
    with torch.no_grad():
        output_t, logits_t = teacher.decode(z_t, s)
    output, logits = student.decode(z, s)
    return (syntax.divergence(output_t, output) + label_divergence(logits_t, logits)).mean()


def teacher_ablation(options: dict[str, Any], seed: int) -> dict[str, Any]:
    """A student whose teacher was trained under changed options."""
    config = dataclasses.replace(BASE, **options, seed=seed)
    with scratch_run(config) as run:
        task, table = trained(config, run)
        return cattrs.unstructure(measure(table[1], task, config.measured_rows, run))


def trained(config: fair_tables.Config, run: Run, task: Task | None = None) -> tuple[Task, Any]:
    """Task, and student with its arm, without any baseline."""
    task = task or pipeline.open_task(config)
    teacher, _ = pipeline.teach(dataclasses.replace(config, sampler_updates=1), task, run)
    return task, pipeline.distil(config, task, teacher, run)


def generation_sizes(data: str) -> dict[str, Any]:
    """CPU seconds and growth of memory while tables of growing length are streamed to CSV."""
    short = {"teacher_updates": 50, "student_updates": 50, "sampler_updates": 50}
    config = dataclasses.replace(BASE, data=data, **short)
    seconds = {}
    with scratch_run(config) as run:
        task, (student, _) = trained(config, run)
        table = FairTable(student, codec_of(task))
        write_table(table.blocks(20_000), run.folder / "t.csv")
        before = peak_bytes()
        for rows in LENGTHS:
            started = time.process_time()
            write_table(table.blocks(rows), run.folder / "t.csv")
            seconds[str(rows)] = time.process_time() - started
    return {"cpu_seconds": seconds, "grown_bytes": peak_bytes() - before}


def preparation_sizes(data: str) -> dict[str, float]:
    """CPU seconds of what grows with the table: typing, splitting, encoding, and encoding its latents (training does not)."""
    source, found = open_source(data), {}
    for rows in PREPARED:
        started = time.process_time()
        task = table_task(source, data, rows, 0)
        posteriors(pipeline.new_vae(BASE, task, BASE.teacher_width, "teacher"), task.train)
        found[str(rows)] = time.process_time() - started
    return found


def proxy_test(seed: int) -> dict[str, float]:
    """A column that equals the group for 95 of 100 rows: its link to the label, real and synthetic (Cramer's V)."""
    source = open_source("compas")
    flip = np.random.default_rng(seed).random(len(source.table)) < 0.05
    own = (source.table["race"] == "Caucasian").to_numpy() ^ flip
    proxied = dataclasses.replace(source, table=source.table.assign(proxy=np.where(own, "p", "q")))
    config = dataclasses.replace(BASE, data="compas", seed=seed)
    task = table_task(proxied, "compas with a proxy", 0, seed)
    with scratch_run(config) as run:
        _, (student, _) = trained(config, run, task)
        made = FairTable(student, codec_of(task)).generate(10_000, seed)
    return {"real": proxy_link(proxied.table), "synthetic": proxy_link(made)}


def proxy_link(table: pd.DataFrame) -> float:
    """Cramer's V of the proxy and the label."""
    return association((table["proxy"] == "p").astype(int).to_numpy(), table["two_year_recid"].to_numpy())


def codec_of(task: Task) -> TableCodec:
    """The task's codec."""
    assert task.codec is not None
    return task.codec
