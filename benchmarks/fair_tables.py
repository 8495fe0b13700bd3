"""Evidence for fair synthetic tables: every arm of a run, several data sets and seeds, and the ablations.

    python benchmarks/fair_tables.py                                   # the whole protocol: five seeds, all data sets
    python benchmarks/fair_tables.py --seeds 3 --sets compas           # a part of it

Pieces are kept in scratch/, a second start goes on where the first stopped. Needs $STILLHOUSE_DATA for the public
tables (adult, COMPAS, law school); parts whose data are absent are left out and said so.
"""

from __future__ import annotations

import argparse
import dataclasses
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cattrs
import matplotlib
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from stillhouse.core.errors import UserError
from stillhouse.core.evidence import (
    Bench,
    Claim,
    ClaimedArm,
    judge,
    mean_with_interval,
    print_estimate,
    ratio_of_means,
)
from stillhouse.core.result import Arm
from stillhouse.core.run import Run
from stillhouse.methods import fair_tables
from stillhouse.methods.fair_tables import pipeline
from stillhouse.methods.fair_tables.evaluation import Maker, measure
from stillhouse.methods.fair_tables.sampler import FairTable, Student
from stillhouse.methods.fair_tables.task import Task, table_task
from stillhouse.tables.codec import TableCodec
from stillhouse.tables.datasets import open_source
from stillhouse.tables.fairness import association
from stillhouse.tables.writing import write_table

BASE = fair_tables.PRESETS["laptop"]
SETS: dict[str, dict[str, Any]] = {
    "compas": {"data": "compas"},
    "adult gender": {"data": "adult", "sensitive": ("sex",)},
    "colour-mnist": {"data": "colour-mnist", "latent": 16},
    "law school": {"data": "law-school"},
    "adult race": {"data": "adult", "sensitive": ("race",)},
    "adult both": {"data": "adult", "sensitive": ("sex", "race")},
}
"""Cheap ones first, so that an early stop leaves whole rows."""
FAIR_BASELINES = ("FLDGM GAN", "FLDGM diffusion", "TabFairGAN-style")
ABLATIONS: dict[str, dict[str, Any]] = {
    "student": {},
    "no quality loss": {"quality_weight": 0.0},
    "no utility loss": {"utility_weight": 0.0},
    "no student fairness": {"student_fairness_weight": 0.0},
    "width 16": {"student_width": 16},
    "width 96": {"student_width": 96},
    "beta 0": {"fairness_weight": 0.0, "student_fairness_weight": 0.0},
    "beta 10": {"fairness_weight": 10.0, "student_fairness_weight": 10.0},
    "beta 1000": {"fairness_weight": 1000.0, "student_fairness_weight": 1000.0},
    "no smoothing": {"smoothing": (0.0,)},
}
LENGTHS = (20_000, 200_000, 1_000_000)
COMMAND = "python benchmarks/fair_tables.py"


@contextmanager
def scratch_run(config: fair_tables.Config) -> Iterator[Run]:
    """A run folder that is thrown away afterwards."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Run.create("fair_tables", cattrs.unstructure(config), out=Path(folder) / "run", quiet=True) as run,
    ):
        yield run


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


def peak_bytes() -> int:
    """Most memory this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def ablated_run(options: dict[str, Any], seed: int) -> dict[str, Any]:
    """The student alone under changed options."""
    config = dataclasses.replace(BASE, **options, seed=seed)
    with scratch_run(config) as run:
        task = pipeline.open_task(config)
        maker = student_of(config, task, run)[1]
        return cattrs.unstructure(measure(maker, task, config.measured_rows, run))


def student_of(config: fair_tables.Config, task: Task, run: Run) -> tuple[Student, Maker]:
    """Teacher and student without any baseline."""
    teacher, _ = pipeline.teach(dataclasses.replace(config, sampler_updates=1), task, run)
    return pipeline.distil(config, task, teacher, run)


