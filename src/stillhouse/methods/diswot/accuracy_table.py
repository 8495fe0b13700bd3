"""Networks whose accuracy is known, from a CSV file: what scores are held against."""

from __future__ import annotations

import csv
import gzip
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stillhouse.core.errors import UserError, require
from stillhouse.vision.cells import cell_description, cell_of
from stillhouse.vision.spaces import Description, Space


def read_accuracies(path: Path, space: Space, column: str) -> list[tuple[Description, float]]:
    """Networks of a space and their accuracies, a row each.

    A network is given by columns named like the space's options (those left out keep their first value), by a column
    `arch` with a string of NAS-Bench-201 (space cells), or by a column `depths` with the blocks of each stage, e.g. 357
    (space resnets).

    Raises:
        UserError: the file is missing, a column is, or a row describes no network of the space.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as a table ({error})", "give a CSV file, perhaps gzipped") from error
    require(bool(rows), f"{path} has no rows", "give a row a network")
    require(
        column in rows[0],
        f"{path} has no column {column!r}",
        f"choose one of {', '.join(name for name in rows[0] if name)}",
    )
    return [
        (_description(row, space, f"row {i + 2} of {path}"), _number(row[column], f"row {i + 2} of {path}"))
        for i, row in enumerate(rows)
    ]


def _description(row: Mapping[str, str], space: Space, where: str) -> Description:
    base: dict[str, Any] = {option: values[0] for option, values in space.choices.items()}
    if space.name == "cells" and "arch" in row:
        return {**base, **cell_description(cell_of(row["arch"]))}
    if space.name == "resnets" and "depths" in row:
        given: dict[str, str] = {f"blocks{i + 1}": digit for i, digit in enumerate(row["depths"])} | {"width": "16"}
    else:
        given = {option: row[option] for option in space.choices if row.get(option)}
        require(
            bool(given), f"{where} names no option of space {space.name}", f"its options are {', '.join(space.choices)}"
        )
    for option, text in given.items():
        values = {str(value): value for value in space.choices.get(option, ())}
        require(text in values, f"{where} has {option}={text!r}", f"space {space.name} knows {', '.join(values)}")
        base[option] = values[text]
    return base


def _number(text: str | None, where: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    require(math.isfinite(value), f"{where} has no accuracy ({text!r})", "give a number, or leave the row out")
    return value
