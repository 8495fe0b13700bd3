"""What AutoDistil's measurements say: claims with intervals, arms and tables, from the pieces of benchmarks/autodistil.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from stillhouse.core.evidence import Claim, ClaimedArm, judge, mean_with_interval, ratio_of_means
from stillhouse.core.result import Arm, Cost, Role
from stillhouse.encoders.costs import Published
from stillhouse.methods.autodistil.spaces import parse_architecture

Found = Mapping[str, Sequence[Mapping[str, Any]]]
HANDS = "by hand: "


def claim(
    id: str,
    statement: str,
    data: str,
    found: tuple[float, tuple[float, float]],
    bound: str,
    seeds: int,
    size: str,
    note: str = "",
    paper: float | None = None,
) -> Claim:
    """A judged claim."""
    part = "" if size == "small" else f" --size {size}"
    return Claim(
        id,
        statement,
        paper,
        *found,
        bound,
        seeds,
        judge(found[1], bound),
        data,
        f"python benchmarks/autodistil.py{part}",
        note,
    )


def all_claims(found: Found, size: str) -> list[Claim]:
    """Every claim that the pieces allow."""
    mark = "" if size == "small" else f" ({size})"
    made = step_claims(found["step"], size, mark)
    made += interference_claims(found["interference"], size, mark)
    made += ranking_claims(found["ranking"], size, mark)
    return made + student_claims(found["students"], size, mark)


def step_claims(rows: Sequence[Mapping[str, Any]], size: str, mark: str) -> list[Claim]:
    """Costs of a step and of scoring, and exactness of the export."""
    if not rows:
        return []
    seeds, data = len(rows), "sub-space small, MiniLM"
    pair = ratio_of_means([r["sandwich"] for r in rows], [r["largest"] for r in rows])
    score = mean_with_interval([256 * r["score"] for r in rows])
    gap = mean_with_interval([r["gap_float32"] for r in rows])
    exact = max(r["gap_float64"] for r in rows)
    return [
        claim(
            f"sandwich step{mark}",
            "Processor time of a sandwich step over a step of its largest network alone",
            data,
            pair,
            "<= 4.2",
            seeds,
            size,
        ),
        claim(
            f"scoring{mark}",
            "Processor seconds of scoring 256 architectures",
            data,
            score,
            "<= 300",
            seeds,
            size,
            f"{rows[0]['texts']} held-out texts.",
        ),
        claim(
            f"export is the slice{mark}",
            "Largest difference of states between slice and exported BertModel, as a share of the largest state (float32)",
            data,
            gap,
            "<= 1e-05",
            seeds,
            size,
            f"At most {exact:.0e} in float64. In float32 a state of 5 has a step of 5e-7, which layers add up.",
        ),
    ]


def interference_claims(rows: Sequence[Mapping[str, Any]], size: str, mark: str) -> list[Claim]:
    """B1: three super-networks against one, at equal total steps."""
    if not rows:
        return []
    pair = ratio_of_means([float(np.mean(r["three"])) for r in rows], [float(np.mean(r["one"])) for r in rows])
    note = "Mean relation loss on report texts of 24 architectures; one super-network has the updates of the three together."
    return [
        claim(
            f"three sub-spaces{mark}",
            "Relation loss in three super-networks over that in one",
            "report texts",
            pair,
            "<= 0.97",
            len(rows),
            size,
            note,
        )
    ]


def groups(rows: Sequence[Mapping[str, Any]], *names: str) -> dict[tuple[Any, ...], list[Mapping[str, Any]]]:
    """Rows by the values of some of their entries."""
    made: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        made.setdefault(tuple(row[name] for name in names), []).append(row)
    return made


def correlations(rows: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Spearman of score with less relation loss, and with more parameters."""
    score = [r["score"] for r in rows]
    return tuple(
        float(spearmanr(score, x).statistic) for x in ([-r["loss"] for r in rows], [r["parameters"] for r in rows])
    )  # type: ignore[return-value]


def ranking_claims(rows: Sequence[Mapping[str, Any]], size: str, mark: str) -> list[Claim]:
    """B2: does the loss without fine-tuning rank as the fine-tuned score does?"""
    whole = {key: group for key, group in groups(rows, "task", "seed").items() if len(group) >= 10}
    if not whole:
        return []
    pairs = [correlations(group) for group in whole.values()]
    tasks = ", ".join(sorted({str(task) for task, _ in whole}))
    count = min(len(group) for group in whole.values())
    note = f"{count} architectures each; parameters alone give {np.mean([p[1] for p in pairs]):.2f}. The interval is over tasks and seeds."
    return [
        claim(
            f"ranking{mark}",
            "Spearman correlation of relation loss without fine-tuning and fine-tuned score",
            tasks,
            mean_with_interval([p[0] for p in pairs]),
            ">= 0.5",
            len(pairs),
            size,
            note,
        )
    ]


