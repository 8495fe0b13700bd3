"""What a reader wants to see: bias before and after, distributions side by side, nearest real records, the datasheet."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stillhouse.core.result import Arm, Picture, Table
from stillhouse.core.run import Run
from stillhouse.methods.fair_tables.stages import Data
from stillhouse.methods.fair_tables.task import Task
from stillhouse.tables import quality
from stillhouse.tables.codec import Block
from stillhouse.tables.downstream import MODELS
from stillhouse.tables.fairness import group_rates

matplotlib.rcParams["svg.hashsalt"] = "stillhouse"
REAL, SYNTHETIC = "#4c566a", "#c0562b"
MOST_PANELS = 16


def bias_table(task: Task, synthetic: Data) -> Table:
    """Share of the positive class by group: in the real rows, in the synthetic rows, and as models decide on real rows."""
    real, made, report = task.rows(task.train), task.rows(synthetic), task.rows(task.report)
    before, after = group_rates(real.y, real.s), group_rates(made.y, made.s)
    decided = [_decisions(task, part) for part in (task.train, synthetic)]
    by_model = [group_rates(decision, report.s) for decision in decided]
    rows: tuple[tuple[str | float, ...], ...] = tuple(
        (name, *(round(share.get(i, float("nan")), 3) for share in (before, after, *by_model)))
        for i, name in enumerate(task.groups)
    )
    return Table(
        "Positive share by group, before and after",
        ("group", "real rows", "synthetic rows", "model trained on real rows", "model trained on synthetic rows"),
        rows,
        "Models: logistic regression without the sensitive columns, on real report rows.",
    )


def _decisions(task: Task, data: Data) -> np.ndarray:
    rows, report = task.rows(data), task.rows(task.report)
    if len(np.unique(rows.y)) < 2:
        return np.full(len(report), rows.y[0])
    return MODELS["logistic regression"](0).fit(rows.x[:8000], rows.y[:8000]).predict(report.x)


def bias_picture(task: Task, table: Table, run: Run) -> Picture:
    """The bias table as bars."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    for axes, columns, title in zip(figure.subplots(1, 2), ((1, 2), (3, 4)), ("labels", "decisions"), strict=True):
        places = np.arange(len(table.rows))
        for shift, column, colour in zip((-0.2, 0.2), columns, (REAL, SYNTHETIC), strict=True):
            heights = [float(row[column]) for row in table.rows]
            axes.bar(places + shift, heights, 0.38, color=colour, label=table.columns[column])
        axes.set_xticks(places, task.groups, rotation=20 if len(places) > 3 else 0, ha="center", fontsize=8)
        axes.set_title(f"positive share of {title}", fontsize=9)
        axes.legend(fontsize=7)
    return _save(figure, "bias.svg", "Bias before and after", "bars of the positive share by group", run)


