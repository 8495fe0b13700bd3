"""Plots as inline SVG that takes its colours and fonts from the page, so one drawing serves light, dark and print.

Everything is drawn in placeholder colours that no page uses; `_inline` replaces them by CSS variables. Arms are
named by the numbers they have in the arms table, written beside their points and at the ends of their lines.
"""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator
from scipy.optimize import isotonic_regression

from stillhouse.core.files import content_hash
from stillhouse.core.result import Curve, Metric
from stillhouse.reporting.arms import CROWDED, SERIES_COLOURS, Mark, Quantity, pareto_front
from stillhouse.reporting.numbers import column_unit, compact, finite, significant

COLOURS = {
    "ink": "#010101",
    "muted": "#020202",
    "line": "#030303",
    **{f"series-{i}": f"#0405{i:02d}" for i in range(SERIES_COLOURS)},
}
WIDTH, HEIGHT = 340, 260
"""Pixels of a panel at its natural size."""
LOG_FROM = 10.0
"""An axis is logarithmic where its largest value is this many times its smallest."""
LABEL_PIXELS = 12.0
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "stillhouse",
    "text.parse_math": False,
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": COLOURS["line"],
    "axes.labelcolor": COLOURS["muted"],
    "xtick.color": COLOURS["line"],
    "ytick.color": COLOURS["line"],
    "xtick.labelcolor": COLOURS["muted"],
    "ytick.labelcolor": COLOURS["muted"],
    "text.color": COLOURS["muted"],
    "grid.color": COLOURS["line"],
    "path.simplify_threshold": 0.5,
}


@dataclass(frozen=True)
class Plot:
    """A drawing, the words for those who cannot see it, and which arms nothing beats in it."""

    svg: Markup
    front: tuple[Mark, ...] = ()


def direction(metric: Metric) -> str:
    """ "lower is better" or "higher is better"."""
    return f"{metric.better} is better"


def scatter(marks: Sequence[Mark], metric: Metric, kind: Quantity) -> Plot:
    """Quality against one kind of cost; the Pareto front is a thin stepped line."""
    shown = [m for m in marks if m.arm.role != "floor" and len(finite(_position(m, metric, kind))) == 2]
    unit = column_unit([kind.read(m.arm.cost) for m in shown], kind.units)
    points = [(x / unit.size, y) for x, y in (finite(_position(m, metric, kind)) for m in shown)]
    on_front = pareto_front(points, metric.better)
    front = tuple(mark for mark, on in zip(shown, on_front, strict=True) if on)
    title = f"{kind.title}, {unit.name}" if unit.name else kind.title
    with mpl.rc_context(STYLE):
        figure, axes = _panel(metric, title)
        _draw_front(axes, sorted(point for point, on in zip(points, on_front, strict=True) if on))
        for mark, (x, y) in zip(shown, points, strict=True):
            axes.plot(x, y, "o", color=COLOURS[mark.colour], markersize=7 if mark in front else 5.5, zorder=3)
        _set_scales(axes, [x for x, _ in points], [y for _, y in points], margin=0.12)
        _guide(axes, metric.floor, "floor", ":")
        numbered = [m for m in shown if len(shown) <= CROWDED or m in front or m.arm.role == "teacher"][:CROWDED]
        _write_numbers(axes, [(x, y, m) for m, (x, y) in zip(shown, points, strict=True) if m in numbered])
        places = "; ".join(
            f"{m.label}: {significant(y)} at {significant(x)}" for m, (x, y) in zip(shown, points, strict=True)
        )
        alt = f"{metric.title} ({direction(metric)}) against {title.lower()}. {places}."
        return Plot(_inline(figure, alt), front)