def generation_piece(data: str) -> dict[str, Any]:
    """CPU seconds and growth of memory while tables of growing length are streamed to CSV."""
    short = {"teacher_updates": 100, "student_updates": 100, "sampler_updates": 50}
    config = dataclasses.replace(BASE, data=data, **short)
    seconds = {}
    with scratch_run(config) as run:
        task = pipeline.open_task(config)
        table = FairTable(student_of(config, task, run)[0], as_table(task))
        write_table(table.blocks(20_000), run.folder / "t.csv")
        before = peak_bytes()
        for rows in LENGTHS:
            started = time.process_time()
            write_table(table.blocks(rows), run.folder / "t.csv")
            seconds[str(rows)] = time.process_time() - started
    return {"cpu_seconds": seconds, "grown_bytes": peak_bytes() - before}


def proxy_piece(seed: int) -> dict[str, float]:
    """A column that equals the group for 95 of 100 rows: its link to the label, real and synthetic (Cramer's V)."""
    source = open_source("compas")
    flip = np.random.default_rng(seed).random(len(source.table)) < 0.05
    own = (source.table["race"] == "Caucasian").to_numpy() ^ flip
    proxied = dataclasses.replace(source, table=source.table.assign(proxy=np.where(own, "p", "q")))
    config = dataclasses.replace(BASE, data="compas", seed=seed)
    task = table_task(proxied, "compas with a proxy", 0, seed)
    with scratch_run(config) as run:
        made = FairTable(student_of(config, task, run)[0], as_table(task)).generate(10_000, seed)
    return {"real": proxy_link(proxied.table), "synthetic": proxy_link(made)}


def proxy_link(table: pd.DataFrame) -> float:
    """Cramer's V of the proxy and the label."""
    return association((table["proxy"] == "p").astype(int).to_numpy(), table["two_year_recid"].to_numpy())


def as_table(task: Task) -> TableCodec:
    """The task's codec."""
    assert task.codec is not None
    return task.codec


def quality_of(arm: Arm) -> float:
    """Mean of alpha-precision, beta-recall, coverage and density (at most 1)."""
    m = arm.metrics
    return float(np.mean([m["alpha_precision"], m["beta_recall"], m["coverage"], min(1.0, m["density"])]))


def utility_of(arm: Arm) -> float:
    """Mean of balanced accuracy, AUROC and F1 of models trained on the rows."""
    return float(np.mean([arm.metrics[key] for key in ("balanced_accuracy", "auroc", "f1")]))


def best_fair_baseline(arms: dict[str, list[Arm]]) -> str:
    """The fair baseline with the greatest mean fair utility."""
    found = [name for name in FAIR_BASELINES if name in arms]
    return max(found, key=lambda name: np.mean([arm.metrics["fair_utility"] for arm in arms[name]]))


