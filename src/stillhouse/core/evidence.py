"""Evidence: repeated arms, intervals over seeds, verdicts, and the result file that claims are printed from.

A benchmark script makes a `Bench`, asks it for arms (each computed once, kept on disk, skipped when the script is
started again), states its claims from the arms' numbers, and writes benchmarks/results/<method>.json.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import cattrs
import numpy as np
from scipy.stats import t as student_t

from stillhouse.core.environment import commit, environment
from stillhouse.core.errors import UserError
from stillhouse.core.estimate import minutes
from stillhouse.core.files import content_hash, read_json, write_json
from stillhouse.core.locks import wait_for_lock
from stillhouse.core.result import Arm

Verdict = Literal["held", "not separable", "not held"]


@dataclass(frozen=True)
class Claim:
    """A statement of a paper (or of ours), the paper's figure, and what was measured."""

    id: str
    statement: str
    paper: float | None
    """The paper's figure in the same unit, None where the paper gives none."""
    measured: float
    interval: tuple[float, float]
    """95 % interval over seeds."""
    threshold: str
    """"<= 1.0" or ">= 25"."""
    seeds: int
    verdict: Verdict
    data: str
    command: str
    note: str = ""


@dataclass(frozen=True)
class ClaimedArm:
    """An arm, and the claim it belongs to."""

    claim: str
    arm: Arm


@dataclass(frozen=True)
class Piece:
    """What a piece of a benchmark took, and the code that made it."""

    seconds: float
    commit: str | None


@dataclass(frozen=True)
class Evidence:
    """Content of benchmarks/results/<method>.json."""

    method: str
    commit: str | None
    """What made the numbers; several where the code moved on between pieces."""
    environment: Mapping[str, Any]
    minutes: float
    """Sum of the arms' own wall-clock minutes."""
    claims: tuple[Claim, ...]
    arms: tuple[ClaimedArm, ...]
    pieces: Mapping[str, Piece] = field(default_factory=dict)
    """The pieces of work behind it, by the hash of what decides them."""


def ratio_of_means(
    numerators: Sequence[float], denominators: Sequence[float], *, paired: bool = True
) -> tuple[float, tuple[float, float]]:
    """mean(numerators) / mean(denominators) with a 95 % t-interval over seeds (the ratio estimator's standard error).

    A bootstrap of three or five seeds is too narrow: it never sees what the missing seeds would have shown.

    Args:
        numerators, denominators: one number a seed; with `paired`, of the same seeds in the same order.

    Returns:
        The ratio and its interval; an unbounded interval where fewer than two seeds, or denominators that are not all
        positive, allow no statement.

    Raises:
        ValueError: paired sequences of different lengths, or an empty one.
    """
    top, bottom = np.asarray(numerators, float), np.asarray(denominators, float)
    if not top.size or not bottom.size or (paired and top.size != bottom.size):
        raise ValueError("a ratio needs numbers on both sides, equally many where they are paired")
    ratio = float(top.mean() / bottom.mean())
    fewer = min(top.size, bottom.size)
    if fewer < 2 or bottom.min() <= 0:
        return ratio, (-math.inf, math.inf)
    if paired:
        error = (top - ratio * bottom).std(ddof=1) / top.size**0.5
    else:
        error = (top.var(ddof=1) / top.size + ratio**2 * bottom.var(ddof=1) / bottom.size) ** 0.5
    half = float(student_t.ppf(0.975, fewer - 1) * error / bottom.mean())
    return ratio, (ratio - half, ratio + half)


