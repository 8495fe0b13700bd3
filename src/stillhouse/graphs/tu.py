"""Reader of TU data sets (NAME_A.txt, NAME_graph_indicator.txt, ...), as a zip or an unpacked folder.

Nothing is unpacked to disk: members are read in memory, by name, up to a limit. Labels and attributes stay apart.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from stillhouse.core.data import PublicFile, find_public_file
from stillhouse.core.errors import UserError, require
from stillhouse.graphs.data import GraphSet, make_graph_set, number_classes

MAX_MEMBER_BYTES = 2**31
UNREADABLE = (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError, OSError, ValueError, IndexError)
"""What zipfile raises at damaged archives, encryption (Runtime), unknown compression and names that are no text."""
Opener = Callable[[str], bytes | None]


def tu_file(name: str) -> PublicFile:
    """Where a TU set with isomorphic duplicates removed is found and fetched."""
    return PublicFile(f"tu_graphs/{name}.zip", "the GitHub repository nd7141/graph_datasets, folder datasets")


def read_public_tu(name: str) -> GraphSet:
    """A TU set by name from $STILLHOUSE_DATA/tu_graphs.

    Raises:
        UserError: it is not there; says what to fetch from where.
    """
    return read_tu(find_public_file(tu_file(name)))


def read_tu(path: Path) -> GraphSet:
    """Read a TU set from a zip or a folder.

    Raises:
        UserError: not a zip, hostile paths or sizes, a file missing, malformed, of the wrong length or out of range.
    """
    if path.is_dir():
        return _read(*_folder_opener(path))
    try:
        with zipfile.ZipFile(path) as archive:
            return _read(*_zip_opener(archive, path))
    except UNREADABLE as error:
        raise UserError(f"{path} cannot be read as a zip ({error})", "fetch it again") from error


def _zip_opener(archive: zipfile.ZipFile, path: Path) -> tuple[str, Opener]:
    members = {}
    for info in archive.infolist():
        inside = PurePosixPath(info.filename.replace("\\", "/"))
        hostile = inside.is_absolute() or ".." in inside.parts or ":" in info.filename
        require(
            not hostile, f"{path} holds the path {info.filename!r}", "do not use this zip: it reaches outside itself"
        )
        if not info.is_dir():
            require(inside.name not in members, f"{path} holds {inside.name!r} twice", "fetch it again")
            members[inside.name] = info

    def read(name: str) -> bytes | None:
        if name not in members:
            return None
        with archive.open(members[name]) as file:
            content = file.read(MAX_MEMBER_BYTES + 1)
        require(
            len(content) <= MAX_MEMBER_BYTES,
            f"{name} in {path} unpacks to more than {MAX_MEMBER_BYTES >> 20} MiB",
            "do not use this zip, or unpack it yourself and give the folder",
        )
        return content

    return _set_name(members, path), read


def _folder_opener(path: Path) -> tuple[str, Opener]:
    def read(name: str) -> bytes | None:
        file = path / name
        return file.read_bytes() if file.is_file() else None

    return _set_name([file.name for file in path.iterdir()], path), read


def _set_name(names: Iterable[str], path: Path) -> str:
    found = sorted(name.removesuffix("_A.txt") for name in names if name.endswith("_A.txt"))
    require(len(found) == 1, f"{path} holds {len(found)} files NAME_A.txt", "a TU set has exactly one")
    return found[0]


def _read(name: str, read: Opener) -> GraphSet:
    def table(suffix: str, *, needed: bool = False, floats: bool = False) -> np.ndarray | None:
        content = read(f"{name}_{suffix}.txt")
        if content is None:
            require(not needed, f"{name}_{suffix}.txt is missing", "a TU set needs it")
            return None
        return _parse(f"{name}_{suffix}.txt", content, floats)

    edges = table("A", needed=True)
    indicator = table("graph_indicator", needed=True)
    labels = table("graph_labels", needed=True)
    assert edges is not None and indicator is not None and labels is not None
    require(
        edges.shape[1] == 2 or not len(edges),
        f"{name}_A.txt has {edges.shape[1]} columns",
        "each line is: source, target",
    )
    pairs = edges.reshape(-1, 2)
    node_labels, edge_labels = table("node_labels"), table("edge_labels")
    classes, class_names = number_classes(labels[:, 0].tolist())
    return make_graph_set(
        name,
        indicator[:, 0] - 1,
        pairs[:, 0] - 1,
        pairs[:, 1] - 1,
        classes,
        class_names,
        node_labels=None if node_labels is None else _one_number(node_labels),
        edge_labels=None if edge_labels is None else _one_number(edge_labels),
        attributes=table("node_attributes", floats=True),
    )


def _one_number(labels: np.ndarray) -> np.ndarray:
    """Several label columns as one number a row."""
    if labels.shape[1] == 1:
        return labels[:, 0]
    return np.unique(labels, axis=0, return_inverse=True)[1].ravel()


def _parse(file: str, content: bytes, floats: bool) -> np.ndarray:
    if not content.strip():
        return np.zeros((0, 1), dtype=np.float32 if floats else np.int64)
    try:
        values = pd.read_csv(io.BytesIO(content), header=None, skipinitialspace=True).to_numpy()
        numbers = values.astype(np.float64)
        if floats:
            return numbers.astype(np.float32)
        require(
            bool((numbers == np.round(numbers)).all()), f"{file} holds a number that is not whole", "mend that line"
        )
        return numbers.astype(np.int64)
    except (ValueError, OverflowError, pd.errors.ParserError) as error:
        raise UserError(f"{file} is not a table of numbers ({error})", "mend the file or fetch it again") from error
