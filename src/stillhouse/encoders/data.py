"""Labelled texts or pairs of texts: files of one's own, public sets below $STILLHOUSE_DATA, and one built in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from stillhouse.core.errors import UserError, first_line, require
from stillhouse.core.files import content_hash
from stillhouse.core.seeding import derive_seed

FIRST_COLUMNS = ("text", "sentence", "sentence1", "question", "text1", "premise", "review", "title")
SECOND_COLUMNS = ("sentence2", "text2", "pair", "hypothesis", "question2")
LABEL_COLUMNS = ("label", "class", "category", "target", "intent")
SELECT_SHARE, REPORT_SHARE = 0.15, 0.15
MOST_SELECT = 800
"""Texts held out to choose on; more would only cost training texts and time."""


@dataclass(frozen=True)
class Texts:
    """Texts, or pairs of texts, and the index of each one's class."""

    first: tuple[str, ...]
    second: tuple[str, ...] | None
    labels: np.ndarray
    """[texts] int64."""

    def __len__(self) -> int:
        return len(self.first)

    def take(self, index: Sequence[int] | np.ndarray) -> Texts:
        """These texts, in this order."""
        second = None if self.second is None else tuple(self.second[i] for i in index)
        return Texts(tuple(self.first[i] for i in index), second, self.labels[np.asarray(index, dtype=np.int64)])


@dataclass(frozen=True)
class TextData:
    """A classification task with its three splits: train, select (to choose on) and report (to be judged on)."""

    name: str
    class_names: tuple[str, ...]
    train: Texts
    select: Texts
    report: Texts
    metric: str = "accuracy"
    """accuracy, macro_f1 or mcc (Matthews correlation): the task's own score."""

    @property
    def pairs(self) -> bool:
        """Whether an example is a pair of texts."""
        return self.train.second is not None

    @property
    def content_hash(self) -> str:
        """Changes with any text or label of the train and select splits."""
        parts = [repr(self.class_names)]
        for texts in (self.train, self.select):
            parts += [repr(texts.first), repr(texts.second), repr(texts.labels.tolist())]
        return content_hash(parts)


def make_data(
    name: str, first: Sequence[str], second: Sequence[str] | None, labels: Sequence[str], metric: str = "accuracy"
) -> TextData:
    """Split rows into train (70 %), select and report (15 % each), by class, the same way in every run.

    Raises:
        UserError: fewer than two classes, or too few rows of one.
    """
    class_names, index = class_index(name, labels)
    texts = Texts(tuple(first), None if second is None else tuple(second), index)
    train, rest = split_by_class(texts, 1 - SELECT_SHARE - REPORT_SHARE)
    select, report = split_by_class(rest, SELECT_SHARE / (SELECT_SHARE + REPORT_SHARE))
    return TextData(name, class_names, train, cut(select, MOST_SELECT), report, metric)


def class_index(name: str, labels: Sequence[str]) -> tuple[tuple[str, ...], np.ndarray]:
    """Sorted class names and each label's index among them.

    Raises:
        UserError: a label is missing, there is only one class, or a class has fewer than four rows.
    """
    missing = [i for i, label in enumerate(labels) if not str(label).strip() or str(label) == "nan"]
    require(not missing, f"{name} has no label in row {missing[0] + 1 if missing else 0}", "label it or remove the row")
    names, index, counts = np.unique([str(label) for label in labels], return_inverse=True, return_counts=True)
    require(len(names) > 1, f"{name} has only the class {str(names[0])!r}", "give texts of two classes or more")
    rare = int(counts.argmin())
    require(
        int(counts[rare]) >= 4,
        f"class {str(names[rare])!r} of {name} has {int(counts[rare])} texts",
        "give every class four texts or more, or remove the class",
    )
    return tuple(str(n) for n in names), index.astype(np.int64)


def split_by_class(texts: Texts, share: float) -> tuple[Texts, Texts]:
    """Two parts, the first with this share of every class; by seed 0, so that all runs are judged on the same texts."""
    random = np.random.default_rng(derive_seed("split", 0))
    first: list[int] = []
    for c in np.unique(texts.labels):
        rows = random.permutation(np.flatnonzero(texts.labels == c))
        first += rows[: max(1, min(len(rows) - 1, round(share * len(rows))))].tolist()
    chosen = np.zeros(len(texts), bool)
    chosen[first] = True
    return texts.take(np.flatnonzero(chosen)), texts.take(np.flatnonzero(~chosen))


def cut(texts: Texts, most: int, seed: int = 0) -> Texts:
    """At most this many texts, drawn by seed with the classes' shares kept as well as whole numbers allow."""
    if len(texts) <= most:
        return texts
    random = np.random.default_rng(derive_seed("cut", seed))
    order = random.permutation(len(texts))
    labels = texts.labels[order]
    # position of each row within its class, over the size of the class: the smallest fractions are a stratified draw
    place = np.zeros(len(order))
    for c in np.unique(labels):
        rows = np.flatnonzero(labels == c)
        place[rows] = (np.arange(len(rows)) + 0.5) / len(rows)
    return texts.take(np.sort(order[np.argsort(place, kind="stable")[:most]]))


def with_examples(data: TextData, examples: int, seed: int) -> TextData:
    """The task with at most this many training texts (0: all), drawn by seed.

    Raises:
        UserError: fewer examples than classes.
    """
    if not examples:
        return data
    classes = len(data.class_names)
    require(examples >= 2 * classes, f"{examples} examples for {classes} classes", f"use {2 * classes} or more")
    return replace(data, train=cut(data.train, examples, seed))


