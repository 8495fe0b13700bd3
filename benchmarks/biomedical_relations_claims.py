"""Claims of biomedical relations from finished pieces; a claim without its pieces is left out, not guessed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.stats import binom

from stillhouse.core.evidence import Claim, Evidence, judge, mean_with_interval, ratio_of_means
from stillhouse.core.result import Arm

SCRIPT = "python benchmarks/biomedical_relations.py"
KINDS = ("neighbours", "neighbours of the largest hub", "path", "edge")
ORDER = (
    "rules",
    "naive_bayes",
    "random_forest",
    "linear",
    "encoder",
    "adapted_encoder",
    "generative",
    "labels_only",
    "student",
)
CLASSICAL = ("rules", "naive_bayes", "random_forest", "linear")
Pieces = Sequence[dict[str, Any]]


def _values(pieces: Pieces, data: str, arm: str, metric: str, training: str = "natural") -> dict[int, float]:
    """Seed -> value of an arm."""
    return {
        int(p["key"]["seed"]): float(p["value"][metric])
        for p in pieces
        if (p["key"].get("data"), p["key"].get("arm"), p["key"].get("training")) == (data, arm, training)
    }


def _ratio(id: str, statement: str, over: dict[int, float], under: dict[int, float], threshold: str, data: str, stage: str, note: str = "") -> list[Claim]:  # fmt: skip
    seeds = sorted(over.keys() & under.keys())
    if not seeds:
        return []
    measured, interval = ratio_of_means([over[s] for s in seeds], [under[s] for s in seeds])
    return [Claim(id, statement, None, round(measured, 4), interval, threshold, len(seeds), judge(interval, threshold), data, f"{SCRIPT} --stages {stage} --data {data}", note)]  # fmt: skip


def _best_classical(pieces: Pieces, data: str) -> tuple[str, dict[int, float]]:
    """The classical family with the best mean on select, and its report values."""
    found = {arm: _values(pieces, data, arm, "select_macro_f1") for arm in CLASSICAL}
    found = {arm: values for arm, values in found.items() if values}
    if not found:
        return "", {}
    arm = max(found, key=lambda a: sum(found[a].values()) / len(found[a]))
    return arm, _values(pieces, data, arm, "macro_f1")


def family_claims(pieces: Pieces, data: str) -> list[Claim]:
    """Encoder over classical, student against teacher in quality and speed."""
    encoder, student = (_values(pieces, data, arm, "macro_f1") for arm in ("encoder", "student"))
    arm, classical = _best_classical(pieces, data)
    slow, fast = (_values(pieces, data, a, "seconds_a_pair") for a in ("encoder", "student"))
    generative = _values(pieces, data, "generative", "macro_f1")
    return [
        *_ratio(f"encoder-over-classical-{data}", f"{data}: macro F1 of the fine-tuned encoder (MiniLM) over the best classical family", encoder, classical, ">= 1.15", data, "cheap encoders", f"{arm}, chosen on select"),
        *_ratio(f"student-keeps-{data}", f"{data}: macro F1 of the distilled student over its teacher's", student, encoder, ">= 0.97", data, "encoders"),
        *_ratio(f"student-faster-{data}", f"{data}: seconds a pair of the teacher over the student's", slow, fast, ">= 3", data, "encoders"),
        *_ratio(f"student-over-labels-{data}", f"{data}: macro F1 of the student over the same network trained on labels alone", student, _values(pieces, data, "labels_only", "macro_f1"), ">= 1.0", data, "encoders"),
        *_ratio(f"encoder-over-generative-{data}", f"{data}: macro F1 of the encoder over a T5-type one", encoder, generative, ">= 1.0", data, "encoders", "the T5-type has random first weights here: no statement about T5 or SciFive"),
    ]  # fmt: skip


def imbalance_claims(pieces: Pieces, data: str) -> list[Claim]:
    """Unequal classes against equal ones at the same number of pairs, for every family that was tried."""
    found = []
    for arm in (*CLASSICAL, "encoder", "student"):
        few, even = (_values(pieces, data, arm, "macro_f1", kind) for kind in ("natural, as few", "balanced"))
        found += _ratio(f"imbalance-{arm.replace('_', '-')}-{data}", f"{data}: macro F1 of {arm.replace('_', ' ')} trained on natural shares over equal shares, equally many pairs", few, even, ">= 0.95", data, "imbalance")  # fmt: skip
    return found


def _by_documents(id: str, statement: str, rows: Sequence[tuple[float, float]], threshold: str, data: str, stage: str, note: str) -> Claim:  # fmt: skip
    told = [(part, whole) for part, whole in rows if whole > 0]  # a document without any says nothing of the share
    measured, interval = ratio_of_means([part for part, _ in told], [whole for _, whole in told])
    return Claim(id, statement, None, round(measured, 4), interval, threshold, 1, judge(interval, threshold), data, f"{SCRIPT} --stages {stage}", note)  # fmt: skip


def normaliser_claims(pieces: Pieces) -> list[Claim]:
    """Share of BioRED's mentions that get an annotated id."""
    found = [p["value"] for p in pieces if p["key"].get("stage") == "normaliser"]
    if not found:
        return []
    claims = []
    for kind, rows in found[-1].items():
        right, mentions, reachable = (sum(r[i] for r in rows) for i in (0, 4, 5))
        note = f"{mentions:,} mentions; interval over documents; the annotated id is in the dictionaries for {reachable / mentions:.1%}, of which {right / reachable:.1%} are right"  # fmt: skip
        claims.append(_by_documents(f"normaliser-{kind}", f"biored: share of {kind} mentions that get an annotated id", [(r[0], r[4]) for r in rows], ">= 0.6", "biored", "cheap", note))  # fmt: skip
    return claims


