"""An index of a folder's functions on disk: made in parts, kept up to date, and refused where it does not fit the model.

One file holds the vectors, the functions they belong to and the state of every source file; it is replaced whole, so that a kill
leaves the index of before. While it is made, finished parts lie beside it and are taken up by the next start. Below 50,000
vectors a search looks at all of them; above, at a graph of neighbours (faiss HNSW).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stillhouse.core.checkpoint import load_checkpoint, save_checkpoint
from stillhouse.core.errors import UserError, require
from stillhouse.core.files import content_hash, parse_json
from stillhouse.core.progress import Progress
from stillhouse.corpus.code_files import Skipped, read_source, repository_of, source_paths
from stillhouse.corpus.code_functions import Function, functions
from stillhouse.methods.modular_encoder.model import CodeEncoder

EXACT_BELOW = 50_000
"""Vectors that are all looked at."""
PART_FUNCTIONS = 1024
"""A finished part holds at least so many: what a kill costs at most."""
VERSION = 1
NEIGHBOURS, BUILD_WIDTH, SEARCH_WIDTH = 32, 100, 128
"""HNSW's M, efConstruction and efSearch."""
MEND = "make it again with: stillhouse code index FOLDER --run RUN --rebuild"


@dataclass(frozen=True)
class Header:
    """What vectors must share to be compared."""

    model: str
    """Hash of weights, tokenizer and instructions."""
    exit: int
    docs: bool
    """Whether documentation was read with the code."""
    run: str
    """Folder of the model, as it was given."""
    folder: str
    version: int = VERSION

    def difference(self, other: Header) -> str:
        """What differs of what matters, in words; "" where nothing does."""
        if self.version != other.version:
            return "another version of stillhouse made it"
        if self.exit != other.exit:
            return f"it holds vectors of exit {self.exit}, and exit {other.exit} has another space"
        if self.model != other.model:
            return f"another model made it (hash {self.model}, not {other.model})"
        return "" if self.docs == other.docs else "it was made with the other choice of --docs"


@dataclass(frozen=True)
class Row:
    """A function in the index."""

    path: str
    line: int
    end_line: int
    name: str
    language: str


@dataclass(frozen=True)
class FileState:
    """What a source file was like when it was read."""

    bytes: int
    modified: int
    """Nanoseconds."""
    content: str


@dataclass(frozen=True)
class Index:
    """Functions, vectors and file states."""

    header: Header
    files: dict[str, FileState]
    rows: tuple[Row, ...]
    vectors: np.ndarray
    """[rows, dimensions] float32, unit length."""
    place: Path
    """Folder of the index."""

    def search(self, query: np.ndarray, top: int) -> list[tuple[Row, float]]:
        """The nearest functions and their cosines, the nearest first."""
        top = min(top, len(self.rows))
        if top == 0:
            return []
        if len(self.rows) < EXACT_BELOW:
            scores = self.vectors @ query
            best = np.argpartition(-scores, top - 1)[:top]
            best = best[np.argsort(-scores[best], kind="stable")]
            return [(self.rows[i], float(scores[i])) for i in best]
        graph = self._graph()
        graph.hnsw.efSearch = max(SEARCH_WIDTH, 2 * top)
        found, places = graph.search(query[None].astype(np.float32), top)
        return [(self.rows[i], float(s)) for s, i in zip(found[0], places[0], strict=True) if i >= 0]

    def _graph(self) -> Any:
        import faiss

        try:
            return faiss.read_index(str(graph_file(self.place, self.vectors)))
        except RuntimeError as error:
            raise UserError(f"the graph of the index in {self.place} is missing or damaged", MEND) from error


def graph_file(place: Path, vectors: np.ndarray) -> Path:
    """Where the graph of these vectors is; other vectors have another name."""
    return place / f"hnsw-{content_hash([vectors.tobytes()])}.faiss"


def index_file(place: Path) -> Path:
    """The file of an index folder."""
    return place / "index.safetensors"


