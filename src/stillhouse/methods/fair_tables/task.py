"""What a run works on: split, encoded rows of one syntax, and what metrics need to know about them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from stillhouse.core.errors import require
from stillhouse.core.seeding import derive_seed
from stillhouse.methods.fair_tables.networks import Syntax
from stillhouse.methods.fair_tables.stages import Data
from stillhouse.methods.fair_tables.table_syntax import TableSyntax
from stillhouse.tables.codec import Block, TableCodec, fit_codec
from stillhouse.tables.datasets import Source
from stillhouse.tables.downstream import Rows
from stillhouse.tables.schema import infer_schema


@dataclass(frozen=True)
class Task:
    """Rows of one kind of data, split once by seed before anything is fitted.

    Attributes:
        syntax: the exchangeable encoder, decoder and likelihood.
        train: rows that anything is learned from.
        select: rows to choose settings by.
        report: rows that the result is measured on.
        groups: names of the sensitive groups.
        classes: names of the label's classes.
        positive: class numbers that count as positive.
        blocks: where each column lies in an encoded row.
        codec: back to a table's own rows; None where the rows are images.
    """

    name: str
    syntax: Syntax
    train: Data
    select: Data
    report: Data
    groups: tuple[str, ...]
    classes: tuple[str, ...]
    positive: tuple[int, ...]
    blocks: tuple[Block, ...]
    codec: TableCodec | None

    def rows(self, data: Data) -> Rows:
        """Arrays for metrics and downstream models: features without the sensitive columns, label 0/1."""
        return Rows(data.x.numpy(), np.isin(data.y.numpy(), self.positive).astype(int), data.s.numpy())

    def aware(self, data: Data) -> Rows:
        """The same with the sensitive group among the features."""
        rows = self.rows(data)
        return Rows(np.concatenate([rows.x, np.eye(len(self.groups), dtype=np.float32)[rows.s]], 1), rows.y, rows.s)


def table_task(source: Source, name: str, most_rows: int, seed: int) -> Task:
    """Check, type, split (60 % train, 20 % select, 20 % report) and encode a table.

    Raises:
        UserError: the table cannot be used; see `infer_schema`.
    """
    table = shorten(source.table, most_rows, seed)
    schema = infer_schema(table, source.label, source.sensitive, source.positive)
    parts = split(len(table), seed)
    codec = fit_codec(schema, table.iloc[parts[0]])
    known = set(codec.groups)
    rows = pd.Series(list(zip(*(table[c].tolist() for c in schema.sensitive), strict=True)))
    require(
        bool(rows.isin(known).all()), "a sensitive combination is too rare to be learned", "merge rare values first"
    )
    encoded = Data(
        torch.from_numpy(codec.encode(table)),
        torch.from_numpy(codec.group_numbers(table)),
        torch.from_numpy(codec.label_numbers(table)),
    )
    train, select, report = (encoded.take(torch.from_numpy(part)) for part in parts)
    _require_both_classes(train, report)
    return Task(
        name,
        TableSyntax(codec.blocks),
        train,
        select,
        report,
        tuple(" / ".join(map(str, group)) for group in codec.groups),
        tuple(map(str, codec.classes)),
        tuple(codec.classes.index(value) for value in schema.positive),
        codec.blocks,
        codec,
    )


def shorten(table: pd.DataFrame, most_rows: int, seed: int) -> pd.DataFrame:
    """At most `most_rows` rows drawn by seed (0: all)."""
    if not most_rows or len(table) <= most_rows:
        return table
    chosen = np.random.default_rng(derive_seed(seed, "rows")).permutation(len(table))[:most_rows]
    return table.iloc[np.sort(chosen)].reset_index(drop=True)


def split(rows: int, seed: int) -> tuple[np.ndarray[Any, Any], ...]:
    """Row numbers of train, select and report."""
    order = np.random.default_rng(derive_seed(seed, "split")).permutation(rows)
    first, second = int(0.6 * rows), int(0.8 * rows)
    return order[:first], order[first:second], order[second:]


def _require_both_classes(*parts: Data) -> None:
    for part in parts:
        require(len(part.y.unique()) > 1, "a split has one label class only", "give more rows of the rarer class")
