"""Mirage's claims on eight graph sets: quality at equal bytes, transfer between networks, cost, and where the premise fails.

    python benchmarks/mirage.py                      # everything; pieces that are on disk are not computed again
    python benchmarks/mirage.py --stages quality     # one stage: quality tuning speed transfer gradient curve premise molecules
    python benchmarks/mirage.py --minutes 20         # start no further piece after that long, write what is there
    python benchmarks/mirage.py --table              # the tables of docs/methods/mirage.md, from the result file
    python benchmarks/mirage.py --full               # 5 seeds of every stage, gradient baselines on every set: about 8 hours

Data: TU sets (isomorphic duplicates removed) and MoleculeNet from $STILLHOUSE_DATA. Nodes are read as labels, edges as
plain, by every arm alike. Every network: width 64, as many layers as hops, 300 updates; the update that is best on the select
split counts, for every arm alike, and the last update is reported too. Full data is tuned over two learning rates, 3e-3 and
1e-2, on the select split; the other arms are trained at 3e-3, and once more at both where their name says "two rates".
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mirage_claims import BUDGETS, CURVE, SETS, TUNED, Rows, all_claims, byte_arm, plot, rows_of, tables
from stillhouse.core.evidence import Bench, ClaimedArm, load_evidence, print_estimate
from stillhouse.core.result import Arm, Cost, Role
from stillhouse.graphs.arms import Arms, Row, no_evidence
from stillhouse.graphs.budget import itemset_within, mixture_within
from stillhouse.graphs.census import take_census
from stillhouse.graphs.codec import pack
from stillhouse.graphs.data import Split, split_graphs
from stillhouse.graphs.doscond import DosCondOptions, doscond
from stillhouse.graphs.kidd import KiddOptions, kidd
from stillhouse.graphs.load import load_graphs
from stillhouse.graphs.skew import measure_skew
from stillhouse.graphs.training import Recipe
from stillhouse.graphs.words import Words, learn_words

RATES = (3e-3, 1e-2)
UNSKEWED = (("PROTEINS", 2), ("IMDB-BINARY", 1), ("IMDB-BINARY", 2), ("ENZYMES", 1), ("ENZYMES", 2))
"""Sets and depths where trees hardly repeat."""
SPEED = [("NCI1", hops, "none") for hops in (1, 2, 3, 4)]
SPEED += [(f"NCI1:{labels}", 2, "none") for labels in (1, 4, 16)]
SPEED += [("IMDB-BINARY", hops, "none") for hops in (2, 3)] + [("Tox21_AHR", 2, edges) for edges in ("none", "labels")]
SPEED += [(f"stream:{graphs}", 2, "none") for graphs in (1_000, 10_000, 100_000, 1_000_000)]
CLAIMED = {("NCI1", 2): 3, ("NCI1", 3): 3, ("IMDB-BINARY", 2): 3, ("IMDB-BINARY", 3): 3, ("stream:1000000", 2): 2}
"""Measured this often; the others once."""
bench = Bench("mirage", Path(__file__).parent)
recorded: Rows = {}


class NotOnDisk(Exception):
    """A piece that was not asked for has not been computed."""


def piece(key: dict[str, Any], compute: Callable[[], Any], asked: bool) -> Any:
    """A piece from disk, else computed where it was asked for.

    Raises:
        NotOnDisk: neither.
    """

    def refuse() -> Any:
        raise NotOnDisk

    return bench.piece(key, compute if asked else refuse)


class Lazy:
    """One split and network: pieces on disk are taken from there, the graphs are only read when a piece needs them."""

    def __init__(self, data: str, hops: int, seed: int, network: str, asked: bool = True) -> None:
        self.data, self.hops, self.seed, self.network, self.asked = data, hops, seed, network, asked
        self._read: tuple[Split, Words] | None = None
        self._arms: dict[tuple[float, ...], Arms] = {}

    def arms(self, rates: tuple[float, ...]) -> Arms:
        """What every arm of the split shares."""
        if self._read is None:
            split = split_graphs(load_graphs(self.data), self.seed)
            self._read = split, learn_words(split.train, edges="none")
        recipe = Recipe(network=self.network, layers=self.hops, updates=300, learning_rates=rates, checks=10)
        return self._arms.setdefault(rates, Arms(*self._read, recipe, self.hops, self.seed))

    def row(self, arm: str, role: Role, compute: Callable[[Arms], Row]) -> Row | None:
        """An arm that is not trained, or whose `compute` tries both learning rates itself; None where not on disk."""
        with suppress(NotOnDisk):
            return self._put(arm, role, self._piece(arm, 1, RATES, compute))
        return None

    def trained(self, arm: str, role: Role, compute: Callable[[Arms], Row]) -> Row | None:
        """An arm trained at the first learning rate."""
        with suppress(NotOnDisk):
            return self._put(arm, role, self._piece(arm, 2 if role == "baseline" else 1, RATES[:1], compute))
        return None

    def tuned(self, arm: str, role: Role, compute: Callable[[Arms], Row]) -> Row | None:
        """The same arm at both learning rates, as full data is; the better on select counts."""
        version = 2 if role == "baseline" else 1
        with suppress(NotOnDisk):
            tried = [self._piece(arm, version, (rate,), compute) for rate in RATES]
            return self._put(f"{arm}{TUNED}", role, max(tried, key=lambda row: row.select))
        return None

    def _piece(self, arm: str, version: int, rates: tuple[float, ...], compute: Callable[[Arms], Row]) -> Row:
        key: dict[str, Any] = {"data": self.data, "hops": self.hops, "seed": self.seed, "network": self.network}
        key |= {"arm": arm, "version": version} | ({"rate": RATES[1]} if rates == RATES[1:] else {})
        return Row(**piece(key, lambda: dataclasses.asdict(compute(self.arms(rates))), self.asked))

    def _put(self, arm: str, role: Role, row: Row) -> Row:
        floor = recorded.get((self.data, self.seed, self.network, "untrained"))
        weak = floor is not None and role in ("student", "baseline") and no_evidence(row.report, floor["auc"])
        metrics = {"auc": row.report, "auc_last": row.last, "auc_select": row.select, "seconds": row.distil_seconds}
        cost = Cost(bytes_on_disk=row.bytes or None, training_seconds=row.distil_seconds + 2 * row.train_seconds)
        note = "; ".join(filter(None, [row.note, "no evidence" if weak else ""]))
        name = f"{self.data} / {self.network} / {arm}"
        bench.arms.append(ClaimedArm("quality", Arm(name, role, metrics, cost, self.seed, note)))
        recorded[self.data, self.seed, self.network, arm] = {**metrics, "bytes": float(row.bytes)}
        return row


def mixture(max_bytes: int, labels: str) -> Callable[[Arms], Row]:
    def compute(arms: Arms) -> Row:
        started = time.process_time()
        census = take_census([arms.split.train], arms.words, arms.hops, seed=arms.seed)
        summary = mixture_within(census, max_bytes, labels=labels, seed=arms.seed)  # type: ignore[arg-type]
        return arms.on_summary(summary, len(pack(summary)), time.process_time() - started)

    return compute


def itemsets(max_bytes: int, **options: Any) -> Callable[[Arms], Row]:
    def compute(arms: Arms) -> Row:
        started = time.process_time()
        census = take_census([arms.split.train], arms.words, arms.hops, seed=arms.seed)
        summary = itemset_within(census, max_bytes, **options)
        return arms.on_summary(summary, len(pack(summary)), time.process_time() - started)

    return compute


def condensed_doscond(arms: Arms) -> Row:
    started = time.process_time()
    made = doscond(arms.split.train, arms.words, DosCondOptions(graphs_per_class=1), arms.seed)
    return arms.on_material(made.material(), len(made.packed()), time.process_time() - started)


def condensed_kidd(arms: Arms) -> Row:
    started = time.process_time()
    made = kidd(arms.split.train, arms.words, KiddOptions(epochs=300), arms.seed)
    return arms.on_material(made.material(), len(made.packed()), time.process_time() - started)


def budget(data: str, name: str) -> int:
    return BUDGETS[name] // (4 if name == "small" else 8) if data == "MUTAG" else BUDGETS[name]


def quality(lazy: Lazy) -> None:
    """Everything on one split with GIN at the first learning rate, at the default budget and at a larger one."""
    small = budget(lazy.data, "small")
    lazy.row("untrained", "floor", lambda a: a.untrained())
    lazy.row("class prior", "floor", lambda a: a.prior())
    lazy.row("size alone", "floor", lambda a: a.size_alone())
    lazy.row("logistic regression on 200 tree counts", "peer", lambda a: a.count_regression())
    lazy.row("Weisfeiler-Lehman + SVM", "peer", lambda a: a.weisfeiler_lehman())
    lazy.row("full data", "teacher", lambda a: a.full())
    for name in BUDGETS:
        size = budget(lazy.data, name)
        for labels in ("rule", "class"):
            lazy.trained(f"mixtures {labels}, {name}", "student", mixture(size, labels))
        lazy.trained(f"random, {name}", "baseline", lambda a, s=size: a.random(s))
    lazy.trained("itemsets, small", "student", itemsets(small))
    lazy.trained("multisets, small", "student", itemsets(small, multiplicities=True, class_prior=True))
    for on in ("counts", "embeddings"):
        by_network = on == "embeddings"
        lazy.trained(f"herding on {on}, small", "baseline", lambda a, e=by_network: a.herding(small, embeddings=e))
        lazy.trained(f"k-centre on {on}, small", "baseline", lambda a, e=by_network: a.k_centre(small, embeddings=e))


def tuning(lazy: Lazy) -> None:
    """The arms of the main claims, tuned as full data is."""
    for name in BUDGETS:
        size = budget(lazy.data, name)
        lazy.tuned(f"mixtures rule, {name}", "student", mixture(size, "rule"))
        lazy.tuned(f"random, {name}", "baseline", lambda a, s=size: a.random(s))


def transfer(lazy: Lazy, with_full: bool) -> None:
    """What the other networks are asked: the same file, and full data for comparison."""
    lazy.trained("mixtures rule, large", "student", mixture(budget(lazy.data, "large"), "rule"))
    if with_full:
        lazy.row("untrained", "floor", lambda a: a.untrained())
        lazy.row("full data", "teacher", lambda a: a.full())


def curve(lazy: Lazy) -> None:
    """Quality against bytes at the first learning rate."""
    for size in CURVE:
        if size <= BUDGETS["large"]:
            lazy.trained(byte_arm("mixtures rule", size), "student", mixture(size, "rule"))
        if size >= CURVE[1]:
            lazy.trained(byte_arm("random", size), "baseline", lambda a, s=size: a.random(s))


def gradient(lazy: Lazy) -> None:
    """DosCond and KIDD, one graph a class, and summaries of as many bytes as theirs."""
    for name, compute in (("DosCond", condensed_doscond), ("KIDD", condensed_kidd)):
        theirs = lazy.trained(f"{name}, 1 graph a class", "peer", compute)
        if theirs is not None:
            lazy.trained(f"mixtures rule, bytes of {name}", "student", mixture(theirs.bytes, "rule"))


def premise(lazy: Lazy) -> None:
    """Sets and depths where trees are not skewed."""
    lazy.row(f"untrained, {lazy.hops} hops", "floor", lambda a: a.untrained())
    lazy.row(f"full data, {lazy.hops} hops", "teacher", lambda a: a.full())
    lazy.row(f"mixtures rule, large, {lazy.hops} hops", "student", mixture(BUDGETS["large"], "rule"))


def molecules(lazy: Lazy) -> None:
    """Molecules read from SMILES, every network tuned over both rates."""
    large = BUDGETS["large"]
    lazy.row("untrained", "floor", lambda a: a.untrained())
    lazy.row("size alone", "floor", lambda a: a.size_alone())
    lazy.row("logistic regression on 200 tree counts", "peer", lambda a: a.count_regression())
    lazy.row("full data", "teacher", lambda a: a.full())
    lazy.row("mixtures rule, large", "student", mixture(large, "rule"))
    lazy.row("random, large", "baseline", lambda a: a.random(large))


Item = tuple[str, str, int, int, str, Callable[[Lazy], object]]
"""(stage, set, hops, seed, network, work)."""


def stages(full: bool) -> Iterator[Item]:
    """In order of importance, so that a run that is cut short has the most important pieces."""
    few = 5 if full else 3
    for seed in range(5):
        yield from (("quality", data, hops, seed, "gin", quality) for data, hops in SETS.items())
    for seed in range(few):
        yield from (("tuning", data, hops, seed, "gin", tuning) for data, hops in SETS.items())
        for data, hops in SETS.items():
            for network in ("gat", "gcn"):
                yield "transfer", data, hops, seed, network, partial(transfer, with_full=full or seed == 0)
        yield from (("curve", data, SETS[data], seed, "gin", curve) for data in ("DHFR", "NCI1"))
    for data, hops in UNSKEWED:
        yield from (("premise", data, hops, seed, "gin", premise) for seed in range(few if full else 1))
    for seed in range(5):
        for data in ("MUTAG", "COX2", "DHFR", *(("NCI1",) if seed < 2 else ())):
            yield "gradient", data, 2, seed, "gin", gradient
    for seed in range(few if full else 1):
        yield "molecules", "tox21", 2, seed, "gin", molecules
    for seed in range(few, 5):
        yield from (("tuning", data, hops, seed, "gin", tuning) for data, hops in SETS.items())
        for data, hops in SETS.items():
            for network in ("gat", "gcn"):
                yield "transfer", data, hops, seed, network, partial(transfer, with_full=full)
    for seed in range(5 if full else 1):
        yield "molecules", "hiv", 2, seed, "gin", molecules
    if full:
        for seed in range(5):
            yield from (("gradient", d, h, seed, "gin", gradient) for d, h in SETS.items())


def speed_pieces(asked: bool) -> None:
    """Seconds and memory against number of graphs, hops and labels, a process each."""
    script = Path(__file__).with_name("mirage_speed.py")
    for data, hops, edges in SPEED:
        for take in range(CLAIMED.get((data, hops), 1)):
            command = [sys.executable, "-W", "ignore", str(script), data, str(hops), "--edges", edges]
            key = {"speed": data, "hops": hops, "edges": edges, "take": take, "version": 2}
            found = piece(key, lambda c=command: json.loads(subprocess.check_output(c, text=True)), asked)  # type: ignore[misc]
            name = f"{data}, {hops} hops" + (", edge labels" if edges == "labels" else "")
            bench.arms.append(ClaimedArm("speed", Arm(name, "student", found, seed=take)))


def skew_pieces() -> None:
    """The statistic that says before distilling whether it will work."""
    for data, hops in (*SETS.items(), *UNSKEWED):

        def compute(data: str = data, hops: int = hops) -> dict[str, float]:
            split = split_graphs(load_graphs(data), 0)
            skew = measure_skew(split, learn_words(split.train, edges="none"), hops)
            return {
                "top10": skew.coverage[0],
                "top50": skew.coverage[1],
                "top200": skew.coverage[2],
                "distinct_per_node": skew.share,
                "counts_auc": skew.counts_auc,
                "size_auc": skew.size_auc,
            }

        found = bench.piece({"skew": data, "hops": hops, "version": 2}, compute)
        bench.arms.append(ClaimedArm("skew", Arm(f"{data}, {hops} hops", "student", found)))


def write() -> None:
    """The result file and the figure, from the pieces so far and the rows of an earlier result file."""
    arms = bench.known_arms()
    bench.write(all_claims(arms))
    plot(rows_of(arms), bench.results_file.with_name("mirage_bytes.svg"))


def main() -> None:
    """Carry out the stages that were asked for, in their order, and write the result file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--full", action="store_true", help="5 seeds of every stage, gradient baselines on every set")
    parser.add_argument("--stages", nargs="*", default=[], help="compute only these; the others are taken from disk")
    parser.add_argument("--minutes", type=float, default=1e9, help="compute no further row after this long")
    parser.add_argument("--table", action="store_true", help="print the tables of the result file and stop")
    given = parser.parse_args()
    if given.table:
        evidence = next(e for e in load_evidence(bench.results_file.parent) if e.method == "mirage")
        print(tables(evidence.arms))
        return
    torch.set_num_threads(1)
    work = list(stages(given.full))
    print_estimate("mirage", 15.0 * len(work) + 120, len(work))
    started = time.monotonic()
    with suppress(NotOnDisk):
        speed_pieces(not given.stages or "speed" in given.stages)
    for stage, data, hops, seed, network, job in work:
        in_time = time.monotonic() - started < 60 * given.minutes
        asked = in_time and (not given.stages or stage in given.stages)
        job(Lazy(data, hops, seed, network, asked))
        if asked:
            print(f"{time.monotonic() - started:6.0f} s  {stage} {data} {hops} hops seed {seed} {network}", flush=True)
    skew_pieces()
    write()
    print(tables(bench.known_arms()))


if __name__ == "__main__":
    main()