def curve_panel(
    curves: Iterable[tuple[Mark, Curve]], metric: Metric, axis: str, axis_title: str, teacher: float | None
) -> Plot:
    """One metric along one axis, a line an arm; a band where its points have low and high, the teacher's value dashed, the
    floor dotted."""
    curves = list(curves)
    lines = [(mark, points) for mark, curve in curves if (points := curve_points(curve, axis))]
    bands = [(mark, band) for mark, curve in curves if (band := curve_band(curve, axis))]
    values = [value for _, points in lines for _, value in points]
    with mpl.rc_context(STYLE):
        figure, axes = _panel(metric, axis_title)
        for mark, points in lines:
            style = "-o" if len(points) < 15 else "-"
            axes.plot(*zip(*points, strict=True), style, color=COLOURS[mark.colour], linewidth=1.6, markersize=3)
        for mark, band in bands:
            xs, lows, highs = zip(*band, strict=True)
            axes.fill_between(xs, lows, highs, color=COLOURS[mark.colour], alpha=0.18, linewidth=0)
        values += [end for _, band in bands for _, low, high in band for end in (low, high)]
        _set_scales(axes, (), [*values, *finite([teacher])], margin=0.05)
        _guide(axes, teacher, "teacher", "--")
        _guide(axes, metric.floor, "floor", ":")
        last = [(*points[-1], mark) for mark, points in lines]
        _write_numbers(axes, sorted(last, key=lambda end: end[1], reverse=metric.better == "higher")[:CROWDED])
        return Plot(_inline(figure, _curve_alt(lines, metric, axis_title, teacher)))


def curve_points(curve: Curve, axis: str) -> list[tuple[float, float]]:
    """(position on `axis`, value) of the points that have both, in order of position."""
    pairs = (finite((point.get(axis), point.get("value"))) for point in curve.points)
    return sorted((pair[0], pair[1]) for pair in pairs if len(pair) == 2)


def curve_band(curve: Curve, axis: str) -> list[tuple[float, float, float]]:
    """(position on `axis`, low, high) of the points that have all three, in order of position."""
    triples = (finite((point.get(axis), point.get("low"), point.get("high"))) for point in curve.points)
    return sorted((t[0], t[1], t[2]) for t in triples if len(t) == 3)


def _curve_alt(
    lines: Sequence[tuple[Mark, list[tuple[float, float]]]], metric: Metric, axis_title: str, teacher: float | None
) -> str:
    best = min if metric.better == "lower" else max
    told = []
    for mark, points in lines:
        at, value = best(points, key=lambda point: point[1])
        told.append(
            f"{mark.label}: from {significant(points[0][1])} to {significant(points[-1][1])}, "
            f"best {significant(value)} at {significant(at)}"
        )
    guides = [
        f"{name}: {significant(value)}" for name, value in (("Teacher", teacher), ("Floor", metric.floor)) if value
    ]
    return f"{metric.title} ({direction(metric)}) over {axis_title.lower()}. " + "; ".join([*told, *guides]) + "."


def _position(mark: Mark, metric: Metric, kind: Quantity) -> tuple[float | None, float | None]:
    return kind.read(mark.arm.cost), mark.arm.metrics.get(metric.key)


def _panel(metric: Metric, axis_title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72), layout="constrained")
    FigureCanvasSVG(figure)
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    axes.grid(axis="y", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, pad=5)
    unit = f", {metric.unit}" if metric.unit else ""
    axes.set_title(f"{metric.title}{unit} ({direction(metric)})", loc="left", fontsize=11, color=COLOURS["ink"], pad=10)
    axes.set_xlabel(axis_title, labelpad=6)
    return figure, axes


def _set_scales(axes: Axes, xs: Sequence[float], ys: Sequence[float], margin: float) -> None:
    for axis, set_scale, values in ((axes.xaxis, axes.set_xscale, xs), (axes.yaxis, axes.set_yscale, ys)):
        if values and min(values) > 0 and max(values) / min(values) >= LOG_FROM:
            set_scale("log")
            few_decades = max(values) / min(values) < 300
            axis.set_major_locator(LogLocator(subs=(1, 2, 5) if few_decades else (1,), numticks=9))
            axis.set_minor_locator(NullLocator())
            axis.set_minor_formatter(NullFormatter())
        else:
            axis.set_major_locator(MaxNLocator(4))
        axis.set_major_formatter(FuncFormatter(lambda value, _: compact(value)))
    if xs:  # already in the unit that its title names
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: significant(value)))
    axes.margins(x=margin, y=0.12)
    axes.autoscale_view()


