"""The tables workbench: reading, typing, refusing, encoding, writing, and every metric on a case done by hand."""

import numpy as np
import pandas as pd
import pytest
from fairlearn import metrics as fairlearn

from stillhouse.core.errors import UserError
from stillhouse.tables import datasets, downstream, quality
from stillhouse.tables.codec import Block, fit_codec
from stillhouse.tables.fairness import association, fairness, group_rates, sensitive_auroc
from stillhouse.tables.reading import read_table
from stillhouse.tables.schema import Column, infer_schema
from stillhouse.tables.writing import write_table


@pytest.fixture(scope="module")
def loans():
    return datasets.loans(600).table


def schema_of(table, **options):
    return infer_schema(table, **{"label": "granted", "sensitive": ("gender",), **options})


# ---- typing and bad input


def test_kinds_of_columns(loans):
    table = loans.assign(country="X", wage=np.round(np.random.default_rng(0).normal(10, 2, len(loans)), 2))
    kinds = {c.name: (c.kind, c.levels if c.kind == "mixed" else (), c.decimals) for c in schema_of(table).columns}
    assert kinds["country"][0] == "constant"
    assert kinds["education"][0] == "categorical"
    assert kinds["savings"] == ("mixed", (0.0,), 2), "a zero-inflated column has the atom 0"
    assert 40 in kinds["hours"][1], "a value that half of the rows share is an atom"
    assert kinds["wage"] == ("mixed", (), 2)
    assert schema_of(table).positive == ("yes",), "the rarer class is the positive one"


