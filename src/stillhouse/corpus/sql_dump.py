"""Posts out of SQL dumps, line by line: phpBB's (mysqldump INSERTs) and Discourse's (pg_dump COPY blocks)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

TABLES = r"(?:\w+\.)?(?:\w*_)?posts"
_INSERT = re.compile(rf"INSERT (?:IGNORE )?INTO [`\"]?({TABLES})[`\"]?\s*(?:\(([^)]*)\))?\s*VALUES\s*", re.I)
_CREATE = re.compile(rf"CREATE TABLE (?:IF NOT EXISTS )?[`\"]?({TABLES})[`\"]?\s*\(", re.I)
_COPY = re.compile(rf"COPY ({TABLES}) \(([^)]*)\) FROM stdin;", re.I)
_COLUMN = re.compile(r"^\s*[`\"](\w+)[`\"]\s")
_VALUE = re.compile(r"\s*(?:'((?:[^'\\]|\\.|'')*)'|([^,()']+))\s*([,)])", re.S)
_ESCAPE = {"n": "\n", "r": "\r", "t": "\t", "0": "", "Z": "", "b": "", "f": "", "v": ""}


def read_sql(path: Path, lost: Callable[[str, int], None]) -> Iterator[Mapping[str, Any]]:
    """Rows of the table of posts, as {column: value}; deleted posts are left out.

    Args:
        path: the dump.
        lost: is told reason and line of what cannot be read.
    """
    columns: list[str] = []
    copying = creating = False
    with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            if copying:
                copying = not line.startswith("\\.")
                yield from _copied(line, columns, number, lost) if copying else ()
            elif creating:
                column = _COLUMN.match(line)
                columns += [column[1]] if column else []
                creating = not line.lstrip().startswith(")")
            elif start := _COPY.match(line):
                columns, copying = _names(start[2]), True
            elif _CREATE.match(line):
                columns, creating = [], True
            elif start := _INSERT.match(line):
                columns = _names(start[2]) if start[2] else columns
                yield from _inserted(line, start.end(), columns, number, lost)


def _names(text: str) -> list[str]:
    return [name.strip(' `"') for name in text.split(",")]


def _copied(
    line: str, columns: Sequence[str], number: int, lost: Callable[[str, int], None]
) -> Iterator[dict[str, Any]]:
    values = line.rstrip("\n").split("\t")
    if len(values) != len(columns):
        lost("malformed rows", number)
        return
    row = {name: None if value == "\\N" else _unescaped(value) for name, value in zip(columns, values, strict=True)}
    if row.get("deleted_at") is None:
        yield row


def _inserted(
    line: str, place: int, columns: Sequence[str], number: int, lost: Callable[[str, int], None]
) -> Iterator[dict[str, Any]]:
    """The tuples behind VALUES; a tuple that does not fit the columns ends the line."""
    while place < len(line) and line[place] == "(":
        values: list[str | None] = []
        place += 1
        while True:
            found = _VALUE.match(line, place)
            if found is None:
                lost("malformed rows", number)
                return
            quoted, bare, after = found.groups()
            values.append(_unescaped(quoted.replace("''", "'")) if quoted is not None else _bare(bare))
            place = found.end()
            if after == ")":
                break
        if len(values) != len(columns):
            lost("rows that do not fit their columns", number)
            return
        yield dict(zip(columns, values, strict=True))
        place += len(re.compile(r"\s*,?\s*").match(line, place)[0])  # type: ignore[index]


def _bare(text: str) -> str | None:
    return None if text.strip().upper() == "NULL" else text.strip()


def _unescaped(text: str) -> str:
    if "\\" not in text:
        return text
    return re.sub(r"\\(.)", lambda m: _ESCAPE.get(m[1], m[1]), text, flags=re.S)
