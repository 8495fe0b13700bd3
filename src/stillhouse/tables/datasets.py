"""Tables by name: a seeded biased table whose truth is known, and three public ones below $STILLHOUSE_DATA."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from stillhouse.core.data import PublicFile, find_public_file
from stillhouse.core.errors import require
from stillhouse.core.seeding import derive_seed
from stillhouse.tables.reading import read_table, without


@dataclass(frozen=True)
class Source:
    """A table with its label, its sensitive columns and the label value of the positive class."""

    table: pd.DataFrame
    label: str
    sensitive: tuple[str, ...]
    positive: str


def loans(rows: int = 4000, seed: int = 0) -> Source:
    """A made-up table of loan decisions that are unfair to women in a known way.

    Everyone's `ability` is normal and independent of gender, and decides education, income, savings and whether the
    loan would be repaid. The decision on record (`granted`) asks women for 0.8 standard deviations more. `sector`
    and `hours` tell the gender (proxies) and little about ability. Values are of every kind: integers, money,
    a zero-inflated column, categories, and 2 % missing `tenure`.
    """
    return Source(loans_with_truth(rows, seed)[0], "granted", ("gender",), "yes")


def loans_with_truth(rows: int, seed: int = 0) -> tuple[pd.DataFrame, pd.Series]:
    """The loans table, and the label as it would be without bias (0/1): ability and need decide, gender does not."""
    random = np.random.default_rng(derive_seed("loans", seed))
    woman = random.random(rows) < 0.45
    ability = random.normal(size=rows)
    merit = ability + 0.5 * random.normal(size=rows)
    tenure = np.round(random.gamma(2.0, 3.0, rows))
    saves = random.random(rows) < 1 / (1 + np.exp(-ability))
    table = pd.DataFrame(
        {
            "age": np.clip(np.round(random.normal(42, 12, rows)), 18, 80).astype(int),
            "gender": np.where(woman, "woman", "man"),
            "education": np.array(["school", "college", "degree"])[
                np.digitize(ability + 0.7 * random.normal(size=rows), [-0.5, 0.8])
            ],
            "sector": np.array(["care", "retail", "office", "building"])[_sector(woman, random)],
            "hours": np.where(random.random(rows) < 0.5, 40, np.round(random.normal(41 - 6 * woman, 6))).astype(int),
            "income": np.round(np.exp(10 + 0.45 * ability + 0.25 * random.normal(size=rows)), 2),
            "savings": np.where(saves, np.round(np.exp(7 + 0.8 * ability + random.normal(size=rows)), 2), 0.0),
            "tenure": np.where(random.random(rows) < 0.02, np.nan, tenure),
            "granted": np.where(merit - 0.8 * woman > 0.3, "yes", "no"),
        }
    )
    return table, pd.Series((merit > 0.3).astype(int), name="deserved")


def _sector(woman: np.ndarray, random: np.random.Generator) -> np.ndarray:
    of_women, of_men = (0.4, 0.7, 0.95), (0.08, 0.3, 0.6)
    draw = random.random(len(woman))
    edges = np.where(woman[:, None], of_women, of_men)
    return (draw[:, None] > edges).sum(1)


ADULT_COLUMNS = [
    "age",
    "workclass",
    "fnlwgt",
    "education",
    "education-num",
    "marital-status",
    "occupation",
    "relationship",
    "race",
    "sex",
    "capital-gain",
    "capital-loss",
    "hours-per-week",
    "native-country",
    "income",
]
_ADULT_HOME = "the UCI repository, data set Adult (https://archive.ics.uci.edu/dataset/2/adult)"
_FAIR_HOME = "https://github.com/tailequy/fairness_dataset, experiments/data"
ADULT_FILES = (
    PublicFile("adult/adult.data", _ADULT_HOME, "5b00264637dbfec36bdeaab5676b0b309ff9eb788d63554ca0a249491c86603d"),
    PublicFile("adult/adult.test", _ADULT_HOME, "a2a9044bc167a35b2361efbabec64e89d69ce82d9790d2980119aac5fd7e9c05"),
)
COMPAS_FILE = PublicFile(
    "fairness_tabular/compas_two_years_noid.csv",
    f"{_FAIR_HOME} (compas-scores-two-years_clean.csv without names, identifiers and dates)",
    "c4f12d0f5c12f0474f44496dc085763ccd9de326baeece161e5e402ac884526d",
)
LAW_FILE = PublicFile(
    "fairness_tabular/law_school_clean.csv",
    _FAIR_HOME,
    "23c1b173f3480beb7afc4957b107a9917dfc4a8dc9d87ea6034ec35222152452",
)
COMPAS_COLUMNS = [
    "sex",
    "age",
    "race",
    "juv_fel_count",
    "juv_misd_count",
    "juv_other_count",
    "priors_count",
    "c_charge_degree",
    "two_year_recid",
]


def adult() -> Source:
    """UCI Adult, 48,842 rows of both files; `education-num`, which repeats `education`, is left out."""
    parts = [
        pd.read_csv(find_public_file(file), names=ADULT_COLUMNS, skipinitialspace=True, comment="|", na_filter=False)
        for file in ADULT_FILES
    ]
    table = pd.concat(parts, ignore_index=True).drop(columns="education-num")
    table["income"] = table["income"].str.rstrip(".")
    return Source(table, "income", ("sex",), ">50K")


def compas() -> Source:
    """COMPAS, 5,278 African-American and Caucasian rows, the columns known at the time of the decision."""
    table = read_table(find_public_file(COMPAS_FILE))[COMPAS_COLUMNS]
    kept = table["race"].isin(["African-American", "Caucasian"])
    return Source(table[kept].reset_index(drop=True), "two_year_recid", ("race",), "1")


def law_school() -> Source:
    """Law school admission, 20,798 rows; the positive class is the rarer one, not passing the bar."""
    return Source(read_table(find_public_file(LAW_FILE)), "pass_bar", ("race",), "0.0")


BUILT_IN: Mapping[str, Callable[[], Source]] = {
    "loans": loans,
    "adult": adult,
    "compas": compas,
    "law-school": law_school,
}


def open_source(
    data: str, label: str = "", sensitive: tuple[str, ...] = (), positive: str = "", drop: tuple[str, ...] = ()
) -> Source:
    """A built-in table by name, or a CSV or Parquet file; label, sensitive and positive override a built-in's own.

    Raises:
        UserError: not a name or file, a file without --label and --sensitive, or a file that cannot be read.
    """
    from pathlib import Path

    if data in BUILT_IN:
        known = BUILT_IN[data]()
        same_label = label in ("", known.label)
        return Source(
            without(known.table, drop),
            label or known.label,
            sensitive or known.sensitive,
            positive or (known.positive if same_label else ""),
        )
    named = data.endswith((".csv", ".parquet"))
    require(named, f"no data {data!r}", f"give a .csv or .parquet file, or one of {', '.join(BUILT_IN)}, colour-mnist")
    return Source(read_table(Path(data), drop), label, sensitive, positive)