def claims_for(name: str, runs: list[dict[str, Any]]) -> list[Claim]:
    """The paper's three ratios against the best fair baseline, and the student's size and speed."""
    arms: dict[str, list[Arm]] = {}
    for run in runs:
        for raw in run["arms"]:
            arms.setdefault(raw["name"], []).append(cattrs.structure(raw, Arm))
    best, ours, teacher = best_fair_baseline(arms), arms["student"], arms["teacher"]
    rival = arms[best]
    gap = np.mean([a.metrics["balanced_accuracy"] for a in ours]) - np.mean(
        [a.metrics["balanced_accuracy"] for a in rival]
    )
    note = f"best fair baseline: {best}; balanced accuracy {gap:+.3f} against it"

    def claim(id: str, statement: str, paper: float | None, top: Sequence[float], bottom: Sequence[float], bound: str):
        ratio, interval = ratio_of_means(top, bottom)
        verdict = judge(interval, bound)
        return Claim(
            f"{id} ({name})", statement, paper, ratio, interval, bound, len(runs), verdict, name, COMMAND, note
        )

    def of(key: str, some: list[Arm]) -> list[float]:
        return [arm.metrics[key] for arm in some]

    def speed(some: list[Arm]) -> list[float]:
        return [min(arm.cost.latency_seconds.values()) for arm in some]

    return [
        claim("fairness", "Parity ratio 5 % above the best fair baseline", 1.05, of("parity_ratio", ours), of("parity_ratio", rival), ">= 1.05"),
        claim("quality", "Sample quality 5 % above the best fair baseline", 1.05, list(map(quality_of, ours)), list(map(quality_of, rival)), ">= 1.05"),
        claim("utility", "Utility 10 % above the best fair baseline", 1.10, list(map(utility_of, ours)), list(map(utility_of, rival)), ">= 1.1"),
        claim("equal accuracy", "Balanced accuracy no lower than the best fair baseline's", None, of("balanced_accuracy", ours), of("balanced_accuracy", rival), ">= 1.0"),
        claim("size", "At most a quarter of the teacher's parameters", None, [float(a.cost.parameters or 0) for a in ours], [float(a.cost.parameters or 1) for a in teacher], "<= 0.25"),
        claim("speed", "Faster to sample than the teacher (seconds a row)", None, speed(ours), speed(teacher), "<= 1.0"),
    ]  # fmt: skip


def cost_claims(name: str, runs: list[dict[str, Any]]) -> list[Claim]:
    """Time and memory of whole runs."""

    def claim(id: str, statement: str, values: list[float], bound: str) -> Claim:
        mean, interval = mean_with_interval(values)
        return Claim(
            f"{id} ({name})", statement, None, mean, interval, bound, len(runs), judge(interval, bound), name, COMMAND
        )

    return [
        claim(
            "minutes", "CPU minutes of a whole run, baselines included", [r["cpu_seconds"] / 60 for r in runs], "<= 10"
        ),
        claim("memory", "Peak memory of a whole run in GB", [r["peak_bytes"] / 1e9 for r in runs], "<= 2"),
    ]


def run_sets(bench: Bench, names: Sequence[str], seeds: int, claims: list[Claim]) -> None:
    """Whole runs; a data set whose files are absent is left out."""
    for name in names:
        runs = list(set_runs(bench, name, seeds))
        if runs:
            claims += claims_for(name, runs) + cost_claims(name, runs)
        bench.write(claims)


def set_runs(bench: Bench, name: str, seeds: int) -> Iterator[dict[str, Any]]:
    """The whole runs of one data set."""
    for seed in range(seeds):
        key = {"piece": "run", "set": name, "seed": seed, "base": BASE, "options": SETS[name]}
        try:
            run = bench.piece(key, lambda seed=seed: whole_run(SETS[name], seed))
        except UserError as error:
            print(f"{name}: left out ({error})", flush=True)
            return
        bench.arms += [ClaimedArm(name, cattrs.structure(raw, Arm)) for raw in run["arms"]]
        print(f"{name} seed {seed}: {run['cpu_seconds']:.0f} CPU s, peak {run['peak_bytes'] / 1e6:.0f} MB", flush=True)
        yield run


def run_ablations(bench: Bench, seeds: int, options: dict[str, Any]) -> None:
    """Each ablation on the same rows and seeds."""
    for seed in range(seeds):
        for name, changed in ABLATIONS.items():
            both = {**options, **changed}
            key = {"piece": "ablation", "name": name, "seed": seed, "base": BASE, "options": both}
            raw = bench.piece(key, lambda both=both, seed=seed: ablated_run(both, seed))
            arm = dataclasses.replace(cattrs.structure(raw, Arm), name=name)
            bench.arms.append(ClaimedArm("ablations", arm))
            print(f"ablation {name} seed {seed}: {arm.metrics['fair_utility']:.3f}", flush=True)


