"""A folder of GraphML files or edge lists, one file a graph, in a subfolder a class or with a labels.csv (file,label)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import ParseError

import networkx as nx
import numpy as np
import pandas as pd

from stillhouse.core.errors import UserError, require
from stillhouse.graphs.data import GraphSet, make_graph_set, number_classes

ENDINGS = (".graphml", ".edges", ".edgelist", ".txt")


@dataclass(frozen=True)
class _Part:
    """One file: node labels by node, edges with labels; "" where there is none."""

    nodes: list[str]
    edges: list[tuple[int, int, str]]


def read_graph_folder(path: Path, *, label: str = "label") -> GraphSet:
    """Read a folder.

    An edge list has a line an edge, `source target [label]`, and a line `source` for a node without edges; `#` starts a
    comment. Edge lists are undirected; GraphML says which it is. Node ids are any words.

    Args:
        path: folder.
        label: GraphML attribute with node and edge labels.

    Raises:
        UserError: no files, a file without a class, a file that cannot be read.
    """
    files = _files_with_classes(path)
    require(bool(files), f"{path} has no graph files ({', '.join(ENDINGS)})", "put them in a subfolder a class")
    parts = [_read_graphml(f, label) if f.suffix == ".graphml" else _read_edge_list(f) for f, _ in files]
    for (file, _), part in zip(files, parts, strict=True):
        require(bool(part.nodes), f"{file} has no nodes", "remove it")
    sizes = np.array([len(part.nodes) for part in parts])
    first = np.cumsum(sizes) - sizes
    edges = [(a + s, b + s, name) for part, s in zip(parts, first.tolist(), strict=True) for a, b, name in part.edges]
    node_labels, node_names = _coded([name for part in parts for name in part.nodes])
    edge_labels, edge_names = _coded([name for _, _, name in edges])
    classes, class_names = number_classes([name for _, name in files])
    return make_graph_set(
        path.name,
        np.repeat(np.arange(len(parts)), sizes),
        np.array([a for a, _, _ in edges], dtype=np.int64),
        np.array([b for _, b, _ in edges], dtype=np.int64),
        classes,
        class_names,
        node_labels=node_labels,
        edge_labels=edge_labels,
        node_names=node_names,
        edge_names=edge_names,
    )


def _files_with_classes(path: Path) -> list[tuple[Path, str]]:
    table = path / "labels.csv"
    if not table.is_file():
        return sorted((f, f.parent.name) for f in path.glob("*/*") if f.suffix in ENDINGS)
    try:
        rows = pd.read_csv(table, dtype=str)[["file", "label"]].dropna()
    except (ValueError, KeyError) as error:
        raise UserError(f"{table} needs the columns file and label ({error})", "write: file,label") from error
    found = []
    for name, label in rows.itertuples(index=False):
        file = (path / name).resolve()
        require(
            file.is_relative_to(path.resolve()), f"{table} names {name!r}, outside the folder", "keep files inside it"
        )
        require(file.is_file(), f"{table} names {name!r}, which is missing", "mend that line")
        found.append((file, label))
    return found


def _read_graphml(file: Path, label: str) -> _Part:
    try:
        graph = nx.read_graphml(file)
    except (nx.NetworkXError, ParseError, KeyError, ValueError, OSError) as error:
        raise UserError(f"{file} is not GraphML ({error})", "mend or remove it") from error
    place = {node: i for i, node in enumerate(graph.nodes)}
    nodes = [str(data.get(label, "")) for _, data in graph.nodes(data=True)]
    edges = [(place[a], place[b], str(data.get(label, ""))) for a, b, data in graph.edges(data=True)]
    return _Part(nodes, edges if graph.is_directed() else _reversed_too(edges))


def _read_edge_list(file: Path) -> _Part:
    place: dict[str, int] = {}
    edges = []
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read ({error})", "mend or remove it") from error
    for number, line in enumerate(lines, start=1):
        fields = line.split("#")[0].split()
        require(len(fields) <= 3, f"{file} line {number} has {len(fields)} fields", "write: source target [label]")
        ends = [place.setdefault(name, len(place)) for name in fields[:2]]
        if len(ends) == 2:
            edges.append((ends[0], ends[1], fields[2] if len(fields) == 3 else ""))
    return _Part([""] * len(place), _reversed_too(edges))


def _reversed_too(edges: list[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    """Each edge both ways; a self-loop once."""
    return edges + [(b, a, name) for a, b, name in edges if a != b]


def _coded(names: list[str]) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Numbers for names, or nothing where every name is empty."""
    distinct = sorted(set(names))
    if distinct in ([], [""]):
        return None, ()
    place = {name: i for i, name in enumerate(distinct)}
    return np.array([place[name] for name in names], dtype=np.int64), tuple(distinct)
