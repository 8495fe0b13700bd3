"""The result of a run in tables, curves and words."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import torch
from matplotlib.figure import Figure

from stillhouse.core.result import Arm, Curve, Metric, Picture, Table
from stillhouse.core.run import Run
from stillhouse.corpus.code_retrieval import SearchTask
from stillhouse.corpus.code_sets import CodeSet, documented
from stillhouse.encoders.losses import collapse
from stillhouse.methods.modular_encoder.arms import Bench, best_of
from stillhouse.methods.modular_encoder.model import CodeEncoder
from stillhouse.methods.modular_encoder.search import model_metrics

matplotlib.rcParams["svg.hashsalt"] = "stillhouse"
COLOURS = ("#c0562b", "#2b6cc0", "#3c8d4f", "#8a5fb0", "#b0892b", "#4c566a")


def metrics_of(tasks: Sequence[SearchTask], select: SearchTask) -> tuple[Metric, ...]:
    """MRR and nDCG of each task, then the select split's."""
    found = []
    for task in tasks:
        what = (
            f"{len(task)} {'descriptions' if task.kind == 'text' else 'functions'} over a pool of {len(task.codes):,}"
        )
        found.append(
            Metric(f"{task.name}_mrr", f"{task.name}: MRR", "higher", f"Mean of 1 / rank of the right code; {what}.")
        )
        found.append(Metric(f"{task.name}_ndcg", f"{task.name}: nDCG@10", "higher", f"Of the first ten; {what}."))
    found.append(
        Metric(
            "select_mrr",
            "select: MRR",
            "higher",
            f"The recommended exit is chosen by this; {len(select)} descriptions.",
        )
    )
    return tuple(found)


def exit_table(model: CodeEncoder, exits: Sequence[Arm], bench: Bench) -> Table:
    """What to pay for at deployment."""
    task = bench.tasks[0]
    key = f"{task.name}_mrr"
    best = best_of(exits, "select_mrr").metrics["select_mrr"]
    rows: list[tuple[str | float, ...]] = []
    for i, arm in zip(model.exits, exits, strict=True):
        cosine, rank = spread(model, task, i)
        share = arm.metrics["select_mrr"] / best if best else 0.0
        rows.append(
            (
                f"{i}{' (recommended)' if i == model.settings.recommended else ''}",
                arm.cost.parameters or 0,
                layer_weights(model, i),
                round(1000 * arm.cost.latency_seconds["batch 1"], 2),
                round(1000 * arm.cost.latency_seconds["batch 64"], 2),
                round(arm.metrics["select_mrr"], 3),
                f"{share:.0%}",
                round(arm.metrics[key], 3),
                round(cosine, 3),
                round(rank, 1),
            )
        )
    columns = (
        "exit",
        "parameters",
        "multiplications a token",
        "ms a description",
        "ms a function",
        "select MRR",
        "of the best",
        f"{task.name} MRR",
        "mean cosine",
        "effective rank",
    )
    caption = (
        f"Recommended: the shallowest exit with {model.settings.keep:.0%} of the best select MRR; --exit auto takes it. Exits have different spaces: "
        f"an index is searched with the exit that made it. A vector takes {4 * model.encoder.dimensions} bytes at every exit. A mean cosine near 1 with a "
        "rank near 1 would be a collapsed exit."
    )
    return Table("Which exit?", columns, tuple(rows), caption)


def layer_weights(model: CodeEncoder, at: int) -> int:
    """Weights of the layers up to an exit: one multiplication each a token, attention scores not counted."""
    return sum(p.numel() for layer in list(model.encoder.layers)[:at] for p in layer.parameters())


def spread(model: CodeEncoder, task: SearchTask, at: int) -> tuple[float, float]:
    """Mean cosine and effective rank of the embeddings of 128 codes."""
    codes = model.tokenized(task.codes[:128], "code", task.code_languages[:128])
    return collapse(torch.from_numpy(model.encode_exits(codes, (at,))[at]))


def prefix_table(model: CodeEncoder, bench: Bench, sizes: Sequence[int]) -> Table:
    """MRR with the first numbers of the embeddings only."""
    task, rows = bench.tasks[0], []
    for size in (model.encoder.dimensions, *sizes):

        def compute(size: int = size) -> dict[str, float]:
            return {str(i): found["mrr"] for i, found in model_metrics(model, task, model.exits, size).items()}

        found = bench.run.kept(f"prefix {size}", compute)
        rows.append((size, *(round(found[str(i)], 3) for i in model.exits)))
    return Table(
        "Shorter embeddings",
        ("dimensions", *(f"exit {i}" for i in model.exits)),
        tuple(rows),
        f"{task.name} MRR; Matryoshka training.",
    )


