"""What a reader wants to see of a search: the networks that came out first, the front, and every network in one picture."""

from __future__ import annotations

import matplotlib
from matplotlib.figure import Figure

from stillhouse.core.result import Picture, Table
from stillhouse.core.run import Run
from stillhouse.methods.diswot.scoring import mean_and_spread
from stillhouse.methods.diswot.search import Candidate, Found
from stillhouse.vision.ranking import tau
from stillhouse.vision.spaces import words_of

matplotlib.rcParams["svg.hashsalt"] = "stillhouse"
ALL, FRONT, BEST = "#8a94a6", "#4c566a", "#c0562b"
SHOWN = 10


def _row(candidate: Candidate, rank: float) -> tuple[str | float, ...]:
    costs = candidate.costs
    parts = [_with_spread(values) for values in candidate.scores.values()]
    return (words_of(candidate.description), round(rank, 3), costs.parameters, costs.macs, *parts)


def _with_spread(values: tuple[float, ...]) -> str:
    mean, spread = mean_and_spread(values)
    return f"{mean:.4g} ± {spread:.2g}" if spread else f"{mean:,.6g}"


def _columns(found: Found) -> tuple[str, ...]:
    return ("network", "rank sum", "parameters", "MACs", *found.candidates[0].scores)


def best_table(found: Found) -> Table:
    """The networks with the highest rank sums."""
    options = " ".join(found.best.description)
    return Table(
        "The networks that scored best",
        _columns(found),
        tuple(_row(found.candidates[i], found.ranks[i]) for i in found.order[:SHOWN]),
        f"Of {len(found.candidates)} scored. A network is written as the values of {options}; scores are means over the "
        "draws of weights and images ± their standard deviation.",
    )


def front_table(found: Found) -> Table:
    """Score against MACs: what no other network beats in both."""
    front = found.front(lambda costs: costs.macs)
    return Table(
        "The front: the best score for every cost",
        _columns(found),
        tuple(_row(found.candidates[i], found.ranks[i]) for i in front),
        "Cheapest first. Take one of these if the bound is not yours.",
    )


def parts_table(found: Found) -> Table:
    """How the parts of the score agree with each other and with cost, over the networks of this search."""
    names = list(found.candidates[0].scores)
    values = {name: [candidate.mean(name) for candidate in found.candidates] for name in names}
    costs = [float(candidate.costs.macs) for candidate in found.candidates]
    rows: tuple[tuple[str | float, ...], ...] = tuple(
        (name, *(round(tau(values[name], values[other]), 2) for other in names), round(tau(values[name], costs), 2))
        for name in names
    )
    return Table(
        "Do the parts of the score say the same?",
        ("Kendall's tau", *names, "MACs"),
        rows,
        "A part that agrees with MACs alone says little beyond size.",
    )


def search_picture(found: Found, run: Run) -> Picture:
    """Every network by MACs and rank sum."""
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.add_subplot()
    x = [candidate.costs.macs / 1e6 for candidate in found.candidates]
    axes.scatter(x, found.ranks, s=14, color=ALL, label="scored")
    front = found.front(lambda costs: costs.macs)
    axes.step([x[i] for i in front], [found.ranks[i] for i in front], where="post", color=FRONT, lw=1.2, label="front")
    best = found.order[0]
    axes.scatter([x[best]], [found.ranks[best]], s=60, color=BEST, label="student", zorder=3)
    axes.set_xlabel("million multiply-accumulates an image")
    axes.set_ylabel("rank sum of the scores")
    axes.legend(fontsize=8)
    figure.savefig(run.picture_file("search.svg"), format="svg", metadata={"Date": None})
    alt = f"{len(x)} networks by cost and score; the student has {x[best]:.2f} million MACs"
    return Picture("Every network that was scored", "pictures/search.svg", alt)