def read_texts(
    data: str, text_column: str = "", pair_column: str = "", label_column: str = "", metric: str = "accuracy"
) -> TextData:
    """A CSV, TSV, JSON lines or Parquet file, or a folder with train, select (or dev) and report (or test) files of one kind.

    Raises:
        UserError: no such file, a column is missing, a label is absent or unknown to the train file, or one class only.
    """
    path = Path(data)
    columns = (text_column, pair_column, label_column)
    if path.is_dir():
        return _read_folder(path, columns, metric)
    first, second, labels = read_rows(path, *columns)
    return make_data(path.stem, first, second, labels, metric)


def _read_folder(folder: Path, columns: tuple[str, str, str], metric: str) -> TextData:
    train, report = _named(folder, ("train",)), _named(folder, ("report", "test"))
    select = _named(folder, ("select", "dev", "valid", "validation"))
    if train is None or report is None:
        raise UserError(f"{folder} has no train and test file", "name them train.csv and test.csv (or .tsv, .jsonl)")
    first, second, labels = read_rows(train, *columns)
    class_names, index = class_index(str(train), labels)
    rows = Texts(tuple(first), None if second is None else tuple(second), index)
    if select is None:
        kept, held = split_by_class(rows, 1 - min(SELECT_SHARE, MOST_SELECT / len(rows)))
        chosen = held
    else:
        kept, chosen = rows, _known(select, columns, class_names, rows)
    return TextData(
        folder.name, class_names, kept, cut(chosen, MOST_SELECT), _known(report, columns, class_names, rows), metric
    )


def _named(folder: Path, names: tuple[str, ...]) -> Path | None:
    files = (folder / f"{name}{ending}" for name in names for ending in (".csv", ".tsv", ".jsonl", ".parquet"))
    return next((file for file in files if file.is_file()), None)


def _known(file: Path, columns: tuple[str, str, str], class_names: tuple[str, ...], train: Texts) -> Texts:
    first, second, labels = read_rows(file, *columns)
    require(
        (second is None) == (train.second is None),
        f"{file} has {'single texts' if second is None else 'pairs'}, the train file has not",
        "give all files the same columns",
    )
    return Texts(tuple(first), None if second is None else tuple(second), known_labels(str(file), labels, class_names))


def known_labels(name: str, labels: Sequence[str], class_names: Sequence[str]) -> np.ndarray:
    """Each label's index among known classes.

    Raises:
        UserError: a label is not among them.
    """
    place = {c: i for i, c in enumerate(class_names)}
    unknown = next((str(label) for label in labels if str(label) not in place), None)
    if unknown is not None:
        few = ", ".join(list(class_names)[:8])
        raise UserError(f"{name} has the label {unknown!r}, which is not known", f"the known classes are: {few}")
    return np.array([place[str(label)] for label in labels], dtype=np.int64)


def read_rows(
    file: Path, text_column: str = "", pair_column: str = "", label_column: str = ""
) -> tuple[list[str], list[str] | None, list[str]]:
    """First texts, second texts (None for a task of single texts) and labels of a file.

    Raises:
        UserError: no such file, unreadable, or a column is missing; names the columns there are.
    """
    require(file.is_file(), f"no data {str(file)!r}", "give a .csv, .tsv, .jsonl or .parquet file, or a built-in name")
    table = _read_table(file)
    require(len(table) > 0, f"{file} has no rows", "give a file with texts")
    first = _column(table, text_column, FIRST_COLUMNS, file, "--text-column")
    label = _column(table, label_column, LABEL_COLUMNS, file, "--label-column")
    second = pair_column or next((c for c in SECOND_COLUMNS if c in table.columns and c not in (first, label)), "")
    require(
        not second or second in table.columns,
        f"{file} has no column {second!r} for the second text",
        f"its columns are: {', '.join(map(str, table.columns))}",
    )
    for column in filter(None, (first, second)):
        empty = table[column].astype(str).str.strip().isin(["", "nan", "None"])
        where = "" if not empty.any() else str(int(np.flatnonzero(empty.to_numpy())[0]) + 1)
        require(not empty.any(), f"{file} has no {column} in row {where}", "fill it in or remove the row")
    texts = table[first].astype(str).tolist()
    return texts, table[second].astype(str).tolist() if second else None, table[label].astype(str).tolist()


def _read_table(file: Path) -> pd.DataFrame:
    try:
        if file.suffix == ".jsonl":
            return pd.read_json(file, lines=True, dtype=False)
        if file.suffix == ".parquet":
            return pd.read_parquet(file)
        if file.suffix in (".csv", ".tsv"):
            return pd.read_csv(file, sep="\t" if file.suffix == ".tsv" else ",", dtype=str, keep_default_na=False)
    except Exception as error:  # pandas and pyarrow let through whatever a damaged file makes their code run into
        raise UserError(f"{file} cannot be read ({first_line(error)})", "mend the file") from error
    raise UserError(f"{file} is not a table that can be read", "give a .csv, .tsv, .jsonl or .parquet file")


def _column(table: pd.DataFrame, given: str, usual: Sequence[str], file: Path, option: str) -> str:
    found = given or next((c for c in usual if c in table.columns), "")
    if not found or found not in table.columns:
        wanted = f"column {given!r}" if given else f"column called {' or '.join(usual[:3])}"
        columns = ", ".join(map(str, table.columns))
        raise UserError(f"{file} has no {wanted}", f"name one of its columns with {option}: {columns}")
    return found
