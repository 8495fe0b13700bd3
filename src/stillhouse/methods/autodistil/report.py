"""The outcome of a run in tables, words and one picture."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from stillhouse.core.result import Arm, Metric, Picture, Table
from stillhouse.core.run import Run
from stillhouse.encoders.costs import Architecture, Published
from stillhouse.methods.autodistil.config import Config
from stillhouse.methods.autodistil.family import Front
from stillhouse.methods.autodistil.front import Candidate, plane_front
from stillhouse.methods.autodistil.lesson import Classroom
from stillhouse.methods.autodistil.superlm import SuperLM

matplotlib.rcParams["svg.hashsalt"] = "stillhouse"
COLOURS = ("#3b6ea5", "#3f8f6b", "#a5723b", "#7a5aa6", "#8a94a6")
FRONT, BEST, HAND = "#4c566a", "#c0562b", "#111111"
SHOWN = 16

KEPT = Metric(
    "relations_kept",
    "Relations kept",
    "higher",
    "1 - KL / KL of a student that relates every token to all alike, of the teacher's query, key and value relations on report texts.",
)
SELECT = Metric(
    "relations_kept_select", "Relations kept, select", "higher", "The same on the texts that the search chose by."
)
SCORES = {"accuracy": "Accuracy", "macro_f1": "Macro F1", "mcc": "Matthews correlation"}


def task_metric(name: str, metric: str) -> Metric:
    """The score of a fine-tuned student."""
    return Metric("score", f"{SCORES[metric]} on {name}", "higher", "Fine-tuned alike, on the report split.")


def front_table(front: Front) -> Table:
    """Loss against multiply-adds: the students that the run offers, true costs beside those of the published formulas."""
    rows = []
    for candidate in thinned(plane_front(front.front), SHOWN):
        costs = candidate.costs
        formula = published(front.teacher).of(candidate.shape)
        rows.append(
            (
                candidate.space,
                str(candidate.shape),
                round(front.kept(candidate), 3),
                round(costs.multiply_adds / 1e6, 1),
                round(formula[1] / 1e6, 1),
                round(costs.parameters / 1e6, 2),
                round(formula[0] / 1e6, 2),
                round(costs.bytes / 1e6, 1),
                round(1e3 * costs.latency_seconds, 2),
            )
        )
    columns = (
        "sub-space",
        "architecture",
        "relations kept (select)",
        "M multiply-adds",
        "as published",
        "M parameters",
        "as published",
        "MB",
        "ms a text",
    )
    caption = (
        "Layers, heads, hidden, feed-forward. Multiply-adds are of 128 tokens, from the shapes of the modules; the published formulas "
        "take a head to be 1/12 of the hidden size wide, so they fall short wherever there are fewer heads. "
        f"Milliseconds: one text of {front.tokens} tokens here. `stillhouse autodistil pick` answers from all {len(front.front)} "
        "architectures that can be the best under some bound."
    )
    return Table("The front: the best student for every cost", columns, tuple(rows), caption)


def published(teacher: Architecture) -> Published:
    """The released formulas with the teacher's heads as the full number."""
    return Published(full_heads=teacher.heads)


def thinned(rows: Sequence[Candidate], most: int) -> list[Candidate]:
    """At most this many, evenly, the first and the last among them."""
    if len(rows) <= most:
        return list(rows)
    return [rows[round(i * (len(rows) - 1) / (most - 1))] for i in range(most)]


def spaces_table(
    superlms: Sequence[SuperLM], scored: Sequence[Candidate], seconds: dict[str, float], front: Front
) -> Table:
    """Each sub-space: how many architectures, what its super-network took, best and worst."""
    rows = []
    for one in superlms:
        name = one.space.name
        kept = sorted(front.kept(c) for c in scored if c.space == name)
        rows.append(
            (
                name,
                one.space.size,
                len(kept),
                round(kept[0], 3),
                round(kept[-1], 3),
                one.updates,
                round(one.seconds, 1),
                round(seconds[name], 1),
            )
        )
    columns = (
        "sub-space",
        "architectures",
        "scored",
        "worst kept",
        "best kept",
        "updates",
        "s of training",
        "s of search",
    )
    return Table(
        "Sub-spaces and what they cost", columns, tuple(rows), "Paid once, for all students of the front together."
    )


