"""Rows as vectors and back: one-hot blocks for categories and atoms, normal scores for continuous values.

A categorical column is a one-hot block. A mixed column is a one-hot gate over its atoms and "continuous" (left out
when it has no atoms), and one number: the value's normal score Phi^-1(rank), 0 on an atom. Quantiles are learned
from the rows given to `fit`, the training rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from stillhouse.core.errors import UserError, require
from stillhouse.tables.schema import MISSING, Column, Schema

QUANTILES = 201

Array = NDArray[np.float32]
Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Block:
    """Where one column lies in a row's vector: `levels` one-hot places, then a number if it is continuous."""

    column: Column
    start: int
    levels: int
    continuous: bool

    @property
    def width(self) -> int:
        """Places of the block."""
        return self.levels + self.continuous

    @property
    def number(self) -> int:
        """Place of the normal score."""
        return self.start + self.levels


def lay_out(columns: Sequence[Column]) -> tuple[Block, ...]:
    """The blocks of some columns, one after another."""
    sizes = [_size(column) for column in columns]
    starts = accumulate((levels + continuous for levels, continuous in sizes), initial=0)
    return tuple(Block(c, start, *size) for c, start, size in zip(columns, starts, sizes, strict=False))


def _size(column: Column) -> tuple[int, bool]:
    if column.kind == "categorical":
        return len(column.levels), False
    return (len(column.levels) + 1 if column.levels else 0), True


@dataclass(frozen=True)
class TableCodec:
    """Encodes the feature columns of a schema, its sensitive group and its label.

    Attributes:
        schema: the table's columns.
        quantiles: per mixed column, `QUANTILES` increasing values of the training rows.
        groups: combinations of sensitive values, in the order of group numbers.
    """

    schema: Schema
    quantiles: Mapping[str, Sequence[float]]
    groups: tuple[tuple[Any, ...], ...]

    @property
    def blocks(self) -> tuple[Block, ...]:
        """One block a feature column."""
        return lay_out(self.schema.features)

    @property
    def width(self) -> int:
        """Length of an encoded row."""
        return sum(block.width for block in self.blocks)

    @property
    def classes(self) -> tuple[Any, ...]:
        """Label values, in the order of class numbers."""
        return self.schema.column(self.schema.label).levels

    def encode(self, table: pd.DataFrame) -> Array:
        """Feature columns as (rows, width).

        Raises:
            UserError: a column is missing, or holds a value that the schema does not know.
        """
        require_columns(self.schema, table)
        out = np.zeros((len(table), self.width), np.float32)
        for block in self.blocks:
            self._encode_block(block, table[block.column.name], out)
        return out

    def _encode_block(self, block: Block, values: pd.Series, out: Array) -> None:
        column, rows = block.column, np.arange(len(values))
        if column.kind == "categorical":
            out[rows, block.start + codes(values, column)] = 1
            return
        atoms = _atom_codes(values, column)
        free = atoms == len(column.levels)
        if block.levels:
            out[rows, block.start + atoms] = 1
        out[free, block.number] = self._normal_score(column.name, values.to_numpy(float)[free])

    def _normal_score(self, name: str, values: Doubles) -> Doubles:
        grid = np.asarray(self.quantiles[name])
        ranks = np.linspace(0.5 / QUANTILES, 1 - 0.5 / QUANTILES, QUANTILES)
        # middle of the ranks that share a value, so that ties do not all fall to one side
        left = np.interp(values, grid, ranks)
        right = 1 - np.interp(-values, -grid[::-1], 1 - ranks[::-1])
        return np.asarray(ndtri((left + right) / 2))

    def decode(self, encoded: Array) -> dict[str, Any]:
        """Feature columns from (rows, width), each block's one-hot places 0 or 1."""
        return {block.column.name: self._decode_block(block, encoded) for block in self.blocks}

    def _decode_block(self, block: Block, encoded: Array) -> Any:
        column = block.column
        which = encoded[:, block.start : block.number].argmax(1) if block.levels else None
        if not block.continuous:
            assert which is not None
            return from_codes(which, column)
        values = self.values_at(block, encoded[:, block.number])
        for i, atom in enumerate(column.levels):
            assert which is not None
            values[which == i] = np.nan if atom == MISSING else float(atom)
        return values

    def values_at(self, block: Block, scores: Sequence[float] | Array) -> Doubles:
        """The values of a continuous column at some normal scores, with the digits that the column uses."""
        ranks = np.linspace(0.5 / QUANTILES, 1 - 0.5 / QUANTILES, QUANTILES)
        values = np.interp(ndtr(scores), ranks, np.asarray(self.quantiles[block.column.name]))
        return np.round(values, block.column.decimals)

    def group_numbers(self, table: pd.DataFrame) -> Integers:
        """Group number of each row: which combination of sensitive values it has.

        Raises:
            UserError: a combination that the training table did not have.
        """
        known = {group: i for i, group in enumerate(self.groups)}
        rows = list(zip(*(table[name].tolist() for name in self.schema.sensitive), strict=True))
        unknown = next((row for row in rows if row not in known), None)
        if unknown is not None:
            raise UserError(f"no training row has the sensitive values {unknown}", "leave those rows out")
        return np.array([known[row] for row in rows])

    def label_numbers(self, table: pd.DataFrame) -> Integers:
        """Class number of each row's label."""
        return codes(table[self.schema.label], self.schema.column(self.schema.label))

    def to_table(self, features: Array, groups: Integers, labels: Integers) -> pd.DataFrame:
        """Rows in the input's column order and dtypes from encoded features, group and class numbers."""
        data = self.decode(features)
        data[self.schema.label] = from_codes(labels, self.schema.column(self.schema.label))
        for i, name in enumerate(self.schema.sensitive):
            data[name] = pd.Series([group[i] for group in self.groups]).to_numpy()[groups]
        return _typed(data, self.schema, len(features))