def corpus_table(code: CodeSet) -> Table:
    """What was read."""
    rows: list[tuple[str | float, ...]] = []
    for name, part in (("train", code.train), ("select", code.select), ("report", code.report)):
        languages = ", ".join(sorted({f.language for f in part}))
        rows.append((name, len(part), len(documented(part)), len({f.repository for f in part}), languages))
    caption = f"{code.duplicates:,} near-duplicates were left out. Skipped: {code.skipped or 'nothing'}."
    return Table(
        "What was read", ("split", "functions", "with documentation", "repositories", "languages"), tuple(rows), caption
    )


def curves_of(run: Run) -> tuple[Curve, ...]:
    """Select MRR of every exit along fine-tuning."""
    points: dict[int, list[dict[str, float]]] = {}
    for line in run.records(stage="fine-tuning"):
        if "exit" in line:
            points.setdefault(line["exit"], []).append({"updates": line["update"], "value": line["select"]})
    return tuple(Curve(f"exit {i}", "select_mrr", tuple(rows)) for i, rows in points.items())


def exits_picture(exits: Sequence[Arm], others: Sequence[Arm], tasks: Sequence[SearchTask], run: Run) -> Picture:
    """MRR by exit, a line a task, with BM25 beside it."""
    figure = Figure(figsize=(7, 3.8), layout="constrained")
    axes = figure.add_subplot()
    depths = [int(arm.name.split()[1]) for arm in exits]
    plain = next((arm for arm in others if arm.name == "BM25"), None)
    for colour, task in zip(COLOURS * 3, tasks, strict=False):
        key = f"{task.name}_mrr"
        axes.plot(depths, [arm.metrics[key] for arm in exits], "o-", color=colour, label=task.name, lw=1.4, ms=4)
        if plain is not None:
            axes.axhline(plain.metrics[key], color=colour, ls=":", lw=1)
    axes.set_xticks(depths)
    axes.set_ylim(0, 1)
    axes.set_xlabel("exit (layers)")
    axes.set_ylabel("MRR, report split")
    axes.legend(fontsize=7, frameon=False)
    figure.savefig(run.picture_file("exits.svg"), format="svg", metadata={"Date": None})
    return Picture(
        "Quality by exit",
        "pictures/exits.svg",
        f"MRR of {len(exits)} exits on {len(tasks)} tasks",
        "Dotted: BM25 on the same task.",
    )


def sentence(model: CodeEncoder, exits: Sequence[Arm], others: Sequence[Arm], bench: Bench) -> str:
    """The numbers that matter."""
    key = f"{bench.tasks[0].name}_mrr"
    chosen = next(arm for arm in exits if arm.name == f"exit {model.settings.recommended}")
    best, deepest = best_of(exits, "select_mrr"), exits[-1]
    speed = deepest.cost.latency_seconds["batch 64"] / chosen.cost.latency_seconds["batch 64"]
    words = (
        f"The best of {len(exits)} exits by the select split is {best.name} ({bench.tasks[0].name} MRR {best.metrics[key]:.3f}); {chosen.name} is recommended, with "
        f"{chosen.metrics[key]:.3f} at {speed:.1f} times the deepest exit's speed"
    )
    beside = [
        f"{arm.name} {arm.metrics[key]:.3f}" for arm in others if arm.role == "baseline" and "," not in arm.name[:5]
    ]
    return f"{words}; {', '.join(beside[:2])}." if beside else f"{words}."


def notes(bench: Bench, code: CodeSet, trained_windows: bool) -> tuple[str, ...]:
    """Caveats."""
    config, task = bench.config, bench.tasks[0]
    found = [
        f"One seed, {len(task)} queries: MRRs that differ by less than {2 * 0.45 / max(1, len(task)) ** 0.5:.3f} do not differ.",
        "Documentation is taken out of the code that is searched. Functions of one file are in one split, repositories are in all three.",
    ]
    if "rewrites" in config.tasks:
        found.append(
            "Rewrites are made by rules (renamed names, loops and branches turned round), which is easier than translation."
        )
    if config.contextual and config.pretraining_updates and not trained_windows:
        found.append("One repository only: the contextual loss, which tells repositories apart, was left out.")
    if config.self_distillation:
        found.append("Self-distillation from the deepest exit is an extension of the paper.")
    return tuple(found)