def front_picture(front: Front, picked: Candidate, hand: dict[str, tuple[int, float]], run: Run) -> Picture:
    """Every scored architecture by cost and quality."""
    figure = Figure(figsize=(7, 3.8), layout="constrained")
    axes = figure.add_subplot()
    scored = (*front.front, *front.others)
    for i, name in enumerate(dict.fromkeys(c.space for c in scored)):
        group = [c for c in scored if c.space == name]
        x, y = [c.costs.multiply_adds / 1e6 for c in group], [front.kept(c) for c in group]
        axes.scatter(x, y, s=14, color=COLOURS[i % len(COLOURS)], alpha=0.6, label=name, linewidths=0)
    line = plane_front(front.front)
    axes.step(
        [c.costs.multiply_adds / 1e6 for c in line],
        [front.kept(c) for c in line],
        where="post",
        color=FRONT,
        lw=1.2,
        label="front",
    )
    axes.scatter([picked.costs.multiply_adds / 1e6], [front.kept(picked)], s=70, color=BEST, label="student", zorder=3)
    if hand:
        points = list(hand.values())
        axes.scatter(
            [m / 1e6 for m, _ in points],
            [k for _, k in points],
            marker="x",
            color=HAND,
            label="by hand, alone",
            zorder=3,
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(f"million multiply-adds of 128 tokens (teacher: {front.teacher_costs.multiply_adds / 1e6:,.0f})")
    axes.set_ylabel("relations kept (select)")
    axes.legend(fontsize=8)
    figure.savefig(run.picture_file("front.svg"), format="svg", metadata={"Date": None})
    alt = f"{len(scored)} architectures by cost and relations kept; the student keeps {front.kept(picked):.3f}"
    return Picture("Every architecture that was scored", "pictures/front.svg", alt)


def sentence(front: Front, picked: Candidate, arms: Sequence[Arm]) -> str:
    """The numbers that matter."""
    student, teacher = next(a for a in arms if a.role == "student"), next(a for a in arms if a.role == "teacher")
    fewer = front.teacher_costs.multiply_adds / picked.costs.multiply_adds
    words = (
        f"One distillation, {len(front.front) + len(front.others)} students scored without fine-tuning: {picked.shape} keeps "
        f"{student.metrics['relations_kept']:.3f} of the teacher's relations with {fewer:.1f} times fewer multiply-adds and "
        f"1/{front.teacher_costs.parameters / picked.costs.parameters:.1f} of its parameters"
    )
    if "score" in student.metrics:
        words += f"; fine-tuned it scores {student.metrics['score']:.3f}, the teacher {teacher.metrics['score']:.3f}"
    return f"{words}."


def notes(config: Config, room: Classroom, picked: Candidate, left_out: Sequence[str]) -> tuple[str, ...]:
    """Caveats."""
    corpus = room.corpus
    found = [
        f"Learned from {len(corpus.train)} texts without labels, chosen on {len(corpus.select)}, reported on {len(corpus.report)}; one seed.",
        "The time of the picked student is that of all super-networks and the search, which every student of the front shares.",
        f"Relations of {room.lesson.relation_heads} heads of the teacher's layer {room.lesson.teacher.layer + 1}; what comes behind the queries, "
        "keys and values of a student's last layer gets no gradient from them (as published) and is settled by fine-tuning.",
    ]
    if config.init == "teacher":
        found.append("Super-networks begin as slices of the teacher.")
    if not config.train_words:
        found.append("Word vectors are slices of the teacher's and were not trained.")
    if room.truncated:
        found.append(f"{room.truncated} texts were longer than {config.max_tokens} tokens and cut.")
    if left_out:
        found.append(f"No architecture within the budget by these rules: {', '.join(left_out)}.")
    return tuple(found)