def distributions_picture(task: Task, synthetic: Data, run: Run) -> Picture:
    """Every column (up to 16): shares of its levels, or the spread of its number, real beside synthetic."""
    blocks = task.blocks[:MOST_PANELS]
    lines = -(-len(blocks) // 4)
    figure = Figure(figsize=(10, 2 * lines), layout="constrained")
    panels = np.atleast_1d(figure.subplots(lines, min(4, len(blocks)), squeeze=False)).ravel()
    for axes, block in zip(panels, blocks, strict=False):
        _panel(axes, block, task.report.x.numpy(), synthetic.x.numpy())
        if block.continuous and task.codec:
            scores = (-2.0, -1.0, 0.0, 1.0, 2.0)
            axes.set_xticks(scores, [f"{value:.4g}" for value in task.codec.values_at(block, scores)])
    for axes in panels[len(blocks) :]:
        axes.set_visible(False)
    panels[0].legend(fontsize=6)
    return _save(figure, "distributions.svg", "Columns side by side", "real and synthetic shares of each column", run)


def _panel(axes: Axes, block: Block, real: np.ndarray, synthetic: np.ndarray) -> None:
    axes.set_title(block.column.name, fontsize=8)
    axes.tick_params(labelsize=6)
    if block.continuous:
        kept = [rows[rows[:, block.number] != 0, block.number] for rows in (real, synthetic)]
        bins = list(np.linspace(-3, 3, 25))
        axes.hist(kept, bins, density=True, label=["real", "synthetic"], color=[REAL, SYNTHETIC])
        share = (rows[:, block.number - 1].mean() if block.levels else 1.0 for rows in (real, synthetic))
        axes.set_xlabel("spread of the values that are on no atom: {:.0%} and {:.0%}".format(*share), fontsize=5)
        return
    places = slice(block.start, block.number)
    order = np.argsort(-real[:, places].mean(0))[:8]
    names = [str(block.column.levels[i])[:12].replace("\0", "") for i in order]
    for shift, rows, colour, label in ((-0.2, real, REAL, "real"), (0.2, synthetic, SYNTHETIC, "synthetic")):
        axes.bar(np.arange(len(order)) + shift, rows[:, places].mean(0)[order], 0.38, color=colour, label=label)
    axes.set_xticks(range(len(order)), names, rotation=30, fontsize=5)


def closest_table(task: Task, synthetic: Data) -> Table:
    """Distances to the closest training row: of synthetic rows, and of real rows that nothing was learned from."""
    train = task.train.x.numpy()[:5000]
    shares = (0.0, 0.01, 0.05, 0.25, 0.5)
    made = quality.closest_record(train, synthetic.x.numpy()[:2000])
    fresh = quality.closest_record(train, task.report.x.numpy()[:2000])
    rows = [
        (f"quantile {q:.0%}", round(float(np.quantile(made, q)), 3), round(float(np.quantile(fresh, q)), 3))
        for q in shares
    ]
    rows.append(("share identical to a training row", round(_zero(made), 4), round(_zero(fresh), 4)))
    return Table(
        "Who is close to a real record",
        ("distance to the closest training row", "synthetic rows", "fresh real rows"),
        tuple(rows),
        "Synthetic rows that come closer than fresh real rows do would give training rows away.",
    )


def _zero(distances: np.ndarray) -> float:
    return float((distances < 1e-3).mean())


def nearest_pairs_table(task: Task, synthetic: Data, pairs: int = 5) -> Table | None:
    """The synthetic rows nearest to a training row: in how many columns the two differ (no real value is printed)."""
    if task.codec is None:
        return None
    train, made = task.train.x.numpy()[:5000], synthetic.x.numpy()[:2000]
    distances, index = quality.nearest(train, made)
    closest = np.argsort(distances[:, 0], kind="stable")[:pairs]
    rows = []
    for i in closest:
        other = train[index[i, 0]]
        same = [
            b.column.name
            for b in task.blocks
            if np.allclose(made[i, b.start : b.start + b.width], other[b.start : b.start + b.width], atol=1e-2)
        ]
        rows.append((f"synthetic row {i}", round(float(distances[i, 0]), 3), f"{len(same)} of {len(task.blocks)}"))
    return Table(
        "The nearest pairs",
        ("row", "distance", "columns with equal values"),
        tuple(rows),
        "Real values are not printed here: a report must not give away what the table hides.",
    )


def front_picture(arms: Sequence[Arm], run: Run) -> Picture:
    """Accuracy against parity, every arm a point."""
    figure = Figure(figsize=(7.5, 4.2), layout="constrained")
    axes = figure.subplots()
    for number, arm in enumerate(arms, 1):
        x, y = arm.metrics["parity_ratio"], arm.metrics["balanced_accuracy"]
        colour = SYNTHETIC if arm.role == "student" else REAL
        axes.plot(x, y, "o", color=colour, label=f"{number} {arm.name}")
        axes.annotate(str(number), (x, y), textcoords="offset points", xytext=(4, 3), fontsize=8, color=colour)
    figure.legend(loc="outside right upper", fontsize=7, handlelength=0.5)
    axes.set(xlabel="parity ratio (1: groups treated alike)", ylabel="balanced accuracy on real rows")
    axes.grid(alpha=0.3)
    return _save(figure, "front.svg", "Accuracy against parity", "a point for every arm", run)


def images_picture(task: Task, synthetic: Data, run: Run) -> Picture:
    """Real images above synthetic ones."""
    from stillhouse.methods.fair_tables.images import CHANNELS, SIDE

    figure = Figure(figsize=(8, 4), layout="constrained")
    panels = figure.subplots(4, 10)
    shown = torch.cat([task.train.x[:20], synthetic.x[:20]]).view(-1, CHANNELS, SIDE, SIDE)
    for axes, image in zip(panels.ravel(), shown, strict=True):
        axes.imshow(np.dstack([*image.numpy(), np.zeros((SIDE, SIDE))]).clip(0, 1), interpolation="nearest")
        axes.set_axis_off()
    title = "Images: two rows of real ones, two of synthetic ones"
    return _save(figure, "images.svg", title, "digits in red and green", run)


def datasheet(task: Task, student: Arm, seed: int) -> Table:
    """What the synthetic data are, from what, how far to trust them, and what they must not be used for."""
    m = student.metrics
    rows = (
        ("what it is", "rows drawn from a generative model; none belongs to a person"),
        (
            "made from",
            f"{len(task.train):,} training rows of {task.name}; {len(task.report):,} others only measured it",
        ),
        ("sensitive groups", f"{len(task.groups)}: {', '.join(task.groups)}"),
        ("how it differs on purpose", "the label is independent of the sensitive columns; in the original it is not"),
        ("fairness measured", f"models trained on it: parity ratio {m['parity_ratio']:.3f} on real rows"),
        ("utility measured", f"balanced accuracy {m['balanced_accuracy']:.3f}, AUROC {m['auroc']:.3f} on real rows"),
        (
            "privacy measured",
            f"membership advantage {m['membership_advantage']:.3f}, authenticity {m['authenticity']:.3f}",
        ),
        ("privacy not promised", "there is no differential-privacy guarantee; rare records may be imitated"),
        ("use it for", "training and testing models that should not repeat the original's bias; development; teaching"),
        (
            "do not use it for",
            "statements about groups or persons, base rates of the label by group, audits of the original",
        ),
        ("seed", str(seed)),
    )
    return Table("Datasheet of the synthetic data", ("question", "answer"), rows)


def datasheet_text(table: Table) -> str:
    """The datasheet as Markdown, for the model folder."""
    lines = [f"- **{question}**: {answer}" for question, answer in table.rows]
    return f"# {table.title}\n\n" + "\n".join(lines) + "\n"


def _save(figure: Figure, name: str, title: str, alt: str, run: Run) -> Picture:
    path = run.picture_file(name)
    figure.savefig(path, metadata={"Date": None})
    return Picture(title, str(path.relative_to(run.folder)), alt)