BAD = {
    "label gaps": (lambda t: t.assign(granted=t.granted.where(t.index > 3)), "the label 'granted' misses 4 values"),
    "group gaps": (lambda t: t.assign(gender=t.gender.where(t.index > 0)), "'gender' misses 1 values"),
    "one group": (lambda t: t.assign(gender="man"), "'gender' has one value"),
    "one class": (lambda t: t.assign(granted="no"), "'granted' has one value"),
    "rare class": (lambda t: t.assign(granted=["yes"] * 5 + ["no"] * (len(t) - 5)), "5 rows with the value yes"),
    "rare group": (lambda t: t.assign(gender=["x"] + ["y"] * (len(t) - 1)), "1 rows with the value x"),
    "date texts": (lambda t: t.assign(born=["1980-02-03"] * len(t)), r"born \(dates\)"),
    "dates year first": (lambda t: t.assign(born=["1980/02/03 10:00", "1981/2/3"] * (len(t) // 2)), r"born \(dates\)"),
    "dates in words": (lambda t: t.assign(born=["3 May 1980", "Feb 03, 1981"] * (len(t) // 2)), r"born \(dates\)"),
    "dates day first": (lambda t: t.assign(born=["3.2.80", "03-02-1981"] * (len(t) // 2)), r"born \(dates\)"),
    "ids with gaps": (lambda t: t.assign(id=[np.nan, *range(len(t) - 1)]), r"id \(identifier.*--drop id"),
    "dates": (lambda t: t.assign(born=pd.Timestamp("2020-01-01")), r"born \(dates\)"),
    "number ids": (lambda t: t.assign(id=range(len(t))), r"id \(identifier.*--drop id"),
    "text ids": (lambda t: t.assign(key=[f"k{i}" for i in t.index]), r"key \(identifier"),
    "free text": (lambda t: t.assign(note=[f"n{i % 550}" for i in t.index]), r"note \(free text: 550"),
    "empty": (lambda t: t.assign(nothing=np.nan), r"nothing \(empty\)"),
    "infinite": (lambda t: t.assign(income=np.inf), r"income \(infinite"),
    "two at once": (lambda t: t.assign(id=range(len(t)), born="1980-02-03"), "--drop id born"),
    "ten rows": (lambda t: t.head(10), "the table has 10 rows"),
    "three classes": (lambda t: t.assign(granted=["a", "b", "c"] * (len(t) // 3)), "3 values; say which.*--positive"),
    "continuous group": (lambda t: t.assign(gender=t.income), "different values; group them"),
    "no features": (lambda t: t[["granted", "gender"]], "no column is left"),
    "no label": (lambda t: t.drop(columns="granted"), "no column 'granted'"),
    "twice": (lambda t: pd.concat([t, t[["age"]]], axis=1), "column names repeat: age"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_tables_are_refused_by_name(loans, case):
    spoil, message = BAD[case]
    with pytest.raises(UserError, match=message):
        schema_of(spoil(loans))


def test_bad_choices_are_refused(loans):
    for options, message in (
        ({"label": ""}, "no label column named"),
        ({"sensitive": ()}, "no sensitive column named"),
        ({"sensitive": ("granted",)}, "both label and sensitive"),
        ({"sensitive": ("gender", "gender")}, "named twice"),
        ({"positive": "maybe"}, "no value 'maybe'; --positive is one of"),
    ):
        with pytest.raises(UserError, match=message):
            schema_of(loans, **options)


def test_two_hundred_levels_are_fine(loans):
    table = loans.assign(town=[f"t{i % 200}" for i in range(len(loans))])
    assert len(schema_of(table).column("town").levels) == 200


def test_reading(tmp_path, loans):
    loans.to_csv(tmp_path / "a.csv", index=False)
    assert list(read_table(tmp_path / "a.csv", ["age"]).columns) == list(loans.columns[1:])
    (tmp_path / "b.csv").write_text('a,b\n1,"2\n')
    (tmp_path / "c.csv").write_text("a,b\n")
    (tmp_path / "d.parquet").write_bytes(b"PAR1 not really")
    (tmp_path / "e.xlsx").touch()
    for name, message in (
        ("b.csv", "cannot be read"),
        ("c.csv", "has no rows"),
        ("d.parquet", "cannot be read"),
        ("e.xlsx", "neither .csv nor"),
        ("f.csv", "no file"),
    ):
        with pytest.raises(UserError, match=message):
            read_table(tmp_path / name)
    with pytest.raises(UserError, match="no column 'x' to drop"):
        read_table(tmp_path / "a.csv", ["x"])
    with pytest.raises(UserError, match="no data 'lones'"):
        datasets.open_source("lones")


def test_loans_are_biased_as_documented():
    table, deserved = datasets.loans_with_truth(20_000)
    woman = (table.gender == "woman").to_numpy()
    granted = (table.granted == "yes").to_numpy()
    assert abs(deserved[woman].mean() - deserved[~woman].mean()) < 0.03, "merit does not know gender"
    assert granted[~woman].mean() - granted[woman].mean() > 0.15, "decisions do"
    assert (granted[~woman] == deserved[~woman]).all(), "men are decided by merit"


def test_public_tables(public_data):
    for name, rows in (("compas", 5278), ("law-school", 20798), ("adult", 48842)):
        source = datasets.open_source(name)
        assert len(source.table) == rows
        assert infer_schema(source.table, source.label, source.sensitive, source.positive).features


# ---- encoding


def coded(table, **options):
    return fit_codec(schema_of(table, **options), table)


def back(codec, table):
    return codec.to_table(codec.encode(table), codec.group_numbers(table), codec.label_numbers(table))


def test_rows_come_back(loans):
    table = loans.assign(
        flag=loans.age > 40, size=pd.Categorical(loans.sector, ["retail", "care", "office", "building"])
    )
    again = back(coded(table), table)
    assert list(again.columns) == list(table.columns)
    assert (again.dtypes == table.dtypes).all()
    for name in ("gender", "education", "sector", "granted", "flag", "size"):
        assert (again[name] == table[name]).all(), name
    assert ((again.savings == 0) == (table.savings == 0)).all(), "atoms are exact"
    assert (again.tenure.isna() == table.tenure.isna()).all(), "missing stays missing"
    for name in ("income", "age", "hours"):
        assert np.corrcoef(again[name], table[name])[0, 1] > 0.99, name
    assert again.hours.dtype == table.hours.dtype
    assert (again.income * 100 % 1 < 1e-6).any(), "money keeps two decimals"


def test_continuous_values_become_normal(loans):
    codec = coded(loans)
    block = next(b for b in codec.blocks if b.column.name == "income")
    scores = codec.encode(loans)[:, block.number]
    assert abs(scores.mean()) < 0.02
    assert abs(scores.std() - 1) < 0.05


def test_unseen_values_are_refused_by_name(loans):
    codec = coded(loans)
    with pytest.raises(UserError, match="'sector' has the value 'space'"):
        codec.encode(loans.assign(sector="space"))
    with pytest.raises(UserError, match="'age' has a missing value"):
        codec.encode(loans.assign(age=np.nan))
    with pytest.raises(UserError, match="columns are missing: age"):
        codec.encode(loans.drop(columns="age"))
    with pytest.raises(UserError, match="no training row has the sensitive values"):
        codec.group_numbers(loans.assign(gender="other"))


def test_intersections_are_groups(loans):
    codec = coded(loans, sensitive=("gender", "education"))
    assert len(codec.groups) == 6
    assert "education" not in {c.name for c in codec.schema.features}


# ---- writing


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_blocks_are_written_as_one_table(tmp_path, loans, ending):
    path = tmp_path / f"t.{ending}"
    pulled = []

    def blocks():
        for start in range(0, len(loans), 100):
            pulled.append(start)
            yield loans.iloc[start : start + 100]

    assert write_table(blocks(), path) == len(loans)
    assert len(pulled) == 6
    again = read_table(path)
    pd.testing.assert_frame_equal(again, loans.reset_index(drop=True))


def test_a_failed_write_leaves_the_old_file(tmp_path, loans):
    path = tmp_path / "t.csv"
    path.write_text("old")

    def blocks():
        yield loans
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_table(blocks(), path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(UserError, match=r"neither .csv nor .parquet"):
        write_table(iter([loans]), tmp_path / "t.txt")
    with pytest.raises(UserError, match="cannot write"):
        write_table(iter([loans]), path / "under-a-file.csv")


# ---- fairness metrics by hand


def decided():
    """Group a: 40 of 50 good and 10 of 50 bad chosen; group b: 20 of 50 and 5 of 50; c: all of 10."""
    parts = [("a", 1, 40, 10), ("a", 0, 10, 40), ("b", 1, 20, 30), ("b", 0, 5, 45), ("c", 1, 10, 0)]
    rows = [(g, y, d) for g, y, yes, no in parts for d in [1] * yes + [0] * no]
    groups, truth, decisions = (np.array(column) for column in zip(*rows, strict=True))
    return truth, decisions, groups


def test_parity_and_odds():
    found = fairness(*decided())
    assert found.parity_ratio == pytest.approx(0.25 / 0.5)
    assert found.parity_difference == pytest.approx(0.25)
    assert found.odds_ratio == pytest.approx(min(0.4 / 0.8, 0.1 / 0.2))
    assert found.odds_difference == pytest.approx(0.4)


def test_fairness_agrees_with_fairlearn_row_by_row():
    random = np.random.default_rng(0)
    truth, decisions, groups = (random.integers(0, n, 900) for n in (2, 2, 3))
    found, given = fairness(truth, decisions, groups), {"sensitive_features": groups}
    assert found.parity_ratio == pytest.approx(fairlearn.demographic_parity_ratio(truth, decisions, **given))
    assert found.parity_difference == pytest.approx(fairlearn.demographic_parity_difference(truth, decisions, **given))
    assert found.odds_ratio == pytest.approx(fairlearn.equalized_odds_ratio(truth, decisions, **given))
    assert found.odds_difference == pytest.approx(fairlearn.equalized_odds_difference(truth, decisions, **given))


def test_a_constant_is_fair_and_useless():
    truth, decisions, groups = decided()
    judged = downstream.utility(truth, np.zeros(len(truth)), groups)
    assert (judged.fairness.parity_ratio, judged.balanced_accuracy, judged.f1, judged.auroc) == (1, 0.5, 0, 0.5)
    assert group_rates(decisions, groups) == pytest.approx({"a": 0.5, "b": 0.25, "c": 1})


def test_association():
    one = np.repeat([0, 1], 40)
    assert association(one, one) == pytest.approx(1)
    assert association(one, np.tile([0, 1], 40)) == pytest.approx(0)
    assert association(one, np.array([0] * 30 + [1] * 10 + [0] * 10 + [1] * 30)) == pytest.approx(0.5)


def test_sensitive_auroc():
    random = np.random.default_rng(0)
    s = random.integers(0, 2, 400)
    noise = random.normal(size=(400, 2))
    assert sensitive_auroc(noise + 10 * s[:, None], s) == pytest.approx(1)
    assert abs(sensitive_auroc(noise, s) - 0.5) < 0.1


def test_train_on_synthetic_test_on_real():
    random = np.random.default_rng(0)
    y = np.tile([0, 1], 100)
    rows = downstream.Rows(
        (y[:, None] + 0.01 * random.normal(size=(200, 1))).astype(np.float32), y, np.repeat([0, 1], 100)
    )
    right = downstream.mean_utility(downstream.train_on_test_on(rows, rows))
    assert (right["balanced_accuracy"], right["auroc"], right["f1"], right["parity_ratio"]) == (1, 1, 1, 1)
    flipped = downstream.Rows(rows.x, 1 - y, rows.s)
    assert downstream.mean_utility(downstream.train_on_test_on(flipped, rows))["balanced_accuracy"] == 0
    one_class = downstream.Rows(rows.x, np.ones(200, int), rows.s)
    assert downstream.mean_utility(downstream.train_on_test_on(one_class, rows))["balanced_accuracy"] == 0.5


# ---- quality metrics by hand


def column(*values):
    return np.array(values, np.float32)[:, None]


def test_density_and_coverage():
    # radii of 0, 1, 3 (k = 1): 1, 1, 2; 0.5 lies in the first two balls, 10 in none
    density, coverage = quality.density_and_coverage(column(0, 1, 3), column(0.5, 10), k=1)
    assert density == pytest.approx(2 / (1 * 2))
    assert coverage == pytest.approx(2 / 3)


def test_alpha_precision_and_beta_recall():
    rows = np.random.default_rng(0).normal(size=(500, 3))
    assert quality.alpha_precision(rows, rows) > 0.99
    assert quality.beta_recall(rows, rows) > 0.99
    assert quality.alpha_precision(rows, rows + 100) == pytest.approx(0), "no row is inside: 1 - 2 mean(alpha)"
    assert quality.alpha_precision(rows, np.repeat(rows.mean(0)[None], 500, 0)) == pytest.approx(0), "all at the centre"
    assert quality.beta_recall(rows, rows + 100) == pytest.approx(0)


def test_nearness_to_records():
    real = column(0, 1, 10)  # distances to the nearest other: 1, 1, 9
    assert quality.authenticity(real, real) == 0
    assert quality.authenticity(real, column(0.5, 30)) == 0.5
    assert quality.closest_record(real, column(0.5, 12)) == pytest.approx([0.5, 2])
    assert quality.membership_advantage(column(0, 1), column(10, 20), column(0, 1)) == 1
    assert quality.membership_advantage(column(0, 10), column(0, 10), column(0, 3)) == 0


def test_marginal_and_correlation_errors():
    category = Block(Column("c", "categorical", "str", ("a", "b")), 0, 2, False)
    number = Block(Column("n", "mixed", "float64"), 2, 0, True)
    real = np.array([[1, 0, 0], [0, 1, 1]], np.float32)
    made = np.array([[1, 0, 2], [1, 0, 3]], np.float32)
    assert quality.marginal_error(real, real, (category, number)) == 0
    assert quality.marginal_error(real, made, (category,)) == pytest.approx(0.5)
    assert quality.marginal_error(real, made, (category, number)) == pytest.approx((0.5 + 1) / 2)
    line = np.array([[0, 0], [1, 1], [2, 2]], np.float32)
    assert quality.correlation_error(line, line) == pytest.approx(0, abs=1e-6)
    assert quality.correlation_error(line, line * [1, -1]) == pytest.approx(2)