def graph_claims(pieces: Pieces) -> list[Claim]:
    """Precision of the graph of held-out documents, edge by edge."""
    claims = []
    for p in pieces:
        key, value = p["key"], p["value"]
        if key.get("arm") in ("student", "linear") and key.get("seed") == "0" and "graph" in value:
            rows = value["graph"]
            annotated, right = sum(r[2] for r in rows), sum(r[0] for r in rows)
            note = f"{sum(r[1] for r in rows):,} edges of {len(rows)} documents, recall {right / annotated:.2f}; interval over documents, one seed"  # fmt: skip
            claims.append(_by_documents(f"graph-precision-{key['arm']}-{key['data']}", f"{key['data']}: share of the edges by {key['arm']} that held-out documents annotate", [(r[0], r[1]) for r in rows], ">= 0.5", key["data"], "cheap encoders", note))  # fmt: skip
    return claims


def percentile_with_interval(values: np.ndarray, share: float) -> tuple[float, tuple[float, float]]:
    """A percentile and its 95 % interval of order statistics: the ranks between which a binomial count of smaller values lies."""
    ordered = np.sort(values)
    low, high = (int(binom.ppf(p, len(ordered), share)) for p in (0.025, 0.975))
    return float(np.quantile(ordered, share)), (float(ordered[low - 1]), float(ordered[min(high, len(ordered) - 1)]))


def speed_claims(pieces: Pieces) -> list[Claim]:
    """Queries at a million edges; 10,000 abstracts."""
    claims = []
    found = [p["value"] for p in pieces if p["key"].get("stage") == "queries" and p["key"].get("version") == "3"]
    asked = [value for value in found if value["edges"] >= 1_000_000]
    for kind in KINDS if asked else ():
        busy, clock = (np.concatenate([v[kind][name] for v in asked]) for name in ("processor", "clock"))
        measured, interval = percentile_with_interval(busy, 0.95)
        note = f"seconds of the processor, median {np.median(busy):.4f}; 95th percentile by the clock of a machine that others used too {np.quantile(clock, 0.95):.3f}; interval over {len(busy)} queries, {len(asked)} graphs"  # fmt: skip
        name = f"query-{kind.replace(' of the largest', '').replace(' ', '-')}"
        claims.append(Claim(name, f"seconds of {kind} queries at a million edges, 95th percentile", None, round(measured, 4), interval, "<= 0.05", len(asked), judge(interval, "<= 0.05"), "generated", f"{SCRIPT} --stages queries", note))  # fmt: skip
    return claims + [c for p in pieces if p["key"].get("stage") == "throughput" for c in throughput_claims(p["value"])]


