"""Numbers as a reader wants them: three significant digits, one unit a column, words for what is missing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MISSING = "–"


@dataclass(frozen=True)
class Unit:
    """A number of `size` base units, called `name`."""

    name: str
    size: float


SECONDS = (Unit("µs", 1e-6), Unit("ms", 1e-3), Unit("s", 1.0), Unit("min", 60.0), Unit("h", 3600.0))
BYTES = (Unit("bytes", 1.0), Unit("kB", 1e3), Unit("MB", 1e6), Unit("GB", 1e9))
COUNT = (Unit("", 1.0), Unit("thousand", 1e3), Unit("million", 1e6), Unit("billion", 1e9))


def finite(values: Iterable[float | None]) -> list[float]:
    """The values that are there and finite."""
    return [value for value in values if value is not None and math.isfinite(value)]


def column_unit(values: Iterable[float | None], ladder: Sequence[Unit]) -> Unit:
    """The largest unit that keeps the middle value of a column at 1 or more."""
    sizes = sorted(abs(value) for value in finite(values) if value)
    middle = sizes[len(sizes) // 2] if sizes else 1.0
    fitting = [unit for unit in ladder if unit.size <= middle]
    return fitting[-1] if fitting else ladder[0]


def column_decimals(values: Iterable[float | None]) -> int:
    """Decimals for three digits of a column's middle value and one of its smallest, at most four; points align."""
    sizes = sorted(abs(value) for value in finite(values) if value)
    if not sizes or all(size == int(size) for size in sizes):
        return 0
    middle = sizes[(len(sizes) - 1) // 2]
    return min(4, max(0, 2 - math.floor(math.log10(middle)), -math.floor(math.log10(sizes[0]))))


def fixed(value: float | None, decimals: int) -> str:
    """`value` with thousands separators and so many decimals; a dash where there is none."""
    if value is None:
        return MISSING
    if not math.isfinite(value):
        return _not_finite(value)
    if value and abs(value) < 0.5 * 10.0**-decimals:
        return f"{value:.1e}"
    return f"{value:,.{decimals}f}"


def significant(value: float | None, digits: int = 3) -> str:
    """`value` to so many significant digits, without an exponent where it can be read without one."""
    if value is None:
        return MISSING
    if not math.isfinite(value):
        return _not_finite(value)
    if value == 0:
        return "0"
    magnitude = math.floor(math.log10(abs(value)))
    if not -4 <= magnitude <= 11:
        return f"{value:.{digits - 1}e}"
    text = f"{round(value, digits - 1 - magnitude):,.{max(0, digits - 1 - magnitude)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def compact(value: float) -> str:
    """`value` for an axis: 1,500 is 1.5k, 2,000,000 is 2M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{significant(value / size)}{letter}"
    return significant(value)


def in_unit(value: float, ladder: Sequence[Unit]) -> str:
    """`value` (in base units) with the unit that suits it: "12.7 ms"."""
    unit = column_unit([value], ladder)
    return f"{significant(value / unit.size)} {unit.name}".strip()


def times(ratio: float) -> str:
    """A ratio in words' size: "31×", "1.4×"."""
    return f"{ratio:,.0f}×" if ratio >= 10 else f"{ratio:.1f}×"


def _not_finite(value: float) -> str:
    return "NaN" if math.isnan(value) else ("∞" if value > 0 else "−∞")
