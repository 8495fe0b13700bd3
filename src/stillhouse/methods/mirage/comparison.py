"""The table of a run: the summary's arm among full data, controls, coresets and gradient-based condensers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from stillhouse.core.result import Arm, Cost, Metric, Result, Role, Table
from stillhouse.core.run import Run
from stillhouse.graphs.arms import EVIDENCE_MARGIN, Arms, Row, no_evidence
from stillhouse.graphs.codec import pack
from stillhouse.graphs.skew import TOP, measure_skew
from stillhouse.graphs.summary import Summary
from stillhouse.graphs.training import Score
from stillhouse.methods.mirage.config import Config

METRICS = (
    Metric(
        "auc", "AUC", "higher", "Area under the ROC curve on the report split, at the update best on the select split."
    ),
    Metric("auc_last", "AUC, last update", "higher", "The same after the last update, without choosing."),
    Metric("auc_select", "AUC, select split", "higher", "What the choice was made on."),
)


def compared(
    config: Config, run: Run, arms: Arms, summary: Summary, score: Score, distil_seconds: float, train_seconds: float
) -> Result:
    """Carry out the arms that the config asks for, each once, and put them into a result."""
    student = Row(
        score.select, score.report, score.last, len(pack(summary)), distil_seconds, train_seconds, score.best_update
    )
    rows: list[tuple[str, Role, Row]] = [(f"{summary.kind} summary", "student", student)]
    for name, role, compute in _planned(config, arms, student.bytes):
        run.log(f"arm: {name}")
        value = run.kept(name.replace(" ", "-").replace(",", ""), lambda c=compute: dataclasses.asdict(c()))  # type: ignore[misc]
        rows.append((name, role, Row(**value)))
    floor = next((row for name, _, row in rows if name == "untrained network"), None)
    marked = [(name, role, _marked(row, role, floor)) for name, role, row in rows]
    return Result(
        "mirage",
        _sentence(config, marked, arms),
        METRICS,
        tuple(_arm(name, role, row, config) for name, role, row in marked),
        tables=(_skew_table(config, run, arms), _summary_table(summary, arms)),
        notes=_notes(config, summary, arms),
    )


def _planned(config: Config, arms: Arms, size: int) -> list[tuple[str, Role, Callable[[], Row]]]:
    floors: list[tuple[str, Role, Callable[[], Row]]] = [
        ("untrained network", "floor", arms.untrained),
        ("graph size alone", "floor", arms.size_alone),
        ("class prior", "floor", arms.prior),
    ]
    controls: list[tuple[str, Role, Callable[[], Row]]] = [
        ("full data", "teacher", arms.full),
        ("logistic regression on tree counts", "peer", arms.count_regression),
        ("Weisfeiler-Lehman kernel and SVM", "peer", arms.weisfeiler_lehman),
        ("random graphs, equal bytes", "baseline", lambda: arms.random(size)),
    ]
    rest: list[tuple[str, Role, Callable[[], Row]]] = [
        ("herding on tree counts, equal bytes", "baseline", lambda: arms.herding(size)),
        ("k-centre on tree counts, equal bytes", "baseline", lambda: arms.k_centre(size)),
        ("herding on embeddings, equal bytes", "baseline", lambda: arms.herding(size, embeddings=True)),
        ("k-centre on embeddings, equal bytes", "baseline", lambda: arms.k_centre(size, embeddings=True)),
    ]
    return {"all": [*floors, *controls, *rest], "controls": [*floors, *controls], "none": floors}[config.compare]


def _marked(row: Row, role: Role, floor: Row | None) -> Row:
    if role not in ("student", "baseline", "teacher") or floor is None or not no_evidence(row.report, floor.report):
        return row
    words = f"no evidence: does not clear the untrained network by {EVIDENCE_MARGIN}"
    return replace(row, note="; ".join(filter(None, [row.note, words])))


def _arm(name: str, role: Role, row: Row, config: Config) -> Arm:
    metrics = {"auc": row.report, "auc_last": row.last, "auc_select": row.select}
    seconds = row.distil_seconds + row.train_seconds * len(config.learning_rates)
    cost = Cost(bytes_on_disk=row.bytes or None, training_seconds=seconds)
    return Arm(name, role, metrics, cost, config.seed, row.note)


def _sentence(config: Config, rows: list[tuple[str, Role, Row]], arms: Arms) -> str:
    row = rows[0][2]
    full = next((other for name, _, other in rows if name == "full data"), None)
    beside = "" if full is None else f", full data ({arms.full_bytes:,} bytes) {full.report:.3f}"
    return (
        f"A summary of {row.bytes:,} bytes, made in {row.distil_seconds:.1f} s, trains {config.network} to AUC "
        f"{row.report:.3f} on {arms.split.report.graphs} untouched graphs{beside}."
    )


def _skew_table(config: Config, run: Run, arms: Arms) -> Table:
    values = run.kept("skew", lambda: _skew(arms))
    rows = tuple((name, value) for name, value in values.items())
    return Table("How skewed the trees are", ("what", "value"), rows, "Measured before distilling, on training graphs.")


def _skew(arms: Arms) -> dict[str, Any]:
    skew = measure_skew(arms.split, arms.words, arms.hops)
    tops = {f"held-out nodes in the top {k}": round(c, 3) for k, c in zip(TOP, skew.coverage, strict=True)}
    return {
        "nodes": skew.nodes,
        "distinct trees": skew.distinct,
        **tops,
        "AUC of tree counts, cross-validated": round(skew.counts_auc, 3),
        "AUC of size alone, cross-validated": round(skew.size_auc, 3),
        "verdict": skew.verdict,
    }


def _summary_table(summary: Summary, arms: Arms) -> Table:
    rows: list[tuple[str | float, ...]] = [
        ("trees in the vocabulary", summary.vocabulary.trees),
        ("subtrees stored, all depths", sum(map(len, summary.vocabulary.levels))),
        ("report nodes whose tree is known", round(summary.coverage(arms.split.report), 3)),
    ]
    for c, name in enumerate(summary.class_names):
        parts = len(summary.mixtures[c].weights) if summary.mixtures else len(summary.itemsets[c])
        rows.append((f"class {name}: {'components' if summary.mixtures else 'tree sets'}", parts))
    if len(summary.words.codebook):
        rows.append(("share of attribute variance lost to the codebook", round(summary.words.error, 3)))
    return Table("The summary", ("what", "value"), tuple(rows))


def _notes(config: Config, summary: Summary, arms: Arms) -> tuple[str, ...]:
    notes = [
        f"Report split: {arms.split.report.graphs} graphs; one split and one seed, so differences of a few hundredths say little.",
        "Bytes are those of the compressed file; whole graphs are written as compactly as the summary.",
    ]
    if summary.root_mask:
        notes.append(
            "At evaluation the summary's arm pools only nodes whose tree it knows; the other arms pool all nodes."
        )
    if summary.words.edge_labels and config.network in ("gin", "gat", "gcn", "sage"):
        notes.append(
            f"{config.network} does not look at edge labels; the trees do, which costs bytes (--edge-words none)."
        )
    return tuple(notes)
