"""Try a fair table: draw rows, and see how far apart the groups' shares of the positive class are."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stillhouse.core.errors import require
from stillhouse.core.result import Table
from stillhouse.core.trial import Choice, Gauge, Number, Output, Ready, Trial
from stillhouse.methods.fair_tables.pipeline import open_task
from stillhouse.methods.fair_tables.sampler import FairTable, load_student
from stillhouse.tables.fairness import group_rates

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stillhouse.methods.fair_tables import Config

MOST_ROWS = 20_000
SHOWN_ROWS = 12
EVERYONE = "everyone"


def table_trials(config_of: Callable[[Path], Config]) -> Mapping[str, Trial]:
    """What the method offers to try."""

    def open_run(run: Path) -> Ready:
        model = load_student(run / "model")
        require(isinstance(model, FairTable), f"{run} makes images, not a table", "try a run on a table")
        assert isinstance(model, FairTable)
        task = open_task(config_of(run))
        real = task.rows(task.train)
        return ready(model, parity(group_rates(real.y, real.s)))

    about = "Rows of the fair synthetic table, and its bias beside that of the real training rows."
    return {"rows": Trial("Draw rows", about, open_run)}


def ready(model: FairTable, real_parity: float) -> Ready:
    """How many rows, of which group."""
    names, groups = model.codec.schema.sensitive, model.codec.groups
    title = " / ".join(names)
    words = {" / ".join(map(str, group)): dict(zip(names, group, strict=True)) for group in groups}

    def answer(rows: int, seed: int, group: str) -> Iterator[Output]:
        started = time.perf_counter()
        made = model.generate(rows, seed, words.get(group))
        seconds = time.perf_counter() - started
        yield _rows_table(made, seconds)
        rates = positive_shares(made, model)
        if group == EVERYONE:
            yield Gauge(
                "Parity ratio of the drawn rows",
                round(parity(rates), 3),
                0.0,
                1.0,
                f"Least over greatest share of {model.codec.schema.label} = {_positive(model)} among {title}; 1 is no bias.",
                round(real_parity, 3),
                "in the real training rows",
            )
        shares = tuple((str(name), round(rate, 3)) for name, rate in rates.items())
        yield Table("Positive share by group", (title, f"{model.codec.schema.label} = {_positive(model)}"), shares)

    return Ready(
        {
            "group": Choice(title, (EVERYONE, *words), EVERYONE),
            "rows": Number("Rows", 10, MOST_ROWS, 2000),
            "seed": Number("Draw number", 0, 1_000_000, 0),
        },
        answer,
    )


def parity(rates: Mapping[object, float]) -> float:
    """Least over greatest share of the positive class among groups; 0 where no group has any."""
    return min(rates.values()) / max(rates.values()) if rates and max(rates.values()) > 0 else 0.0


def positive_shares(made: pd.DataFrame, model: FairTable) -> dict[object, float]:
    """Share of the positive class in each sensitive group of drawn rows."""
    schema = model.codec.schema
    groups = made[list(schema.sensitive)].astype(str).agg(" / ".join, axis=1)
    return dict(group_rates(made[schema.label].isin(schema.positive).to_numpy(dtype=int), np.asarray(groups)))


def _positive(model: FairTable) -> str:
    return " or ".join(map(str, model.codec.schema.positive))


def _rows_table(made: pd.DataFrame, seconds: float) -> Table:
    shown = made.head(SHOWN_ROWS)
    cells = tuple(tuple(v if isinstance(v, float) else str(v) for v in row) for row in shown.itertuples(index=False))
    return Table(
        f"The first {len(shown)} of {len(made):,} rows",
        tuple(map(str, shown.columns)),
        cells,
        f"Drawn in {seconds:.2f} s; no row belongs to anybody.",
    )
