"""Mirage's own commands: measure skew, make a summary, look into one, train on one."""

from __future__ import annotations

import json as json_module
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import tyro

from stillhouse.core.errors import require
from stillhouse.core.files import write_atomically
from stillhouse.graphs.arms import no_evidence
from stillhouse.graphs.codec import pack, read_summary, write_summary
from stillhouse.graphs.data import Split, rename_classes, split_graphs
from stillhouse.graphs.load import load_graphs
from stillhouse.graphs.skew import TOP, Skew, measure_skew
from stillhouse.graphs.summary import Summary
from stillhouse.graphs.training import Recipe, train_classifier, untrained
from stillhouse.graphs.words import EdgeSource, NodeSource, learn_words
from stillhouse.methods.mirage.config import Config
from stillhouse.methods.mirage.student import Student, save_student


def skew(
    data: tyro.conf.Positional[str],
    hops: tuple[int, ...] = (1, 2, 3),
    node_words: NodeSource | Literal["auto"] = "auto",
    edge_words: EdgeSource | Literal["auto"] = "auto",
    seed: int = 0,
    json: bool = False,
) -> None:
    """Whether a summary of trees can work on a data set, before distilling.

    Args:
        data: as for `stillhouse run mirage --data`.
        hops: depths to measure.
        node_words: auto, labels, attributes, both, degree or degree-buckets.
        edge_words: auto, labels or none.
        seed: of the split; coverage is measured on graphs that are not counted.
        json: machine-readable.
    """
    split = split_graphs(load_graphs(data), seed)
    words = learn_words(split.train, nodes=node_words, edges=edge_words)
    measured = [measure_skew(split, words, depth) for depth in hops]
    if json:
        print(
            json_module.dumps([{**vars(row), "share": row.share, "verdict": row.verdict} for row in measured], indent=1)
        )
        return
    print(
        f"{split.train.name}: {split.train.graphs} training graphs, {split.train.nodes:,} nodes, words: {words.node_source}"
    )
    if len(words.codebook):
        print(f"codebook of {words.codes} words; share of attribute variance lost: {words.error:.3f}")
    print("hops  distinct  per node  " + "  ".join(f"top {k:>3}" for k in TOP) + "  tree nodes  counts AUC  size AUC")
    for row in measured:
        print(_skew_line(row))


def _skew_line(row: Skew) -> str:
    tops = "  ".join(f"{share:7.2f}" for share in row.coverage)
    return (
        f"{row.hops:4}  {row.distinct:8,}  {row.share:8.3f}  {tops}  {row.unrolled:10,.0f}  {row.counts_auc:10.3f}"
        f"  {row.size_auc:8.3f}  {row.verdict}"
    )


def summarise(
    config: tyro.conf.OmitArgPrefixes[Config], out: Path = Path("summary.mirage"), all_graphs: bool = False
) -> None:
    """Make a summary file, and nothing else.

    Args:
        config: as for `stillhouse run mirage`.
        out: the file.
        all_graphs: summarise all graphs; by default only the training split of `seed`, so that the rest can judge.
    """
    from stillhouse.methods import mirage

    graphs = mirage.graphs_of(config)
    started = time.monotonic()
    made = mirage.summarise(graphs if all_graphs else split_graphs(graphs, config.seed).train, config, quiet=False)
    size = write_summary(made, out)
    print(f"{out}: {size:,} bytes in {time.monotonic() - started:.1f} s")
    print("\n".join(_described(made)))


def show(summary: tyro.conf.Positional[Path], trees: int = 10, json: bool = False) -> None:
    """What a summary holds, in words or as JSON.

    Args:
        summary: a .mirage file.
        trees: how many trees to print, the most frequent first.
        json: everything, machine-readable.
    """
    made = read_summary(summary)
    if json:
        print(json_module.dumps(_as_json(made), indent=1))
        return
    print(f"{summary}: {summary.stat().st_size:,} bytes")
    print("\n".join(_described(made)))
    for tree in range(min(trees, made.vocabulary.trees)):
        print(f"  tree {tree}: {tree_text(made, made.hops, tree)}")


