"""What Mirage's summary costs: processor seconds and peak memory of one data set, in a process of its own.

python benchmarks/mirage_speed.py NCI1 2              # prints one line of JSON; benchmarks/mirage.py collects them
python benchmarks/mirage_speed.py stream:1000000 2    # that many motif graphs, drawn chunk by chunk as they are counted
python benchmarks/mirage_speed.py NCI1:4 2            # node labels merged into four
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from stillhouse.graphs.budget import mixture_within
from stillhouse.graphs.census import take_census
from stillhouse.graphs.codec import pack
from stillhouse.graphs.data import GraphSet
from stillhouse.graphs.load import load_graphs
from stillhouse.graphs.motifs import motif_graphs, motif_stream
from stillhouse.graphs.words import Words, learn_words


def peak_megabytes() -> float:
    """Largest resident size of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def merged_labels(graphs: GraphSet, labels: int) -> GraphSet:
    """`graphs` with node labels taken modulo `labels`: the same structure, fewer words."""
    assert graphs.node_labels is not None
    return replace(graphs, node_labels=graphs.node_labels % labels, node_names=())


def source(data: str, edges: str) -> tuple[Words, Iterable[GraphSet]]:
    """Words and chunks of what `data` names."""
    name, _, number = data.partition(":")
    if name == "stream":
        return learn_words(motif_graphs(5000, 9)), motif_stream(int(number), 0)
    graphs = load_graphs(name)
    graphs = merged_labels(graphs, int(number)) if number else graphs
    return learn_words(graphs, edges="labels" if edges == "labels" else "none"), [graphs]


def measured(data: str, hops: int, edges: str, max_bytes: int) -> dict[str, float]:
    """One summary: seconds of counting trees, of everything but reading files, and memory."""
    before = peak_megabytes()
    words, chunks = source(data, edges)
    started = time.process_time()
    census = take_census(chunks, words, hops)
    counted = time.process_time()
    summary = mixture_within(census, max_bytes, labels="rule")
    done = time.process_time()
    return {
        "graphs": float(np.sum(census.graph_counts)),
        "words": float(words.unknown),
        "distinct": float(census.table.trees),
        "lost_at_most": float(census.lost_at_most),
        "census_seconds": counted - started,
        "seconds": done - started,
        "bytes": float(len(pack(summary))),
        "start_mb": before,
        "peak_mb": peak_megabytes(),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("data")
    parser.add_argument("hops", type=int)
    parser.add_argument("--edges", choices=("none", "labels"), default="none")
    parser.add_argument("--max-bytes", type=int, default=8000)
    given = parser.parse_args()
    print(json.dumps(measured(given.data, given.hops, given.edges, given.max_bytes)))


if __name__ == "__main__":
    main()
