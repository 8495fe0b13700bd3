"""Mirage's claims on eight graph sets: quality at equal bytes, transfer between networks, cost, and where the premise fails.

    python benchmarks/mirage.py                      # what is in results/mirage.json: about an hour of one core
    python benchmarks/mirage.py --full               # 5 seeds of everything, DosCond and KIDD included: about 8 hours
    python benchmarks/mirage.py --stages quality     # one stage; pieces that are on disk are not computed again

Data: TU sets (isomorphic duplicates removed) and MoleculeNet from $STILLHOUSE_DATA. Nodes are read as labels, edges as
plain, by every arm alike. Every network: width 64, as many layers as hops, 300 updates, the checkpoint that is best on the
select split, the last one reported too. Full data is tuned over two learning rates, every other arm gets one.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from stillhouse.core.evidence import Bench, print_estimate
from stillhouse.core.result import Arm, Cost
from stillhouse.graphs.arms import Arms, Row, no_evidence
from stillhouse.graphs.budget import itemset_within, mixture_within
from stillhouse.graphs.census import take_census
from stillhouse.graphs.codec import pack
from stillhouse.graphs.data import split_graphs
from stillhouse.graphs.doscond import DosCondOptions, doscond
from stillhouse.graphs.kidd import KiddOptions, kidd
from stillhouse.graphs.load import load_graphs
from stillhouse.graphs.skew import measure_skew
from stillhouse.graphs.training import Recipe
from stillhouse.graphs.words import learn_words

SETS = {"MUTAG": 2, "DHFR": 2, "COX2": 2, "PROTEINS": 1, "AIDS": 2, "NCI1": 2, "Tox21_AHR": 2, "NCI109": 2}
"""Name -> hops."""
NETWORKS = ("gin", "gat", "gcn")
BUDGETS = {"small": 2000, "large": 8000}
"""Bytes of the compressed file; MUTAG's 109 training graphs are 1,900 bytes in all, so it gets a quarter and an eighth."""
CURVE = (500, 1000, 2000, 4000, 8000, 16000)
COMMAND = "python benchmarks/mirage.py"
bench = Bench("mirage", Path(__file__).parent)
recorded: dict[tuple[str, int, str, str], Row] = {}
"""(set, seed, network, arm) -> row."""


def arms_of(data: str, hops: int, seed: int, network: str) -> Arms:
    """The shared parts of one split."""
    split = split_graphs(load_graphs(data), seed)
    words = learn_words(split.train, edges="none")
    recipe = Recipe(network=network, layers=hops, updates=300, checks=10)
    return Arms(split, words, recipe, hops, seed)


class Lazy:
    """Makes an `Arms` when a piece really needs it."""

    def __init__(self, data: str, hops: int, seed: int, network: str) -> None:
        self.key = (data, hops, seed, network)
        self._arms: Arms | None = None

    def __call__(self) -> Arms:
        if self._arms is None:
            self._arms = arms_of(*self.key)
        return self._arms

    def row(self, arm: str, role: str, compute: Callable[[Arms], Row]) -> Row:
        """One arm's row, kept on disk."""
        data, hops, seed, network = self.key
        key = {"data": data, "hops": hops, "seed": seed, "network": network, "arm": arm, "version": 1}
        row = Row(**bench.piece(key, lambda: dataclasses.asdict(compute(self()))))
        recorded[data, seed, network, arm] = row
        control = recorded.get((data, seed, network, "untrained"))
        weak = control is not None and role in ("student", "baseline") and no_evidence(row.report, control.report)
        bench.arms.append(_claimed(data, seed, network, arm, role, row, weak))
        return row


def _claimed(data: str, seed: int, network: str, arm: str, role: str, row: Row, weak: bool) -> Any:
    from stillhouse.core.evidence import ClaimedArm

    metrics = {"auc": row.report, "auc_last": row.last, "auc_select": row.select}
    cost = Cost(bytes_on_disk=row.bytes or None, training_seconds=row.distil_seconds + row.train_seconds)
    note = "; ".join(filter(None, [row.note, "no evidence" if weak else ""]))
    return ClaimedArm("quality", Arm(f"{data} / {network} / {arm}", role, metrics, cost, seed, note))  # type: ignore[arg-type]


