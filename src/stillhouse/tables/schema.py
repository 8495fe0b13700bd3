"""What the columns of a table are, and which tables a synthetic one cannot be learned from.

A column's kind decides its likelihood: `categorical` (one of a list), `mixed` (a number that is sometimes one of a
few exact values, such as 0 or missing, and otherwise continuous), or `constant` (written back, not learned).
A zero-inflated column is `mixed` with the atom 0, a plain continuous one is `mixed` without atoms.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import pandas as pd

from stillhouse.core.errors import UserError, require

Kind = Literal["categorical", "mixed", "constant"]

MISSING = "\0missing"
"""Stands for a missing value among a column's categories and atoms."""
LEAST_ROWS = 100
LEAST_CLASS_ROWS = 20
MOST_LEVELS = 500
"""A text column with more levels is free text or an identifier."""
MOST_GROUPS = 20
MOST_DISCRETE_NUMBERS = 20
"""A number with at most this many values is categorical: exact, and free to have any shape."""
LEAST_ATOM_SHARE = 0.05
"""A number equal to one exact value this often has an atom there."""
_MONTH = r"(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_DATE = re.compile(
    r"\d{4}([-/.])\d{1,2}\1\d{1,2}([ T]\d{1,2}:\d{2}.*)?|\d{1,2}([-/.])\d{1,2}\3\d{2,4}.*"
    rf"|{_MONTH} \d{{1,2}},? \d{{4}}.*|\d{{1,2}}\.?[ -]{_MONTH}[ -]\d{{2,4}}.*",
    re.IGNORECASE,
)

Value = str | int | float | bool


@dataclass(frozen=True)
class Column:
    """One column: its kind, its values, and how to write them back."""

    name: str
    kind: Kind
    dtype: str
    """pandas dtype it was read with."""
    levels: tuple[Value, ...] = ()
    """Categories, or the atoms of a mixed column; MISSING for a missing value."""
    decimals: int = 0
    """Digits after the point of a mixed column (0 for integers)."""
    low: float = 0.0
    high: float = 0.0


@dataclass(frozen=True)
class Schema:
    """All columns of a table in order, the label and the sensitive ones by name.

    The lists of categories are the whole table's (a domain, as a data dictionary states it); anything that is
    estimated comes from training rows only.
    """

    columns: tuple[Column, ...]
    label: str
    sensitive: tuple[str, ...]
    positive: tuple[Value, ...]
    """Label values that count as the positive class in metrics."""

    def column(self, name: str) -> Column:
        """The column called `name`.

        Raises:
            UserError: there is none.
        """
        for column in self.columns:
            if column.name == name:
                return column
        raise UserError(f"no column {name!r}", f"columns: {', '.join(c.name for c in self.columns)}")

    @property
    def features(self) -> tuple[Column, ...]:
        """The columns that are learned and are neither label nor sensitive."""
        aside = {self.label, *self.sensitive}
        return tuple(c for c in self.columns if c.name not in aside and c.kind != "constant")


def infer_schema(table: pd.DataFrame, label: str, sensitive: Sequence[str], positive: str = "") -> Schema:
    """Type every column of a checked table.

    Args:
        table: the user's rows.
        label, sensitive: column names.
        positive: label value of the positive class; the rarer of two when empty.

    Raises:
        UserError: the table cannot be used; the line names the columns and the mend.
    """
    check_columns(table, label, sensitive)
    check_rows(table, label, sensitive)
    forced = {label, *sensitive}
    columns = tuple(_type_column(table[name], name in forced) for name in map(str, table.columns))
    learned = [c for c in columns if c.kind != "constant" and c.name not in forced]
    require(bool(learned), "no column is left beside the label and the sensitive ones", "give a table with features")
    return Schema(columns, label, tuple(sensitive), _positive_values(table[label], positive))


def check_columns(table: pd.DataFrame, label: str, sensitive: Sequence[str]) -> None:
    """Refuse tables whose columns cannot be learned, naming all of them at once.

    Raises:
        UserError: repeated or missing names, dates, identifiers, free text, empty columns.
    """
    names = [str(name) for name in table.columns]
    repeated = sorted({name for name in names if names.count(name) > 1})
    require(not repeated, f"column names repeat: {', '.join(repeated)}", "give every column its own name")
    require(bool(label), "no label column named", "name it with --label")
    require(bool(sensitive), "no sensitive column named", "name one or more with --sensitive")
    for name in (label, *sensitive):
        require(name in names, f"no column {name!r}", f"columns: {', '.join(names)}")
    require(label not in sensitive, f"{label!r} is both label and sensitive", "name two different columns")
    require(len(set(sensitive)) == len(sensitive), "a sensitive column is named twice", "name each once")
    found = {name: reason for name in names if (reason := unusable(table[name]))}
    if found:
        named = ", ".join(f"{name} ({reason})" for name, reason in found.items())
        raise UserError(f"cannot learn these columns: {named}", f"leave them out with --drop {' '.join(found)}")