def train(
    summary: tyro.conf.Positional[Path],
    data: str,
    network: str = "gin",
    layers: int = 0,
    width: int = 64,
    updates: int = 400,
    learning_rates: tuple[float, ...] = (3e-3, 1e-2),
    seed: int = 0,
    out: Path | None = None,
) -> None:
    """Train a network on a summary and judge it on real graphs that the summary has not seen.

    Args:
        summary: a .mirage file made from the training split of the same `seed` (the default of `summarise`).
        data: the real graphs, as for `stillhouse run mirage --data`.
        network: gin, gat, gcn, sage, gine, or package.module:function.
        layers: 0 takes as many as the summary has hops.
        width: of the network.
        updates: optimizer updates.
        learning_rates: Adam's; each is tried, and the best on the select split counts.
        seed: of the split and the network.
        out: folder for the trained network; it is not kept by default.
    """
    made = read_summary(summary)
    require(layers <= made.hops, f"{layers} layers on trees of {made.hops} hops", f"use at most {made.hops}")
    require(len(learning_rates) > 0 and min(learning_rates) > 0, "no learning rate above 0", "give one or more")
    split = _split_like(made, data, seed)
    recipe = Recipe(network, layers or made.hops, width, 0.0, updates, learning_rates)
    select, report = made.exam(split.select), made.exam(split.report)
    score, model = train_classifier(made.material(), recipe, select, report, made.classes, seed)
    control = untrained(recipe, select.graph, select, report, made.classes, seed)
    known = made.coverage(split.report)
    print(
        f"AUC {score.report:.3f} on {split.report.graphs} real graphs (best of select, update {score.best_update}); "
        f"last {score.last:.3f}; untrained network {control.report:.3f}; {known:.0%} of nodes have a known tree"
    )
    if no_evidence(score.report, control.report):
        print("no evidence: the trained network does not clear the untrained one by 0.02")
    if out is not None:
        write_atomically(out / "summary.mirage", pack(made))
        save_student(Student(made, model, recipe), out)
        print(f"network after the last update: {out}")


def _split_like(made: Summary, data: str, seed: int) -> Split:
    return split_graphs(rename_classes(load_graphs(data), made.class_names), seed)


def tree_text(made: Summary, depth: int, tree: int) -> str:
    """A tree in brackets: root(children with copies and edge words)."""
    level = made.vocabulary.levels[depth]
    root = made.words.name(int(level.words[tree]))
    parts = []
    for entry in range(int(level.offsets[tree]), int(level.offsets[tree + 1])):
        copies = int(level.copies[entry])
        edge = f"{made.words.edge_labels[level.edge_words[entry]]}:" if made.words.edge_labels else ""
        child = tree_text(made, depth - 1, int(level.children[entry]))
        parts.append(f"{f'{copies}x ' if copies > 1 else ''}{edge}{child}")
    return f"{root}({' '.join(parts)})" if parts else root


def _described(made: Summary) -> list[str]:
    words = made.words
    lines = [
        f"{made.kind}, {made.hops} hops, {made.vocabulary.trees} trees ({sum(map(len, made.vocabulary.levels))} subtrees stored)",
        f"node words: {words.unknown} from {words.node_source}; edge words: {len(words.edge_labels) or 'none'}",
        f"evaluation pools {'only known trees' if made.root_mask else 'all nodes'}; "
        f"labels: {'stored rule' if made.rule is not None else 'class'}",
    ]
    for c, name in enumerate(made.class_names):
        parts = f"{len(made.mixtures[c].weights)} components" if made.mixtures else f"{len(made.itemsets[c])} tree sets"
        lines.append(f"class {name}: {int(made.graph_counts[c])} graphs, {parts}")
    return lines


def _as_json(made: Summary) -> dict[str, Any]:
    trees = [tree_text(made, made.hops, tree) for tree in range(made.vocabulary.trees)]
    value: dict[str, Any] = {
        "kind": made.kind,
        "hops": made.hops,
        "classes": list(made.class_names),
        "graphs": made.graph_counts.tolist(),
        "root_mask": made.root_mask,
        "trees": trees,
    }
    if made.mixtures:
        value["mixtures"] = [
            {key: getattr(m, key).tolist() for key in ("weights", "presence", "means")} for m in made.mixtures
        ]
    if made.rule is not None:
        value["rule"] = {"weights": made.rule.weights.tolist(), "bias": made.rule.bias.tolist()}
    if made.itemsets:
        value["itemsets"] = [[{"support": s.support, "items": s.items} for s in sets] for sets in made.itemsets]
    return value


COMMANDS: dict[str, Callable[..., None]] = {"skew": skew, "summarise": summarise, "show": show, "train": train}