def mean_with_interval(values: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """Mean with a 95 % t-interval over seeds."""
    return ratio_of_means(values, [1.0] * len(values))


def judge(interval: tuple[float, float], threshold: str) -> Verdict:
    """ "held" if the whole interval meets the threshold, "not held" if none of it does, else "not separable".

    Args:
        threshold: "<= x" or ">= x".

    Raises:
        ValueError: the threshold starts with neither <= nor >=.
    """
    sign, _, number = threshold.partition(" ")
    bound = float(number)
    if sign not in ("<=", ">="):
        raise ValueError(f"a threshold starts with <= or >=, not {threshold!r}")
    best, worst = interval if sign == "<=" else (-interval[1], -interval[0])
    bound = bound if sign == "<=" else -bound
    if worst <= bound:
        return "held"
    return "not held" if best > bound else "not separable"


class Bench:
    """The resumable part of a benchmark script.

    Args:
        method: catalogue name; the result file is named after it.
        folder: the benchmarks folder; results go to `folder`/results, unfinished work to `folder`/../scratch.
    """

    def __init__(self, method: str, folder: Path) -> None:
        self.method = method
        self.results_file = folder / "results" / f"{method}.json"
        self.pieces = folder.parent / "scratch" / "benchmarks" / method
        self.arms: list[ClaimedArm] = []
        self.asked: dict[Path, dict[str, Any]] = {}

    def piece(self, key: Mapping[str, Any], compute: Callable[[], Any]) -> Any:
        """`compute()`'s JSON value, taken from disk if an earlier start of the script finished the same key.

        Several processes may work on one benchmark: a piece that another computes is waited for.
        """
        file = self._file(key)
        self.pieces.mkdir(parents=True, exist_ok=True)
        with file.with_suffix(".lock").open("w") as lock:
            wait_for_lock(lock)
            if not file.exists():
                started = time.monotonic()
                value = compute()
                took = time.monotonic() - started
                names = {name: str(part) for name, part in key.items()}
                write_json(file, {"key": names, "seconds": took, "commit": commit(), "value": value})
        self.asked[file] = read_json(file)
        return self.asked[file]["value"]

    def kept(self, key: Mapping[str, Any]) -> Any | None:
        """The value of a piece that is on disk; None, and nothing computed, where it is not."""
        file = self._file(key)
        if not file.exists():
            return None
        self.asked[file] = read_json(file)
        return self.asked[file]["value"]

    def has(self, key: Mapping[str, Any]) -> bool:
        """Whether the key's piece is on disk."""
        return self._file(key).exists()

    def _file(self, key: Mapping[str, Any]) -> Path:
        return self.pieces / f"{content_hash([repr(sorted(key.items()))])}.json"

    def known_arms(self) -> list[ClaimedArm]:
        """The arms so far, and after them those that only an earlier result file has."""
        if not self.results_file.exists():
            return list(self.arms)
        told = {_place(claimed) for claimed in self.arms}
        earlier = read_evidence(self.results_file).arms
        return [*self.arms, *(claimed for claimed in earlier if _place(claimed) not in told)]

    def write(self, claims: Iterable[Claim]) -> Path:
        """Write the result file from the pieces and arms so far.

        What an earlier file says of claims and arms that are not made again is kept: the pieces of a long benchmark need
        not be on one machine. A claim or an arm that the script no longer has must be taken out of the file by hand.
        """
        made = list(claims)
        pieces = {file.stem: Piece(piece["seconds"], piece.get("commit")) for file, piece in self.asked.items()}
        if self.results_file.exists():
            earlier = read_evidence(self.results_file)
            again = {claim.id for claim in made}
            made += [claim for claim in earlier.claims if claim.id not in again]
            before = earlier.pieces or {"earlier": Piece(60 * earlier.minutes, earlier.commit)}
            pieces = {**before, **pieces}
        commits = {name for piece in pieces.values() for name in str(piece.commit).split(", ")}
        minutes = round(sum(piece.seconds for piece in pieces.values()) / 60, 2)
        evidence = Evidence(
            self.method,
            ", ".join(sorted(commits)),
            environment(),
            minutes,
            tuple(made),
            tuple(self.known_arms()),
            pieces,
        )
        write_json(self.results_file, cattrs.unstructure(evidence))
        return self.results_file


def _place(claimed: ClaimedArm) -> tuple[str, str, int | None]:
    """What tells an arm of a result file from the others."""
    return claimed.claim, claimed.arm.name, claimed.arm.seed


def read_evidence(file: Path) -> Evidence:
    """One result file.

    Raises:
        UserError: it is not one.
    """
    try:
        return cattrs.structure(read_json(file), Evidence)
    except (cattrs.BaseValidationError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{file} is not a result file", "write it again with its benchmark script") from error


def load_evidence(folder: Path) -> list[Evidence]:
    """All result files of a folder, in the order of their names; what was measured of the product itself is left out.

    Raises:
        UserError: the folder is missing, or a file is not a result file.
    """
    if not folder.is_dir():
        raise UserError(f"no folder {folder}", "give the benchmarks' results folder with --results")
    return [read_evidence(file) for file in sorted(folder.glob("*.json")) if not _is_of_the_product(file)]


def _is_of_the_product(file: Path) -> bool:
    """Whether the file has no claims of a paper: faults, hostile files, costs."""
    raw = read_json(file)
    return isinstance(raw, dict) and "measured" in raw


def print_estimate(title: str, seconds: float, pieces: int) -> None:
    """Say what a benchmark will take before it starts."""
    print(f"{title}: {pieces} pieces, about {minutes(seconds)} if none is on disk yet", flush=True)