def write_part(
    path: Path, header: Header, files: dict[str, FileState], rows: Sequence[Row], vectors: np.ndarray
) -> None:
    """Vectors, functions and file states in one file, whole or absent."""
    record = {
        "header": asdict(header),
        "files": {name: list(asdict(state).values()) for name, state in files.items()},
        "rows": [list(asdict(row).values()) for row in rows],
    }
    save_checkpoint({"record": json.dumps(record), "vectors": torch.from_numpy(vectors)}, path)


def read_part(path: Path, place: Path) -> Index:
    """What `write_part` wrote.

    Raises:
        UserError: no such file, damaged, or not an index.
    """
    if not path.is_file():
        raise UserError(f"no index in {place}", "make one with: stillhouse code index FOLDER --run RUN")
    try:
        saved = load_checkpoint(path)
        record = parse_json(saved["record"])
        header = Header(**record["header"])
        files = {name: FileState(*state) for name, state in record["files"].items()}
        rows = tuple(Row(*row) for row in record["rows"])
        vectors = saved["vectors"].numpy()
    except (UserError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is damaged or no index of this version", MEND) from error
    require(vectors.shape[0] == len(rows), f"{path} is damaged (its vectors are not as many as its functions)", MEND)
    return Index(header, files, rows, vectors, place)


def open_index(place: Path, exit: int | None = None) -> Index:
    """The index of a folder.

    Raises:
        UserError: none there, damaged, or of another exit than `exit`.
    """
    found = read_part(index_file(place), place)
    require(
        exit is None or exit == found.header.exit,
        f"the index in {place} holds vectors of exit {found.header.exit}, and exit {exit} has another space",
        f"leave --exit out, or index again with --exit {exit} --rebuild",
    )
    return found


def require_fit(index: Index, model: CodeEncoder) -> None:
    """Refuse a model that did not make the index.

    Raises:
        UserError: another model, or one without the index's exit.
    """
    model.encoder.require_exit(index.header.exit)
    now = Header(model.hash(), index.header.exit, index.header.docs, index.header.run, index.header.folder)
    difference = index.header.difference(now)
    require(
        not difference,
        f"the index in {index.place} does not fit the model: {difference}",
        "name the run that made it with --run, or index again with --rebuild",
    )


def update_index(
    folder: Path, place: Path, header: Header, model: CodeEncoder, *, rebuild: bool = False, quiet: bool = False
) -> tuple[Index, dict[str, int], Skipped]:
    """Bring the index up to date with the folder: changed and new files are read, files that are gone are dropped.

    Returns:
        the index; how many files were read, unchanged and gone; what was skipped.

    Raises:
        UserError: no such folder, nothing in it, or an index of another model or exit is there.
    """
    if rebuild:
        shutil.rmtree(place, ignore_errors=True)
    known = _known(place, header)
    skipped = Skipped()
    paths = list(source_paths(folder, skipped))
    require(bool(paths), f"no source files in {folder}", "give a folder of source code")
    unchanged, changed = _sorted_out(paths, folder, known)
    parts = place / "parts"
    done = 0
    with Progress("indexing", len(changed), 0, quiet=quiet, unit="files") as progress:
        for files, found in _batches(changed, folder, skipped):
            vectors = embed_functions(found, header, model)
            write_part(parts / f"{content_hash(sorted(files))}.safetensors", header, files, rows_of(found), vectors)
            unchanged |= files.keys()
            done += len(files)
            progress.update(done, {"functions": len(found)})
    made = _merged(place, header, unchanged)
    require(bool(made.rows), f"no function in {folder}: {skipped.words()}", "give a folder of source code")
    write_part(index_file(place), header, made.files, made.rows, made.vectors)
    _write_graph(place, made.vectors)
    shutil.rmtree(parts, ignore_errors=True)
    gone = len(known.keys() - made.files.keys())
    return made, {"read": len(changed), "unchanged": len(paths) - len(changed), "gone": gone}, skipped


def _sources(place: Path, header: Header) -> Iterator[Index]:
    """The index and finished parts that may be used; parts that a kill or another model left are passed over."""
    if index_file(place).exists():
        whole = read_part(index_file(place), place)
        difference = whole.header.difference(header)
        require(
            not difference,
            f"the index in {place} cannot be brought up to date: {difference}",
            "add --rebuild, or choose another place with --index",
        )
        yield whole
    for path in sorted((place / "parts").glob("[!.]*.safetensors")):
        try:
            part = read_part(path, place)
        except UserError:
            path.unlink()
            continue
        if not part.header.difference(header):
            yield part


def _known(place: Path, header: Header) -> dict[str, FileState]:
    return {name: state for source in _sources(place, header) for name, state in source.files.items()}


def _sorted_out(paths: Sequence[Path], folder: Path, known: dict[str, FileState]) -> tuple[set[str], list[Path]]:
    """Names of files that are as they were, and those to be read."""
    unchanged, changed = set(), []
    for path in paths:
        name, state = path.relative_to(folder).as_posix(), None
        state = known.get(name)
        if state is not None and (state == _state(path, state.content) or state.content == _content(path)):
            unchanged.add(name)
        else:
            changed.append(path)
    return unchanged, changed


def _state(path: Path, content: str) -> FileState | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return FileState(stat.st_size, stat.st_mtime_ns, content)


def _content(path: Path) -> str:
    try:
        return content_hash([path.read_bytes()])
    except OSError:
        return ""


def _batches(
    paths: Sequence[Path], folder: Path, skipped: Skipped
) -> Iterator[tuple[dict[str, FileState], list[Function]]]:
    """Files and their functions, at least `PART_FUNCTIONS` at a time."""
    files: dict[str, FileState] = {}
    found: list[Function] = []
    for path in paths:
        content = _content(path)
        state = _state(path, content)
        if state is None or not content:
            skipped.add("files that cannot be opened", path.relative_to(folder).as_posix())
            continue
        files[path.relative_to(folder).as_posix()] = state
        file = read_source(path, folder, repository_of(path, folder), skipped)
        found += functions(file, skipped) if file else []
        if len(found) >= PART_FUNCTIONS:
            yield files, found
            files, found = {}, []
    if files:
        yield files, found


def rows_of(found: Sequence[Function]) -> list[Row]:
    """Where functions are."""
    return [Row(f.path, f.line, f.end_line, f.name, f.language) for f in found]


def embed_functions(found: Sequence[Function], header: Header, model: CodeEncoder) -> np.ndarray:
    """[functions, dimensions] vectors."""
    texts = [f"{f.doc}\n{f.code}" if header.docs and f.doc else f.code for f in found]
    return model.encode(texts, "code", header.exit, languages=[f.language for f in found])


def _merged(place: Path, header: Header, wanted: set[str]) -> Index:
    """One index of the wanted files from the old one and the parts; of a file in two, the later."""
    sources = list(_sources(place, header))
    holder = {name: number for number, source in enumerate(sources) for name in source.files if name in wanted}
    files: dict[str, FileState] = {}
    rows: list[Row] = []
    vectors: list[np.ndarray] = []
    for number, source in enumerate(sources):
        mine = {name for name, n in holder.items() if n == number}
        kept = [i for i, row in enumerate(source.rows) if row.path in mine]
        files |= {name: source.files[name] for name in mine}
        rows += [source.rows[i] for i in kept]
        vectors.append(source.vectors[kept])
    order = sorted(range(len(rows)), key=lambda i: (rows[i].path, rows[i].line))
    stacked = np.concatenate(vectors) if vectors else np.zeros((0, 1), np.float32)
    return Index(
        header, dict(sorted(files.items())), tuple(rows[i] for i in order), np.ascontiguousarray(stacked[order]), place
    )


def _write_graph(place: Path, vectors: np.ndarray) -> None:
    """The graph of neighbours where there are many vectors; graphs of other vectors go."""
    wanted = graph_file(place, vectors)
    if len(vectors) >= EXACT_BELOW and not wanted.exists():
        import faiss

        graph = faiss.IndexHNSWFlat(vectors.shape[1], NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efConstruction = BUILD_WIDTH
        graph.add(vectors)
        beside = wanted.with_suffix(".tmp")
        faiss.write_index(graph, str(beside))
        beside.replace(wanted)
    for old in place.glob("hnsw-*"):
        if old != wanted or len(vectors) < EXACT_BELOW:
            old.unlink()