def _draw_front(axes: Axes, points: Sequence[tuple[float, float]]) -> None:
    if len(points) > 1:
        xs, ys = zip(*points, strict=True)
        axes.step(xs, ys, where="post", color=COLOURS["muted"], linewidth=1, zorder=2)


NAME_SHARE = 0.16
"""Height of a guide's name and its distance, as a share of the panel."""


def _guide(axes: Axes, value: float | None, name: str, style: str) -> None:
    """A level line with its name at the left end."""
    if not finite([value]) or value is None or (value <= 0 and axes.get_yscale() == "log"):
        return
    axes.axhline(value, linestyle=style, color=COLOURS["muted"], linewidth=1.1, zorder=1)
    if style == ":":  # its name is below it, and must not lie on the axis
        height = axes.bbox.height
        line, bottom = axes.transData.transform((0, value))[1], axes.bbox.y0
        if line - bottom < NAME_SHARE * height:
            axes.set_ylim(bottom=axes.transData.inverted().transform((0, line - 1.2 * NAME_SHARE * height))[1])
    axes.annotate(
        name,
        (0, value),
        (2, 3 if style == "--" else -3),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        va="bottom" if style == "--" else "top",
        fontsize=9.5,
    )


def _write_numbers(axes: Axes, places: Sequence[tuple[float, float, Mark]]) -> None:
    """Each arm's number right of its point; numbers that would cover one another are moved apart."""
    axes.figure.draw_without_rendering()  # type: ignore[union-attr]
    spots = [axes.transData.transform((x, y)) for x, y, _ in places]
    heights = spread_apart([(float(x), float(y)) for x, y in spots])
    for (_, y), height, (data_x, data_y, mark) in zip(spots, heights, places, strict=True):
        moved = abs(height - y) > LABEL_PIXELS / 2
        axes.annotate(
            str(mark.number),
            (data_x, data_y),
            (14 if moved else 8, height - y),
            textcoords="offset points",
            va="center",
            fontweight="bold",
            color=COLOURS[mark.colour],
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "linewidth": 0.7, "color": COLOURS[mark.colour], "shrinkA": 1}
            if moved
            else None,
        )


def spread_apart(spots: Sequence[tuple[float, float]]) -> list[float]:
    """Heights near those of the spots (x, y) at which numbers of one column do not cover one another, in their order.

    With h_i the height of the i-th from below and L a number's height, the least sum of (h_i - y_i)^2 under
    h_(i+1) >= h_i + L is isotonic regression of y_i - i L.
    """
    heights = [y for _, y in spots]
    column: list[int] = []
    by_x = sorted(range(len(spots)), key=lambda i: spots[i][0])
    for i, after in itertools.zip_longest(by_x, by_x[1:]):
        column.append(i)
        if after is None or spots[after][0] - spots[i][0] > 1.5 * LABEL_PIXELS:
            column.sort(key=lambda k: spots[k][1])
            steps = [LABEL_PIXELS * rank for rank in range(len(column))]
            fitted = isotonic_regression([heights[k] - step for k, step in zip(column, steps, strict=True)]).x
            for k, step, level in zip(column, steps, fitted, strict=True):
                heights[k] = float(level) + step
            column = []
    return heights


def _inline(figure: Figure, alt: str) -> Markup:
    """The figure as an <svg> element for an HTML page, labelled, with page colours and ids of its own."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    drawing = file.getvalue()
    body = drawing[drawing.index("<svg") :]
    body = re.sub(r"<svg[^>]*>", "", body, count=1)
    # matplotlib's own style sheet would apply to the whole page
    body = re.sub(r"<style.*?</style>|<metadata>.*?</metadata>|<!--.*?-->", "", body, flags=re.DOTALL)
    own = f"p{content_hash([body, alt], 8)}-"
    body = re.sub(r'\bid="', f'id="{own}', body)
    body = re.sub(r"url\(#", f"url(#{own}", body)
    body = re.sub(r'xlink:href="#', f'href="#{own}', body)
    for name, placeholder in COLOURS.items():
        body = body.replace(placeholder, f"var(--{name})")
    head = Markup('<svg class="plot" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(WIDTH, HEIGHT, alt)
    return head + Markup(re.sub(r"\n\s*", "\n", body))