def student_claims(rows: Sequence[Mapping[str, Any]], size: str, mark: str) -> list[Claim]:
    """B3, B4: student against teacher, against itself distilled alone, and against designs by hand."""
    teachers = {r["task"]: r for r in rows if r["arm"] == "teacher"}
    cells = groups([r for r in rows if r["arm"] != "teacher"], "task", "seed")
    lost, alone, hand = [], [], []
    for (task, _), group in cells.items():
        arms = {r["arm"]: r for r in group}
        student = arms.get("student")
        if student is None:
            continue
        if task in teachers:
            lost.append((100 * (teachers[task]["score"] - student["score"]), task))
        if other := arms.get("alone, twice the updates"):
            alone.append((student["score"], other["score"], task))
        if designs := [r for name, r in arms.items() if name.startswith(HANDS)]:
            best = max(designs, key=lambda r: r["select_score"])
            hand.append((student["score"], best["score"], task))
    made = []
    over = "The interval is over tasks and seeds."
    if lost:
        made.append(
            claim(
                f"kept at 1/2.7{mark}",
                "Points lost against the teacher with 2.7 times fewer multiply-adds, mean over tasks",
                names(lost),
                mean_with_interval([v for v, _ in lost]),
                "<= 1.0",
                len(lost),
                size,
                over,
                0.0,
            )
        )
    if alone:
        made.append(
            claim(
                f"inherits{mark}",
                "Score of the student over the same architecture distilled alone with twice the updates",
                names(alone),
                ratio_of_means([a for a, _, _ in alone], [b for _, b, _ in alone]),
                ">= 1.0",
                len(alone),
                size,
                over,
            )
        )
    if hand:
        made.append(
            claim(
                f"against designs by hand{mark}",
                "Score of the student over the best of three designs by hand of its cost",
                names(hand),
                ratio_of_means([a for a, _, _ in hand], [b for _, b, _ in hand]),
                ">= 1.0",
                len(hand),
                size,
                f"The design is chosen on the select split. {over}",
            )
        )
    return made


def names(rows: Sequence[tuple[Any, ...]]) -> str:
    """Tasks of several rows."""
    return ", ".join(sorted({str(row[-1]) for row in rows}))


def all_arms(found: Found, size: str) -> list[ClaimedArm]:
    """Every fine-tuned student, the teacher, and the costs of the families."""
    made = []
    for row in found["students"]:
        role: Role = {"teacher": "teacher", "student": "student"}.get(row["arm"], "baseline")  # type: ignore[assignment]
        metrics = {key: row[key] for key in ("score", "select_score", "kept", "multiply_adds") if key in row}
        made.append(
            ClaimedArm(
                f"{row['task']}, {size}",
                Arm(row["arm"], role, metrics, Cost(), row.get("seed", 0), row.get("shape", "")),
            )
        )
    for row in found["ranking"]:
        metrics = {key: row[key] for key in ("score", "select_score", "loss", "multiply_adds")}
        cost = Cost(parameters=row["parameters"], training_seconds=row["seconds"])
        made.append(
            ClaimedArm(
                f"ranking {row['task']}, {size}",
                Arm(f"{row['index']}: {row['shape']}", "student", metrics, cost, row["seed"]),
            )
        )
    for row in found["family"]:
        name = f"super-networks of {len(row['spaces'])} sub-spaces"
        made.append(
            ClaimedArm(
                f"families, {size}",
                Arm(name, "student", row["kept"], Cost(training_seconds=row["seconds"]), row["seed"], row["note"]),
            )
        )
    for row in found["interference"]:
        made.extend(
            ClaimedArm(
                f"interference, {size}",
                Arm(
                    f"{key} super-network{'s' * (key == 'three')}",
                    "baseline",
                    {"loss": float(np.mean(row[key]))},
                    seed=row["seed"],
                ),
            )
            for key in ("three", "one")
        )
    return made


def tables(found: Found) -> str:
    """The tables of the method's page, in Markdown."""
    rows = found["students"]
    tasks = list(dict.fromkeys(r["task"] for r in rows))
    arms = list(dict.fromkeys(r["arm"] for r in rows))
    lines = [
        "| arm | architecture | M multiply-adds | " + " | ".join(tasks) + " |",
        "|---|---|---:|" + "---:|" * len(tasks),
    ]
    for name in arms:
        group = [r for r in rows if r["arm"] == name]
        cells = [[r["score"] for r in group if r["task"] == task] for task in tasks]
        shown = " | ".join(f"{100 * np.mean(c):.1f}" if c else "" for c in cells)
        lines.append(f"| {name} | {group[0].get('shape', '')} | {group[0]['multiply_adds'] / 1e6:,.0f} | {shown} |")
    return "\n".join([*lines, "", *ranking_table(found["ranking"]), "", *formula_table(found)])


def ranking_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Correlation with the score by task and seed."""
    lines = [
        "| task | seed | architectures | Spearman, relation loss | Spearman, parameters |",
        "|---|---:|---:|---:|---:|",
    ]
    for (task, seed), group in groups(rows, "task", "seed").items():
        if len(group) > 2:
            lines.append("| {} | {} | {} | {:.2f} | {:.2f} |".format(task, seed, len(group), *correlations(group)))
    return lines


def formula_table(found: Found) -> list[str]:
    """True costs beside the published formulas', of the ranked architectures."""
    lines = [
        "| architecture | M multiply-adds | by the published formula | M parameters | by the published formula |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in sorted(found["ranking"], key=lambda r: r["multiply_adds"])[:: max(1, len(found["ranking"]) // 5)]:
        size, adds = Published().of(parse_architecture(row["shape"]))
        lines.append(
            f"| {row['shape']} | {row['multiply_adds'] / 1e6:,.1f} | {adds / 1e6:,.1f} | {row['parameters'] / 1e6:.2f} | {size / 1e6:.2f} |"
        )
    return lines
