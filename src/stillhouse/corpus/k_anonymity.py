"""k-anonymity of a table of users: every combination of quasi-identifiers is shared by at least k of them (Sweeney's Datafly)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

HIDDEN = "*"
Level = Callable[[str], str]


def hidden(_: str) -> str:
    """The last level of every column."""
    return HIDDEN


def band(width: int) -> Level:
    """Numbers as bands of this width ("30-39"); what is no number is hidden."""

    def level(value: str) -> str:
        if not value.lstrip("-").isdigit():
            return HIDDEN
        low = int(value) // width * width
        return f"{low}-{low + width - 1}"

    return level


def prefix(length: int) -> Level:
    """The first characters, e.g. the year of "2021-03"."""
    return lambda value: value[:length] or HIDDEN


def rarest_class(rows: Sequence[Sequence[str]]) -> int:
    """How many rows share the combination that the fewest share; 0 for no rows."""
    return min(Counter(map(tuple, rows)).values(), default=0)


def k_anonymous(
    rows: Sequence[Mapping[str, str]], ladders: Mapping[str, Sequence[Level]], k: int
) -> tuple[list[dict[str, str]], int]:
    """The rows with the columns of `ladders` generalised until every combination has k rows; and how many rows were hidden.

    The column climbs its ladder whose step leaves the fewest rows in rare combinations; of equals the one with the most
    different values. When fewer than k rows are still in rare
    combinations these are hidden whole; and should the hidden ones be fewer than k, further rows join them.

    Args:
        rows: values as text.
        ladders: column -> functions from coarse to coarser, each applied to the original value.
        k: rows a combination.
    """
    level = dict.fromkeys(ladders, -1)

    names = list(ladders)

    def shown(further: str = "") -> list[tuple[str, ...]]:
        """The columns at their levels, one of them a step further."""
        at = {c: level[c] + (c == further) for c in names}
        return [tuple(row[c] if at[c] < 0 else ladders[c][at[c]](row[c]) for c in names) for row in rows]

    made = shown()
    while _rare(made, k) >= k:
        open_columns = [c for c in ladders if level[c] + 1 < len(ladders[c])]
        if not open_columns:
            break
        chosen = min(open_columns, key=lambda c: (_rare(shown(c), k), -len({row[names.index(c)] for row in made})))
        level[chosen] += 1
        made = shown()
    made, count = _suppress(made, k)
    return [{**row, **dict(zip(ladders, new, strict=True))} for row, new in zip(rows, made, strict=True)], count


def _rare(rows: Sequence[tuple[str, ...]], k: int) -> int:
    sizes = Counter(rows)
    return sum(size for size in sizes.values() if size < k)


def _suppress(rows: list[tuple[str, ...]], k: int) -> tuple[list[tuple[str, ...]], int]:
    """Hide rows of rare combinations; add the smallest other combination while the hidden are fewer than k."""
    sizes = Counter(rows)
    gone = {row for row, size in sizes.items() if size < k}
    if not gone:
        return rows, 0
    for row, _ in sorted(sizes.items(), key=lambda item: (item[1], item[0])):
        if sum(sizes[g] for g in gone) >= k:
            break
        gone.add(row)
    return [(HIDDEN,) * len(row) if row in gone else row for row in rows], sum(sizes[g] for g in gone)
