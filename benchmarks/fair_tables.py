"""Evidence for fair synthetic tables: every arm of a run, several data sets and seeds, and the ablations.

    python benchmarks/fair_tables.py              # everything within the budget that the committed results had
    python benchmarks/fair_tables.py --seeds 5 --part all

Pieces are kept in scratch/, a second start goes on where the first stopped. Needs $STILLHOUSE_DATA for the public
tables (adult, COMPAS, law school); parts whose data are absent are left out and said so.
"""

from __future__ import annotations

import argparse
import dataclasses
import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cattrs
import numpy as np
import torch

from stillhouse.core.errors import UserError
from stillhouse.core.evidence import Bench, Claim, ClaimedArm, judge, print_estimate, ratio_of_means
from stillhouse.core.result import Arm
from stillhouse.core.run import Run
from stillhouse.methods import fair_tables
from stillhouse.methods.fair_tables import pipeline
from stillhouse.methods.fair_tables.evaluation import measure

BASE = fair_tables.PRESETS["laptop"]
SETS: dict[str, dict[str, Any]] = {
    "adult gender": {"data": "adult", "sensitive": ("sex",)},
    "adult race": {"data": "adult", "sensitive": ("race",)},
    "adult both": {"data": "adult", "sensitive": ("sex", "race")},
    "compas": {"data": "compas"},
    "law school": {"data": "law-school"},
    "colour-mnist": {"data": "colour-mnist", "latent": 16},
}
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
COMMAND = "python benchmarks/fair_tables.py"


def whole_run(options: dict[str, Any], seed: int) -> dict[str, Any]:
    """All arms of one run, its wall-clock seconds and the process's peak memory."""
    config = dataclasses.replace(BASE, **options, seed=seed)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        with Run.create("fair_tables", cattrs.unstructure(config), out=Path(folder) / "run", quiet=True) as run:
            result = fair_tables.distill(config, run)
    return {
        "arms": cattrs.unstructure(result.arms),
        "seconds": time.monotonic() - started,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def ablated_run(options: dict[str, Any], seed: int) -> dict[str, Any]:
    """The student alone under changed options: teacher, student, its metrics."""
    config = dataclasses.replace(BASE, **options, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        with Run.create("fair_tables", cattrs.unstructure(config), out=Path(folder) / "run", quiet=True) as run:
            task = pipeline.open_task(config)
            teacher, _ = pipeline.teach(dataclasses.replace(config, sampler_updates=1), task, run)
            arm = measure(pipeline.distil(config, task, teacher, run)[1], task, config.measured_rows, run)
    return cattrs.unstructure(arm)


def generation_piece() -> dict[str, Any]:
    """Seconds and peak memory of generating tables of growing length from an adult student, streamed to CSV."""
    from stillhouse.tables.writing import write_table

    config = dataclasses.replace(
        BASE, data="adult", teacher_updates=100, student_updates=100, sampler_updates=50, tabfairgan_updates=5
    )
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        with Run.create("fair_tables", cattrs.unstructure(config), out=Path(folder) / "run", quiet=True) as run:
            task = pipeline.open_task(config)
            teacher, _ = pipeline.teach(config, task, run)
            student, _ = pipeline.distil(config, task, teacher, run)
        table = fair_tables.FairTable(student, task.codec)  # type: ignore[arg-type]
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for rows in (20_000, 200_000, 1_000_000):
            started = time.process_time()
            write_table(table.blocks(rows), Path(folder) / "t.csv")
            seconds[str(rows)] = time.process_time() - started
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"cpu_seconds": seconds, "grown_bytes": grown * 1024}


def proxy_piece(seed: int) -> dict[str, float]:
    """A column that equals the group for 95 of 100 rows: its link to the label, real and synthetic.

    S_proxy = S with probability 0.95, else the other group; measured on COMPAS by Cramer's V with the label.
    """
    from stillhouse.methods.fair_tables.task import table_task
    from stillhouse.tables.datasets import open_source
    from stillhouse.tables.fairness import association

    source = open_source("compas")
    flip = np.random.default_rng(seed).random(len(source.table)) < 0.05
    own = (source.table["race"] == "Caucasian").to_numpy() ^ flip
    proxied = dataclasses.replace(source, table=source.table.assign(proxy=np.where(own, "p", "q")))
    config = dataclasses.replace(BASE, data="compas", seed=seed)
    task = table_task(proxied, "compas with a proxy", 0, seed)
    assert task.codec is not None
    with tempfile.TemporaryDirectory() as folder:
        with Run.create("fair_tables", cattrs.unstructure(config), out=Path(folder) / "run", quiet=True) as run:
            teacher, _ = pipeline.teach(dataclasses.replace(config, sampler_updates=1), task, run)
            student, _ = pipeline.distil(config, task, teacher, run)
            made = fair_tables.FairTable(student, task.codec).generate(10_000, seed)

    def link(table: Any) -> float:
        return association((table["proxy"] == "p").astype(int).to_numpy(), table["two_year_recid"].to_numpy())

    return {"real": link(proxied.table), "synthetic": link(made)}


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


def run_sets(bench: Bench, names: Sequence[str], seeds: int) -> list[Claim]:
    """Whole runs; a data set whose files are absent is left out."""
    claims = []
    for name in names:
        runs = []
        for seed in range(seeds):
            key = {"piece": "run", "set": name, "seed": seed, "base": BASE, "options": SETS[name]}
            try:
                runs.append(bench.piece(key, lambda name=name, seed=seed: whole_run(SETS[name], seed)))
            except UserError as error:
                print(f"{name}: left out ({error})", flush=True)
                break
            bench.arms += [ClaimedArm(name, cattrs.structure(raw, Arm)) for raw in runs[-1]["arms"]]
            print(f"{name} seed {seed}: {runs[-1]['seconds']:.0f} s, peak {runs[-1]['peak_bytes'] / 1e6:.0f} MB", flush=True)
        claims += claims_for(name, runs) if runs else []
        bench.write(claims)
    return claims


def run_ablations(bench: Bench, seeds: int, options: dict[str, Any]) -> None:
    """Each ablation on the same rows and seeds."""
    for name, changed in ABLATIONS.items():
        for seed in range(seeds):
            both = {**options, **changed}
            key = {"piece": "ablation", "name": name, "seed": seed, "base": BASE, "options": both}
            raw = bench.piece(key, lambda both=both, seed=seed: ablated_run(both, seed))
            arm = dataclasses.replace(cattrs.structure(raw, Arm), name=name)
            bench.arms.append(ClaimedArm("ablations", arm))
            print(f"ablation {name} seed {seed}: {arm.metrics['fair_utility']:.3f}", flush=True)


def main() -> None:
    """Carry out the parts that were asked for and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ablation-seeds", type=int, default=2)
    parser.add_argument("--sets", nargs="*", default=list(SETS), choices=list(SETS))
    parser.add_argument("--part", choices=["all", "runs", "ablations"], default="all")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench("fair_tables", Path(__file__).parent)
    pieces = len(chosen.sets) * chosen.seeds + len(ABLATIONS) * chosen.ablation_seeds
    print_estimate("fair tables", 80.0 * len(chosen.sets) * chosen.seeds + 40.0 * len(ABLATIONS) * chosen.ablation_seeds, pieces)
    claims = run_sets(bench, chosen.sets, chosen.seeds)
    if chosen.part != "runs":
        run_ablations(bench, chosen.ablation_seeds, {"data": "adult", "most_rows": 12_000})
    print(bench.write(claims))


if __name__ == "__main__":
    main()
