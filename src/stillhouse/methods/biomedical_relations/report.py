"""What a reader wants to see: which extractor to use, what imbalance and few labels cost each, and whether the edges are right."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stillhouse.core.result import Arm, Metric, Table
from stillhouse.methods.biomedical_relations.comparison import Trial
from stillhouse.methods.biomedical_relations.config import Config
from stillhouse.methods.biomedical_relations.data import RelationData
from stillhouse.methods.biomedical_relations.evaluation import GraphScore

METRICS = (
    Metric(
        "macro_f1",
        "Macro F1",
        "higher",
        "Mean over relations of the F1 on the natural test pairs; rare relations count as much as common ones.",
    ),
    Metric(
        "micro_f1",
        "Micro F1",
        "higher",
        "F1 over all pairs; pairs without a relation count only where they are mistaken for one.",
    ),
    Metric(
        "ece",
        "Calibration error",
        "lower",
        "By how much the probability differs from the share that is right, in ten bins.",
    ),
    Metric("ece_calibrated", "After calibration", "lower", "The same with the temperature that fits the select split."),
)


def sentence(config: Config, data: RelationData, arms: Sequence[Arm], graph: GraphScore | None) -> str:
    """The numbers that matter."""
    found = {arm.name: arm for arm in arms}
    teacher, student = found["encoder"], found["student"]
    kept = student.metrics["macro_f1"] / max(1e-9, teacher.metrics["macro_f1"])
    faster = teacher.cost.latency_seconds["a pair"] / student.cost.latency_seconds["a pair"]
    classical = [a for a in arms if a.name in ("rules", "naive_bayes", "random_forest", "linear")]
    words = [
        f"On {data.name} the student has macro F1 {student.metrics['macro_f1']:.3f}, {kept:.0%} of its teacher's, at {faster:.1f} x the speed"
    ]
    if classical:
        best = max(classical, key=lambda a: a.metrics["select_macro_f1"])
        words.append(
            f"; the best classical extractor ({best.name.replace('_', ' ')}) has {best.metrics['macro_f1']:.3f}"
        )
    if graph:
        words.append(f". Of {graph.found} edges of the report documents {graph.precision:.0%} are annotated")
    return "".join(words) + "."


def relation_table(data: RelationData, arms: Sequence[Arm]) -> Table:
    """F1 of every relation."""
    shown = [a for a in arms if a.role != "floor"]
    present = [r for r in data.relations if any(f"f1 {r}" in a.metrics for a in shown)]
    places = {r: data.relations.index(r) for r in present}
    rows: list[tuple[str | float, ...]] = [
        (
            r,
            int((data.train.labels == i).sum()),
            int((data.report.labels == i).sum()),
            *(round(a.metrics[f"f1 {r}"], 3) for a in shown),
        )
        for r, i in places.items()
    ]
    return Table(
        "F1 by relation",
        ("relation", "train", "report", *(a.name for a in shown)),
        tuple(rows),
        "On the natural report pairs.",
    )


def speed_table(arms: Sequence[Arm]) -> Table:
    """What each extractor costs to use."""
    rows = [
        (
            a.name,
            round(1000 * a.cost.latency_seconds["a pair"], 2),
            round((a.cost.bytes_on_disk or 0) / 1e6, 2),
            a.cost.parameters or 0,
        )
        for a in arms
        if a.cost.latency_seconds
    ]
    return Table(
        "Speed and size",
        ("extractor", "seconds a thousand pairs", "MB", "parameters"),
        tuple(rows),
        "On this machine; rules include parsing.",
    )


def imbalance_table(trials: Sequence[Trial]) -> Table | None:
    """Macro F1 of every family on natural, balanced and equally few natural pairs."""
    kinds = ("natural", "balanced", "natural, as few")
    found = {(t.arm, t.training): t for t in trials if t.training in kinds}
    arms = list(dict.fromkeys(arm for arm, _ in found))
    if not arms:
        return None
    rows: list[tuple[str | float, ...]] = []
    for arm in arms:
        whole, even, few = (found[arm, kind] for kind in kinds)
        rows.append((arm, *(round(t.macro_f1, 3) for t in (whole, even, few)), round(few.macro_f1 - even.macro_f1, 3)))
    sizes = {kind: found[arms[0], kind].pairs for kind in kinds}
    head = tuple(f"{kind} ({sizes[kind]:,} pairs)" for kind in kinds)
    return Table(
        "Balanced against natural training",
        ("extractor", *head, "loss by imbalance"),
        tuple(rows),
        "Macro F1 on the same natural report pairs. The last column is what unequal classes alone change: equally many pairs, natural less balanced.",
    )


def curve_table(trials: Sequence[Trial]) -> Table | None:
    """Macro F1 against the number of training pairs."""
    found = [t for t in trials if t.training.endswith(" pairs")]
    if not found:
        return None
    sizes = sorted({t.pairs for t in found})
    told = {(t.arm, t.pairs): round(t.macro_f1, 3) for t in found}
    rows = tuple((arm, *(told.get((arm, n), "-") for n in sizes)) for arm in dict.fromkeys(t.arm for t in found))
    return Table(
        "Learning curves", ("extractor", *(f"{n:,} pairs" for n in sizes)), rows, "Macro F1 on the report pairs."
    )


def graph_tables(score: GraphScore, rows: Sequence[tuple[str | float, ...]], sizes: dict[str, int]) -> list[Table]:
    """Edges against annotation."""
    told: list[tuple[str | float, ...]] = [
        ("edges found, counted in each document", score.found),
        ("of which annotated (precision)", round(score.precision, 3)),
        ("annotated relations", score.annotated),
        ("of which found (recall)", round(score.recall, 3)),
        ("of which two mentions meet in a sentence", round(score.reachable / max(1, score.annotated), 3)),
        *((f"in the graph: {name}", value) for name, value in sizes.items()),
    ]
    return [
        Table(
            "The graph of the report documents",
            ("", "value"),
            tuple(told),
            "Every edge against the document's own annotation; relations across sentences cannot be found.",
        ),
        Table(
            "Confidence against precision",
            ("confidence", "edges", "mean confidence", "annotated"),
            tuple(rows),
            "Of edges counted in each document.",
        ),
    ]


def notes(config: Config, data: RelationData, truncated: int, graph: Path | None) -> tuple[str, ...]:
    """What to keep in mind."""
    told = [
        "The negation rule, the temperature and the best updates were chosen on the select split; no document is in two splits."
    ]
    if config.model == "minilm":
        told.append(
            "The encoder is MiniLM, a general encoder of six layers; for a biomedical one give --model a folder, e.g. PubMedBERT."
        )
    if config.generative_model == "scratch" and "generative" in config.arms:
        told.append(
            "The generative extractor is a small T5 with random first weights, no SciFive: its row says nothing about pre-trained ones (--generative-model FOLDER)."
        )
    if data.counts:
        told.append(f"Read: {data.counts.words()}.")
    if truncated:
        told.append(f"{truncated:,} marked sentences were longer than {config.max_tokens} tokens and were cut.")
    if not data.documents:
        told.append(f"{data.name} has sentences, not documents: no graph is judged.")
    if graph:
        told.append("Look into the graph: stillhouse kg neighbours NAME --graph RUN/graph")
    return tuple(told)
