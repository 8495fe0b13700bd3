"""Tables from files: CSV and Parquet, and the errors they come with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from stillhouse.core.errors import UserError, first_line, require


def read_table(path: Path, drop: Sequence[str] = ()) -> pd.DataFrame:
    """The rows of a CSV or Parquet file without the columns in `drop`; text is stripped of spaces around it.

    Raises:
        UserError: no such file, another format, unreadable content, no rows, or a name in `drop` that is not there.
    """
    require(path.is_file(), f"no file {path}", "give a .csv or .parquet file, or a built-in name")
    readers = {".csv": _read_csv, ".parquet": pd.read_parquet}
    require(path.suffix in readers, f"{path} is neither .csv nor .parquet", "convert it to one of them")
    try:
        table: pd.DataFrame = readers[path.suffix](path)
    except Exception as error:  # pandas and pyarrow let through whatever a damaged file makes their code run into
        raise UserError(
            f"{path} cannot be read as {path.suffix[1:]} ({first_line(error)})", "check the file"
        ) from error
    require(len(table) > 0, f"{path} has no rows", "give a table with rows")
    return without(table, drop)


def without(table: pd.DataFrame, drop: Sequence[str]) -> pd.DataFrame:
    """`table` without some columns.

    Raises:
        UserError: a column to leave out is not there.
    """
    for name in drop:
        require(name in table.columns, f"no column {name!r} to drop", f"columns: {', '.join(map(str, table.columns))}")
    return table.drop(columns=list(drop))


def _read_csv(path: Path) -> pd.DataFrame:
    table = pd.read_csv(path, skipinitialspace=True)
    for name in table.columns:
        if pd.api.types.is_string_dtype(table[name]):
            table[name] = table[name].str.strip()
    return table
