"""What a reader wants to see: the funnel, the data sets side by side, who outdoes whom, codes, proximity, examples, speed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from stillhouse.core.result import Picture, Table
from stillhouse.core.run import Run
from stillhouse.methods.impossible.causal import Throughput
from stillhouse.methods.impossible.generation import Made

matplotlib.rcParams["svg.hashsalt"] = "stillhouse"
COLOURS = ("#1f4e79", "#c0562b", "#5b8c5a", "#8a94a6")


def rounded(value: float, digits: int = 3) -> float | str:
    """A number for a table; a dash where there is none."""
    return "-" if not math.isfinite(value) else round(value, digits)


def funnel_table(name: str, made: Made, counts: Mapping[str, int], seconds: Mapping[str, float]) -> Table:
    """How many are left after every step, and each critic's share of the critics' time."""
    critics = sum(seconds.values()) or 1.0
    rows: list[tuple[str | float, ...]] = []
    before = 0
    for step, count in counts.items():
        share = f"{count / before:.1%}" if count <= before else "-"  # a sentence is not a context
        rows.append(
            (step, count, share, round(seconds[step], 2), f"{seconds[step] / critics:.0%}" if seconds[step] else "-")
        )
        before = count
    left = ", ".join(f"{why} {count:,}" for why, count in made.faults.most_common()) or "none"
    return Table(
        f"Funnel of {name}",
        ("step", "left", "of the step before", "seconds", "share of the critics' time"),
        tuple(rows),
        f"Left out before: {left}. {made.throughput.tokens_per_second:,.0f} new tokens a second in generation.",
    )


def quality_table(sets: Mapping[str, Mapping[str, float]]) -> Table:
    """Data sets side by side, of equal size where one could be drawn."""
    keys = list(next(iter(sets.values())))
    rows = tuple((name, *(rounded(values.get(key, math.nan), 2) for key in keys)) for name, values in sets.items())
    return Table(
        "What the pairs are like",
        ("data set", *keys),
        rows,
        "Of as many pairs of every set, drawn at random. H2, H3: entropy of runs of words in bits. TED: edits between dependency "
        "trees, TED-3 of their top three levels. Cosine of MiniLM's mean token vectors.",
    )


def truth_table(rows: Sequence[tuple[str, int, float]]) -> Table:
    """How often the grammar agrees with the critics."""
    return Table(
        "Are the pairs right?",
        ("pairs", "looked at", "right, by the grammar"),
        tuple((name, count, rounded(share)) for name, count, share in rows),
        "The grammar reads both sentences; a sentence that it cannot read is wrong.",
    )


def code_table(rows: Sequence[tuple[str, float, float]]) -> Table:
    """Whether the student does what a control code asks."""
    return Table(
        "Control codes",
        ("code", "obeyed when told", "as often when not told"),
        tuple((code, rounded(told), rounded(untold)) for code, told, untold in rows),
        "Share of outputs that show the code.",
    )


def leakage_table(sets: Mapping[str, Mapping[str, float]]) -> Table:
    """What of the pairs the teacher had read."""
    keys = list(next(iter(sets.values())))
    rows = tuple((key, *(rounded(values[key]) for values in sets.values())) for key in keys)
    return Table(
        "Training text in the pairs",
        ("", *sets),
        rows,
        "Sentences of the report split are removed from both sets before training (last step of the funnels).",
    )


def speed_table(rows: Mapping[str, Throughput]) -> Table:
    """New tokens a second."""
    return Table(
        "Generation",
        ("what", "new tokens", "seconds", "tokens a second"),
        tuple((name, t.tokens, round(t.seconds, 2), round(t.tokens_per_second)) for name, t in rows.items()),
        "Batched, with a key-value cache; seconds of this run, on this machine, as it was then.",
    )


def example_table(run: Run, arms: Sequence[str], most: int = 8) -> Table:
    """Inputs and what every arm makes of them."""
    from stillhouse.core.files import read_json

    told = [
        read_json(run.folder / "arms" / "outputs" / f"{''.join(c if c.isalnum() else '-' for c in arm)}.json")["rows"]
        for arm in arms
    ]
    rows = tuple((told[0][i][0], *(rows[i][1] for rows in told)) for i in range(min(most, len(told[0]))))
    return Table("Examples from the report split", ("input", *arms), rows, "The first inputs, not chosen.")


def proximity_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Share of entailed pairs by context length and temperature."""
    return Table(
        "Paraphrastic proximity",
        ("sentences of context", "temperature", "pairs", "entailed both ways, critic", "the same, by the grammar"),
        tuple(
            (r["sentences"], r["temperature"], r["pairs"], rounded(r["entailed"], 4), rounded(r["true"], 4))
            for r in rows
        ),
        "Of pairs of different continuations of one context, before any critic.",
    )


def proximity_picture(rows: Sequence[Mapping[str, Any]], run: Run) -> Picture:
    """The same as a curve."""
    figure = Figure(figsize=(6, 3.4), layout="constrained")
    axes = figure.add_subplot()
    for colour, temperature in zip(COLOURS, sorted({r["temperature"] for r in rows}), strict=False):
        here = [r for r in rows if r["temperature"] == temperature]
        lengths = [r["sentences"] for r in here]
        axes.plot(
            lengths, [100 * r["entailed"] for r in here], "o-", color=colour, ms=4, label=f"temperature {temperature:g}"
        )
    axes.set_xlabel("sentences of context")
    axes.set_xticks(sorted({r["sentences"] for r in rows}))
    axes.set_ylabel("pairs entailed both ways, %")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(run.picture_file("proximity.svg"), format="svg", metadata={"Date": None})
    return Picture(
        "Paraphrastic proximity",
        "pictures/proximity.svg",
        "Share of continuation pairs that entail each other against the context's length",
        "By the critic, before it filters anything.",
    )
