"""Evidence: intervals that cover, verdicts on both sides, pieces computed once."""

import json
import math

import numpy as np
import pytest

from stillhouse.core.errors import UserError
from stillhouse.core.evidence import (
    Bench,
    Claim,
    ClaimedArm,
    judge,
    load_evidence,
    mean_with_interval,
    ratio_of_means,
)
from stillhouse.core.result import Arm, Cost


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("seeds", [3, 5])
def test_interval_covers_the_truth_about_95_times_in_100(seeds, paired):
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(600):
        common = random.normal(0, 0.5, seeds) if paired else 0
        top, bottom = 4 + common + random.normal(0, 0.5, seeds), 8 + common + random.normal(0, 0.5, seeds)
        low, high = ratio_of_means(top, bottom, paired=paired)[1]
        covered += low <= 0.5 <= high
    assert 0.9 <= covered / 600 <= 0.99


def test_ratio_of_equal_arms_is_exactly_one():
    assert ratio_of_means([1, 2, 3], [1, 2, 3]) == (1.0, (1.0, 1.0))


def test_mean_with_interval_by_hand():
    mean, (low, high) = mean_with_interval([1.0, 2.0, 3.0])
    half = 4.302653 * 1.0 / math.sqrt(3)  # t(0.975, 2) = 4.302653, sd = 1
    assert mean == 2.0
    assert (low, high) == (pytest.approx(2 - half), pytest.approx(2 + half))


@pytest.mark.parametrize(("top", "bottom"), [([1.0], [2.0]), ([1.0, 1.0], [-0.1, 0.2])])
def test_one_seed_or_a_denominator_at_its_floor_allows_no_statement(top, bottom):
    interval = ratio_of_means(top, bottom)[1]
    assert interval == (-math.inf, math.inf)
    assert judge(interval, "<= 1.0") == judge(interval, ">= 1.0") == "not separable"


def test_wrong_lengths_are_refused():
    with pytest.raises(ValueError, match="equally many"):
        ratio_of_means([1, 2], [1])
    with pytest.raises(ValueError, match="both sides"):
        ratio_of_means([], [])


@pytest.mark.parametrize(
    ("interval", "threshold", "verdict"),
    [
        ((0.5, 0.9), "<= 1.0", "held"),
        ((0.5, 1.1), "<= 1.0", "not separable"),
        ((1.1, 1.2), "<= 1.0", "not held"),
        ((26.0, 30.0), ">= 25", "held"),
        ((20.0, 30.0), ">= 25", "not separable"),
        ((20.0, 24.0), ">= 25", "not held"),
        ((1.0, 1.0), "<= 1.0", "held"),
    ],
)
def test_verdicts(interval, threshold, verdict):
    assert judge(interval, threshold) == verdict


def test_a_threshold_names_its_side():
    with pytest.raises(ValueError, match="starts with"):
        judge((0, 1), "< 1")


def test_pieces_are_computed_once_and_counted_once(tmp_path):
    calls = []
    for _ in range(2):
        bench = Bench("dmd2", tmp_path / "benchmarks")
        assert bench.has({"seed": 1}) == bool(calls)
        assert bench.piece({"seed": 1}, lambda: calls.append(1) or {"fid": 0.5}) == {"fid": 0.5}
    assert len(calls) == 1
    stored = next(bench.pieces.glob("*.json"))
    stored.write_text(json.dumps({**json.loads(stored.read_text()), "seconds": 120.0}))
    counted = Bench("dmd2", tmp_path / "benchmarks")
    counted.piece({"seed": 1}, dict)
    counted.piece({"seed": 1}, dict)
    claim = Claim("c", "s", None, 1.0, (0.9, 1.1), "<= 1.0", 3, "not separable", "digits", "python x")
    counted.write([claim])
    (evidence,) = load_evidence(tmp_path / "benchmarks" / "results")
    assert evidence.minutes == 2.0
    assert evidence.claims == (claim,)


def test_what_another_machine_measured_is_kept(tmp_path):
    def measured(id: str, value: float) -> Claim:
        return Claim(id, "s", None, value, (0.9, 1.1), "<= 1.0", 3, "not separable", "digits", "python x")

    def write(machine: str, ids: dict[str, float]) -> None:
        bench = Bench("dmd2", tmp_path / machine / "benchmarks")
        bench.results_file = tmp_path / "dmd2.json"
        for id, value in ids.items():
            bench.piece({"id": id, "value": value}, lambda value=value: value)
            bench.arms.append(ClaimedArm(id, Arm("student", "student", {"fid": value}, Cost(), 0)))
        bench.write([measured(id, value) for id, value in ids.items()])

    write("first", {"a": 1.0, "b": 2.0})
    write("second", {"b": 3.0})
    (evidence,) = load_evidence(tmp_path)
    assert {claim.id: claim.measured for claim in evidence.claims} == {"a": 1.0, "b": 3.0}
    assert {claimed.claim: claimed.arm.metrics["fid"] for claimed in evidence.arms} == {"a": 1.0, "b": 3.0}
    assert len(evidence.pieces) == 3  # a, b, and b measured again


def test_a_file_that_is_no_evidence_is_named(tmp_path):
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(UserError, match=r"x\.json is not a result file"):
        load_evidence(tmp_path)


def test_what_was_measured_of_the_product_has_no_claims(tmp_path):
    (tmp_path / "faults.json").write_text('{"measured": "faults", "faults": 3}')
    assert load_evidence(tmp_path) == []
    (tmp_path / "other.json").write_text('{"faults": 3}')
    with pytest.raises(UserError, match="not a result file"):
        load_evidence(tmp_path)