def mixture(arms: Arms, max_bytes: int, labels: str) -> Row:
    started = time.monotonic()
    census = take_census([arms.split.train], arms.words, arms.hops, seed=arms.seed)
    summary = mixture_within(census, max_bytes, labels=labels, seed=arms.seed)  # type: ignore[arg-type]
    seconds = time.monotonic() - started
    return arms.on_summary(summary, len(pack(summary)), seconds)


def itemsets(arms: Arms, max_bytes: int, **options: Any) -> Row:
    started = time.monotonic()
    census = take_census([arms.split.train], arms.words, arms.hops, seed=arms.seed)
    summary = itemset_within(census, max_bytes, **options)
    return arms.on_summary(summary, len(pack(summary)), time.monotonic() - started)


def condensed_doscond(arms: Arms, per_class: int) -> Row:
    started = time.monotonic()
    made = doscond(arms.split.train, arms.words, DosCondOptions(graphs_per_class=per_class), arms.seed)
    return arms.on_material(made.material(), len(made.packed()), time.monotonic() - started)


def condensed_kidd(arms: Arms, epochs: int) -> Row:
    started = time.monotonic()
    made = kidd(arms.split.train, arms.words, KiddOptions(epochs=epochs), arms.seed)
    row = arms.on_material(made.material(), len(made.packed()), time.monotonic() - started)
    return dataclasses.replace(row, note=f"{epochs} of 300 epochs")


def budget(lazy: Lazy, name: str) -> int:
    return BUDGETS[name] // (4 if name == "small" else 8) if lazy.key[0] == "MUTAG" else BUDGETS[name]


def quality(lazy: Lazy) -> None:
    """Everything on one split with GIN."""
    lazy.row("untrained", "floor", lambda a: a.untrained())
    lazy.row("class prior", "floor", lambda a: a.prior())
    lazy.row("size alone", "floor", lambda a: a.size_alone())
    lazy.row("logistic regression on 200 tree counts", "peer", lambda a: a.count_regression())
    lazy.row("Weisfeiler-Lehman + SVM", "peer", lambda a: a.weisfeiler_lehman())
    lazy.row("full data", "teacher", lambda a: a.full())
    small = budget(lazy, "small")
    for name in BUDGETS:
        size = budget(lazy, name)
        for labels in ("class", "rule"):
            lazy.row(f"mixtures {labels}, {name}", "student", lambda a, s=size, k=labels: mixture(a, s, k))
        lazy.row(f"random, {name}", "baseline", lambda a, s=size: a.random(s))
    lazy.row("itemsets, small", "student", lambda a: itemsets(a, small))
    lazy.row("multisets, small", "student", lambda a: itemsets(a, small, multiplicities=True, class_prior=True))
    for embeddings in (False, True):
        on = "embeddings" if embeddings else "counts"
        lazy.row(f"herding on {on}, small", "baseline", lambda a, e=embeddings: a.herding(small, embeddings=e))
        lazy.row(f"k-centre on {on}, small", "baseline", lambda a, e=embeddings: a.k_centre(small, embeddings=e))


def transfer(lazy: Lazy) -> None:
    """What the other networks are asked."""
    large = budget(lazy, "large")
    lazy.row("untrained", "floor", lambda a: a.untrained())
    lazy.row("full data", "teacher", lambda a: a.full())
    for labels in ("class", "rule"):
        lazy.row(f"mixtures {labels}, large", "student", lambda a, k=labels: mixture(a, large, k))
    lazy.row("random, large", "baseline", lambda a: a.random(large))


def curve(lazy: Lazy) -> None:
    """Quality against bytes."""
    for size in CURVE:
        for labels in ("class", "rule"):
            lazy.row(f"mixtures {labels}, {size} bytes", "student", lambda a, s=size, k=labels: mixture(a, s, k))
        lazy.row(f"random, {size} bytes", "baseline", lambda a, s=size: a.random(s))
        lazy.row(f"random, {4 * size} bytes", "baseline", lambda a, s=size: a.random(4 * s))