def unusable(values: pd.Series) -> str:
    """Why a column cannot be learned ("dates", "identifier", "free text", "empty"), or an empty string."""
    present = values.dropna()
    if present.empty:
        return "empty"
    if pd.api.types.is_datetime64_any_dtype(values) or pd.api.types.is_timedelta64_dtype(values):
        return "dates"
    text = not pd.api.types.is_numeric_dtype(values)
    # numbers with gaps are read as floats, so whole floats are looked at too
    whole = not text and bool((np.floor(present.to_numpy(float)) == present.to_numpy(float)).all())
    distinct = present.nunique()
    if text and present.astype(str).head(200).str.strip().map(_DATE.fullmatch).notna().all():
        return "dates"
    if (whole or text) and len(present) >= LEAST_ROWS and distinct == len(present):
        return "identifier: every value is different"
    if text and distinct > MOST_LEVELS:
        return f"free text: {distinct} different values"
    return "infinite numbers" if not text and np.isinf(present.to_numpy(float)).any() else ""


def check_rows(table: pd.DataFrame, label: str, sensitive: Sequence[str]) -> None:
    """Refuse tables with too few rows, classes or groups to learn from.

    Raises:
        UserError: names the column or value, and how many rows it has.
    """
    require(len(table) >= LEAST_ROWS, f"the table has {len(table)} rows", f"give at least {LEAST_ROWS}")
    for name, role in [(label, "label"), *((name, "sensitive column") for name in sensitive)]:
        values = table[name]
        gaps = int(values.isna().sum())
        require(gaps == 0, f"the {role} {name!r} misses {gaps} values", "fill them in or leave those rows out")
        counts = values.value_counts()
        require(len(counts) > 1, f"the {role} {name!r} has one value ({counts.index[0]})", "name another column")
        require(
            len(counts) <= MOST_GROUPS,
            f"the {role} {name!r} has {len(counts)} different values",
            f"group them into at most {MOST_GROUPS} first",
        )
        require(
            int(counts.iloc[-1]) >= LEAST_CLASS_ROWS,
            f"the {role} {name!r} has {counts.iloc[-1]} rows with the value {counts.index[-1]}",
            f"leave those rows out or merge the value with another (at least {LEAST_CLASS_ROWS} rows each)",
        )


def _type_column(values: pd.Series, forced: bool) -> Column:
    name, dtype = str(values.name), _dtype_name(values)
    present = values.dropna()
    missing: tuple[Value, ...] = (MISSING,) if len(present) < len(values) else ()
    distinct = present.nunique()
    if distinct == 1 and not missing:
        return Column(name, "constant", dtype, (plain(present.iloc[0]),))
    number = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    if forced or not number or distinct <= MOST_DISCRETE_NUMBERS:
        return Column(name, "categorical", dtype, (*_levels(present), *missing))
    shares = present.value_counts(normalize=True)
    atoms = sorted(plain(value) for value in shares.index[shares >= LEAST_ATOM_SHARE])
    low, high = float(present.min()), float(present.max())
    return Column(name, "mixed", dtype, (*atoms, *missing), _decimals(present), low, high)


def _levels(values: pd.Series) -> list[Value]:
    """The different values: in the order of a categorical dtype, else sorted."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        return [plain(value) for value in values.dtype.categories]
    return sorted((plain(value) for value in values.unique()), key=_order)


def _dtype_name(values: pd.Series) -> str:
    ordered = isinstance(values.dtype, pd.CategoricalDtype) and values.dtype.ordered
    return "ordered category" if ordered else str(values.dtype)


def plain(value: Hashable) -> Value:
    """A numpy or pandas scalar as a plain Python value, so that it can be written as JSON."""
    return cast(Value, cast(Any, value).item() if hasattr(value, "item") else value)


def _order(value: Value) -> tuple[bool, Any]:
    return isinstance(value, str), value


def _decimals(numbers: pd.Series) -> int:
    """Digits after the point that the column uses, up to 6."""
    values = numbers.to_numpy(float)
    for digits in range(6):
        if np.allclose(values, np.round(values, digits), rtol=0, atol=10.0 ** -(digits + 4)):
            return digits
    return 6


def _positive_values(label: pd.Series, positive: str) -> tuple[Value, ...]:
    counts = label.value_counts()
    if positive:
        chosen = tuple(plain(v) for v in counts.index if str(v) == positive)
        known = ", ".join(map(str, counts.index))
        require(bool(chosen), f"the label has no value {positive!r}", f"--positive is one of: {known}")
        return chosen
    require(len(counts) == 2, f"the label has {len(counts)} values", "say which is the positive class with --positive")
    return (plain(counts.index[-1]),)