def throughput_claims(told: dict[str, Any]) -> list[Claim]:
    """Seconds and memory of reading abstracts with the student, from a run in ten equal parts."""
    documents, busy = int(told["documents"]), told["processor_seconds"]
    parts = [1000 * (b - a) / (documents / 10) for a, b in pairwise([0.0, *busy])]
    measured, interval = mean_with_interval(parts)
    later, earlier = sum(parts[5:]), sum(parts[:5])
    note = f"{documents:,} abstracts on one thread, interval over ten parts; the second half took {later / earlier:.2f} x the first; by the clock of a machine that others used too {told['seconds'][-1]:.0f} s; most memory {told['peak_bytes'] / 1e9:.2f} GB"  # fmt: skip
    command = f"{SCRIPT} --stages encoders throughput --data planted --documents {documents}"
    gigabytes = told["peak_bytes"] / 1e9
    # memory is one number of one run: the verdict is that of the number, with no interval to it
    return [
        Claim("seconds-a-thousand-abstracts", "seconds of the processor for a thousand built-in abstracts through the student into the graph (90: 10,000 in 15 minutes)", None, round(measured, 2), interval, "<= 90", 1, judge(interval, "<= 90"), "planted", command, note),
        Claim("gigabytes-of-reading", f"most memory while {documents:,} abstracts were read, GB", None, round(gigabytes, 2), (gigabytes, gigabytes), "<= 3", 1, judge((gigabytes, gigabytes), "<= 3"), "planted", command, "one run, in a process of its own"),
    ]  # fmt: skip


def all_claims(pieces: Pieces) -> list[Claim]:
    """Everything that the pieces on disk allow to be said."""
    found: list[Claim] = []
    for data in ("chemprot", "biored", "gad", "planted"):
        found += family_claims(pieces, data) + imbalance_claims(pieces, data)
    return [*found, *normaliser_claims(pieces), *graph_claims(pieces), *speed_claims(pieces)]


def tables(evidence: Evidence) -> str:
    """The tables of docs/methods/biomedical_relations.md: each corpus's extractors, means over seeds."""
    rows: dict[str, dict[str, list[Arm]]] = {}
    for claimed in evidence.arms:
        data, *arm = claimed.arm.name.split(" / ")
        if len(arm) == 1:
            rows.setdefault(data, {}).setdefault(arm[0], []).append(claimed.arm)
    return "\n\n".join(_table(data, arms) for data, arms in rows.items())


def _table(data: str, arms: dict[str, list[Arm]]) -> str:
    head = f"| {data} | macro F1 | micro F1 | calibration error | seconds a thousand pairs | MB | seeds |\n|---|---:|---:|---:|---:|---:|---:|"  # fmt: skip
    order = [name for name in ORDER if name in arms]
    return "\n".join([head, *(_row(name, arms[name]) for name in order)])


def _row(name: str, seeds: Sequence[Arm]) -> str:
    def mean(values: Sequence[float]) -> float:
        return sum(values) / len(values)

    f1, micro, error = (mean([a.metrics[m] for a in seeds]) for m in ("macro_f1", "micro_f1", "ece_calibrated"))
    slow = mean([1000 * a.cost.latency_seconds["a pair"] for a in seeds])
    size = mean([(a.cost.bytes_on_disk or 0) / 1e6 for a in seeds])
    return (
        f"| {name.replace('_', ' ')} | {f1:.3f} | {micro:.3f} | {error:.3f} | {slow:.2f} | {size:.1f} | {len(seeds)} |"
    )