def fit_codec(schema: Schema, table: pd.DataFrame) -> TableCodec:
    """Learn the quantiles of the continuous columns and the list of groups from training rows."""
    quantiles = {}
    for column in schema.features:
        if column.kind == "mixed":
            free = table[column.name][_atom_codes(table[column.name], column) == len(column.levels)]
            ranks = np.linspace(0, 1, QUANTILES)
            grid = np.quantile(free.to_numpy(float), ranks) if len(free) else np.full(QUANTILES, column.low)
            quantiles[column.name] = tuple(map(float, grid))
    groups = sorted(set(zip(*(table[name].tolist() for name in schema.sensitive), strict=True)), key=str)
    return TableCodec(schema, quantiles, tuple(groups))


def require_columns(schema: Schema, table: pd.DataFrame) -> None:
    """Raise `UserError` unless `table` has the schema's columns."""
    missing = [c.name for c in schema.columns if c.name not in table.columns]
    require(not missing, f"columns are missing: {', '.join(missing)}", "give a table with the columns of the run's")


def codes(values: pd.Series, column: Column) -> Integers:
    """Number of each value among the column's levels.

    Raises:
        UserError: a value that the training table did not have.
    """
    index = pd.Index([level for level in column.levels if level != MISSING], dtype=object)
    found = index.get_indexer(values.astype(object))
    if MISSING in column.levels:
        found = np.where(values.isna(), column.levels.index(MISSING), found)
    if (found < 0).any():
        unseen = values.iloc[int(np.argmax(found < 0))]
        shown = "a missing value" if pd.isna(unseen) else f"the value {unseen!r}"
        raise UserError(
            f"column {column.name!r} has {shown}, which the training table had not",
            "leave those rows out or train anew",
        )
    return np.asarray(found, np.int64)


def from_codes(numbers: Integers, column: Column) -> Any:
    """Values of level numbers."""
    levels = np.array([None if level == MISSING else level for level in column.levels], dtype=object)
    return levels[numbers]


def _atom_codes(values: pd.Series, column: Column) -> Integers:
    """Number of the atom that a value equals, or the number of atoms."""
    numbers = values.to_numpy(float)
    found = np.full(len(values), len(column.levels))
    for i, atom in enumerate(column.levels):
        found[np.isnan(numbers) if atom == MISSING else numbers == float(atom)] = i
    if np.isnan(numbers[found == len(column.levels)]).any():
        raise UserError(
            f"column {column.name!r} has a missing value, which the training table had not", "fill it in or train anew"
        )
    return found


def _typed(data: Mapping[str, Any], schema: Schema, rows: int) -> pd.DataFrame:
    columns = {}
    for column in schema.columns:
        values = [column.levels[0]] * rows if column.kind == "constant" else data[column.name]
        columns[column.name] = pd.Series(values).astype(_dtype(column))
    return pd.DataFrame(columns)


def _dtype(column: Column) -> Any:
    if column.dtype in ("category", "ordered category"):
        levels = [level for level in column.levels if level != MISSING]
        return pd.CategoricalDtype(levels, ordered=column.dtype == "ordered category")
    return column.dtype