def stages(full: bool) -> Iterator[tuple[str, str, int, int, str, Callable[[Lazy], None]]]:
    """(stage, set, hops, seed, network, work) in order of importance."""
    seeds = range(5)

    def doscond_row(lazy: Lazy) -> None:
        lazy.row("DosCond, 1 graph a class", "peer", lambda a: condensed_doscond(a, 1))

    def kidd_row(lazy: Lazy) -> None:
        small = lazy.key[0] in ("MUTAG",)
        lazy.row("KIDD, 1 graph a class", "peer", lambda a: condensed_kidd(a, 300 if small or full else 10))

    for seed in seeds:
        for data, hops in SETS.items():
            yield "quality", data, hops, seed, "gin", quality
        if seed == 0:
            for data in ("MUTAG", "DHFR", "NCI1"):
                yield "doscond", data, SETS[data], 0, "gin", doscond_row
        if seed == 1:
            for network in NETWORKS[1:]:
                for data, hops in SETS.items():
                    for early in (0, 1):
                        yield "transfer", data, hops, early, network, transfer
            for data in ("COX2", "PROTEINS", "AIDS"):
                yield "doscond", data, SETS[data], 0, "gin", doscond_row
            for data in SETS if full else ("MUTAG", "DHFR", "COX2"):
                yield "kidd", data, SETS[data], 0, "gin", kidd_row
    for data in SETS if full else ("NCI1", "DHFR"):
        for seed in seeds if full else range(2):
            yield "curve", data, SETS[data], seed, "gin", curve
    for data, hops in (("PROTEINS", 2), ("IMDB-BINARY", 1), ("IMDB-BINARY", 2), ("ENZYMES", 1), ("ENZYMES", 2)):
        for seed in range(2):
            yield "premise", f"{data}", hops, seed, "gin", premise
    for network in NETWORKS[1:]:
        for data, hops in SETS.items():
            for seed in range(2, 5):
                yield "transfer", data, hops, seed, network, transfer
    for seed in seeds if full else (0,):
        for data, hops in SETS.items():
            yield "doscond", data, hops, seed, "gin", doscond_row
            if full:
                yield "kidd", data, hops, seed, "gin", kidd_row


def premise(lazy: Lazy) -> None:
    """Sets and depths where trees are not skewed."""
    data, hops, _, _ = lazy.key
    lazy.row(f"untrained, {hops} hops", "floor", lambda a: a.untrained())
    lazy.row(f"full data, {hops} hops", "teacher", lambda a: a.full())
    lazy.row(f"mixtures class, large, {hops} hops", "student", lambda a: mixture(a, BUDGETS["large"], "class"))


def measured_skew(data: str, hops: int) -> dict[str, Any]:
    def compute() -> dict[str, Any]:
        split = split_graphs(load_graphs(data), 0)
        skew = measure_skew(split, learn_words(split.train, edges="none"), hops)
        return {**dataclasses.asdict(skew), "share": skew.share, "verdict": skew.verdict}

    return bench.piece({"skew": data, "hops": hops, "version": 1}, compute)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--full", action="store_true", help="5 seeds of everything, both gradient baselines on all sets"
    )
    parser.add_argument("--stages", nargs="*", default=[], help="only these stages")
    parser.add_argument("--minutes", type=float, default=1e9, help="start no further piece after this long")
    given = parser.parse_args()
    torch.set_num_threads(1)
    work = [item for item in stages(given.full) if not given.stages or item[0] in given.stages]
    print_estimate("mirage", sum(30.0 if item[0] != "doscond" else 150.0 for item in work), len(work))
    started = time.monotonic()
    lazies: dict[tuple[str, int, int, str], Lazy] = {}
    for stage, data, hops, seed, network, job in work:
        if time.monotonic() - started > 60 * given.minutes:
            print("out of time; start again to go on")
            break
        lazy = lazies.pop((data, hops, seed, network), None) or Lazy(data, hops, seed, network)
        job(lazy)
        lazy._arms = None
        print(f"{time.monotonic() - started:6.0f} s  {stage} {data} {hops} hops seed {seed} {network}", flush=True)
        bench.write([])


if __name__ == "__main__":
    main()
