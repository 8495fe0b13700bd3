"""A generated graph of any size, and how long questions to it take."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyoxigraph as ox

from stillhouse.knowledge import queries
from stillhouse.knowledge.biolink import BIOLINK, iri
from stillhouse.knowledge.queries import edge_by_id
from stillhouse.knowledge.store import OWN, RDF, Graph

ASKED = 200
"""Queries of each kind."""


def make_graph(folder: Path, edges: int, seed: int) -> None:
    """A graph with as many concepts as a tenth of its edges, whose degrees fall off as in real ones (exponent 0.5)."""
    with Graph(folder, write=True) as graph, tempfile.NamedTemporaryFile("w", suffix=".nt") as file:
        file.writelines(_lines(edges, seed))
        file.flush()
        graph.store.bulk_load(path=file.name, format=ox.RdfFormat.N_TRIPLES)
        graph.store.optimize()


def _lines(edges: int, seed: int) -> Iterator[str]:
    random = np.random.default_rng(seed)
    concepts = max(10, edges // 10)
    number = '"^^<http://www.w3.org/2001/XMLSchema#'
    for c in range(concepts):
        node = f"<{iri(f'X:{c}')}>"
        yield f'{node} <{RDF}type> <{BIOLINK}Gene> .\n{node} <{OWN}curie> "X:{c}" .\n{node} <{OWN}name> "gene {c}" .\n'
    # the k-th concept's share of edges falls with 1 / sqrt(k)
    ends = (concepts * random.random((edges, 2)) ** 2).astype(int)
    sure = random.random(edges).round(4)
    for i, ((a, b), p) in enumerate(zip(ends.tolist(), sure.tolist(), strict=True)):
        if a == b:
            continue
        one, two, edge = f"<{iri(f'X:{a}')}>", f"<{iri(f'X:{b}')}>", f"<{OWN}edge:{i:016x}>"
        yield (
            f"{one} <{BIOLINK}interacts_with> {two} .\n{edge} <{RDF}subject> {one} .\n{edge} <{RDF}object> {two} .\n"
            f'{edge} <{RDF}predicate> <{BIOLINK}interacts_with> .\n{edge} <{OWN}label> "bind" .\n'
            f'{edge} <{OWN}confidence> "{p}{number}double> .\n{edge} <{OWN}support> "1{number}integer> .\n'
            f'{edge} <{OWN}denied> "0{number}integer> .\n<{OWN}evidence:{i:016x}> <{OWN}of> {edge} .\n'
        )


def query_seconds(graph: Graph, edges: int, seed: int) -> dict[str, dict[str, list[float]]]:
    """Seconds of neighbours, path and edge queries at random concepts, of the clock and of the processor.

    On a machine that others use too the clock tells how busy it is; the store works in this process and on one core.
    """
    random = np.random.default_rng(seed + 1)
    concepts = max(10, edges // 10)
    some = [f"X:{c}" for c in random.integers(concepts // 100, concepts, 2 * ASKED)]
    first = queries.neighbours(graph, some[0])
    kinds: dict[str, Callable[[int], object]] = {
        "neighbours": lambda i: queries.neighbours(graph, some[i]),
        "neighbours of the largest hub": lambda i: queries.neighbours(graph, "X:0"),
        "path": lambda i: queries.path(graph, some[2 * i], some[2 * i + 1]),
        "edge": lambda i: edge_by_id(graph, first[i % len(first)].id),
    }
    told: dict[str, dict[str, list[float]]] = {name: {"clock": [], "processor": []} for name in kinds}
    for name, ask in kinds.items():
        for i in range(ASKED):
            if name == "path" and some[2 * i] == some[2 * i + 1]:
                continue
            started, busy = time.perf_counter(), time.process_time()
            ask(i)
            told[name]["clock"].append(time.perf_counter() - started)
            told[name]["processor"].append(time.process_time() - busy)
    return told
