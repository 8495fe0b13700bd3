"""Writing a table of any length, a block of rows at a time, in the form of the table it was learned from."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from stillhouse.core.errors import UserError, require


def write_table(blocks: Iterable[pd.DataFrame], path: Path) -> int:
    """Write the blocks to a CSV or Parquet file and return the number of rows; only one block is held at a time.

    The file appears when it is whole.

    Raises:
        UserError: another format, or the place cannot be written to.
    """
    writers = {".csv": _write_csv, ".parquet": _write_parquet}
    require(path.suffix in writers, f"{path} is neither .csv nor .parquet", "choose one of these endings")
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = writers[path.suffix](blocks, beside)
        beside.replace(path)
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror or error})", "choose a writable place") from error
    finally:
        if beside.parent.is_dir():
            beside.unlink(missing_ok=True)
    return rows


def _write_csv(blocks: Iterable[pd.DataFrame], path: Path) -> int:
    rows = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        for block in blocks:
            block.to_csv(file, index=False, header=rows == 0)
            rows += len(block)
    return rows


def _write_parquet(blocks: Iterable[pd.DataFrame], path: Path) -> int:
    rows, writer = 0, None
    try:
        for block in blocks:
            table = pa.Table.from_pandas(block, schema=writer.schema if writer else None, preserve_index=False)
            writer = writer or pq.ParquetWriter(path, table.schema)
            writer.write_table(table)
            rows += len(block)
    finally:
        if writer:
            writer.close()
    return rows