def proxy_claim(bench: Bench, seeds: int) -> Claim:
    """The proxy-attribute test."""
    key = {"piece": "proxy", "base": BASE}
    found = [bench.piece({**key, "seed": seed}, lambda seed=seed: proxy_piece(seed)) for seed in range(seeds)]
    ratio, interval = ratio_of_means([f["synthetic"] for f in found], [f["real"] for f in found])
    statement = "Link of a 95 % proxy to the label, synthetic over real (Cramer's V)"
    verdict = judge(interval, "<= 0.5")
    return Claim("proxy (compas)", statement, None, ratio, interval, "<= 0.5", seeds, verdict, "compas", COMMAND)


def generation_claims(bench: Bench) -> list[Claim]:
    """A million rows, the memory they need, and whether cost grows with rows alone."""
    found = bench.piece({"piece": "generation", "base": BASE}, lambda: generation_piece("adult"))
    seconds = [found["cpu_seconds"][str(rows)] for rows in LENGTHS]
    measured = (
        ("million rows", "CPU seconds to stream a million rows to CSV", seconds[2], "<= 120"),
        ("streaming", "Memory that it grows by, in MB", found["grown_bytes"] / 1e6, "<= 100"),
        ("linear", "Cost of five times the rows over five times the cost", seconds[2] / (5 * seconds[1]), "<= 1.2"),
    )
    return [
        Claim(
            f"{id} (adult)", text, None, value, (value, value), bound, 1, judge((value, value), bound), "adult", COMMAND
        )
        for id, text, value, bound in measured
    ]


def front(arms: Sequence[ClaimedArm], path: Path) -> None:
    """Accuracy against parity: mean of every arm by data set, the beta sweep among the ablations."""
    matplotlib.rcParams["svg.hashsalt"] = "stillhouse"
    names = sorted({claimed.claim for claimed in arms})
    figure = Figure(figsize=(5 * min(3, len(names)), 4 * -(-len(names) // 3)), layout="constrained")
    panels = figure.subplots(-(-len(names) // 3), min(3, len(names)), squeeze=False).ravel()
    for axes, name in zip(panels, names, strict=False):
        by_name: dict[str, list[Arm]] = {}
        for claimed in arms:
            if claimed.claim == name:
                by_name.setdefault(claimed.arm.name, []).append(claimed.arm)
        for label, some in by_name.items():
            x, y = (float(np.mean([a.metrics[k] for a in some])) for k in ("parity_ratio", "balanced_accuracy"))
            axes.plot(x, y, "o", color="#c0562b" if label == "student" else "#4c566a")
            axes.annotate(label, (x, y), fontsize=6, textcoords="offset points", xytext=(3, 3))
        axes.set(title=name, xlabel="parity ratio", ylabel="balanced accuracy")
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Carry out the parts that were asked for and write the result file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--ablation-seeds", type=int, default=3)
    parser.add_argument("--sets", nargs="*", default=list(SETS), choices=list(SETS))
    parser.add_argument("--parts", nargs="*", default=["runs", "proxy", "generation", "ablations"])
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    bench, claims = Bench("fair_tables", Path(__file__).parent), []
    pieces = len(chosen.sets) * chosen.seeds + len(ABLATIONS) * chosen.ablation_seeds
    print_estimate("fair tables", 150.0 * len(chosen.sets) * chosen.seeds + 30.0 * len(ABLATIONS) * 3, pieces)
    if "runs" in chosen.parts:
        run_sets(bench, chosen.sets, chosen.seeds, claims)
    if "proxy" in chosen.parts:
        claims.append(proxy_claim(bench, chosen.ablation_seeds))
    if "generation" in chosen.parts:
        claims += generation_claims(bench)
    bench.write(claims)
    if "ablations" in chosen.parts:
        run_ablations(bench, chosen.ablation_seeds, {"data": "compas"})
    print(bench.write(claims))
    front(bench.arms, bench.results_file.with_name("fair_tables_front.svg"))


if __name__ == "__main__":
    main()
