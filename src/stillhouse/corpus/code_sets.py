"""Sets of functions to train and judge code search on: a folder's, those of installed packages, and their splits.

The three splits are made by seed over files, before anything is trained: functions of one file stay together, and a text
or documentation that the train split has is taken out of the other two.
"""

from __future__ import annotations

import importlib.util
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stillhouse.core.cache import cached_folder
from stillhouse.core.environment import version
from stillhouse.core.errors import require
from stillhouse.core.files import content_hash, read_json, write_json
from stillhouse.core.progress import Progress
from stillhouse.core.seeding import derive_seed
from stillhouse.corpus.code_files import CodeFile, Skipped, read_folder, read_source, source_paths
from stillhouse.corpus.code_functions import Function, functions
from stillhouse.corpus.near_duplicates import near_duplicates

PACKAGES = (
    "attr",
    "cattrs",
    "diffusers",
    "filelock",
    "fsspec",
    "huggingface_hub",
    "jinja2",
    "joblib",
    "matplotlib",
    "mlxtend",
    "mpmath",
    "networkx",
    "numpy",
    "pandas",
    "peft",
    "PIL",
    "pygments",
    "requests",
    "rich",
    "scipy",
    "sklearn",
    "sympy",
    "torch",
    "tqdm",
    "transformers",
    "tyro",
    "yaml",
)
"""Read beside the standard library, each a repository; all of them come with stillhouse's own dependencies."""
LIBRARY = "python"
"""Name of the standard library as a repository."""
RECIPE = "code functions 1"
"""Part of the cache's key: to be changed with anything in the reading."""
FEWEST_LINES, MOST_LINES = 3, 60
"""Of a function that is trained or judged on."""
HELD_OUT = 0.1
"""Share of the files that each of select and report takes."""


@dataclass(frozen=True)
class CodeSet:
    """Functions of three splits."""

    name: str
    train: tuple[Function, ...]
    select: tuple[Function, ...]
    report: tuple[Function, ...]
    skipped: str
    """What was left out and why, in words."""
    duplicates: int
    """Near-duplicates that were left out."""

    @property
    def repositories(self) -> tuple[str, ...]:
        """Repositories of the training functions."""
        return tuple(sorted({function.repository for function in self.train}))


def documented(found: Iterable[Function]) -> tuple[Function, ...]:
    """Those with documentation: pairs of text and code."""
    return tuple(function for function in found if function.doc)


def read_functions(files: Iterable[CodeFile], skipped: Skipped) -> Iterator[Function]:
    """Functions of a size worth learning from."""
    for file in files:
        for function in functions(file, skipped):
            if FEWEST_LINES <= function.code.count("\n") + 1 <= MOST_LINES:
                yield function


def folder_functions(folder: Path, skipped: Skipped, *, quiet: bool = True) -> list[Function]:
    """All functions of a folder of source code.

    Raises:
        UserError: no such folder, or no function in it.
    """
    total = sum(1 for _ in source_paths(folder))
    found: list[Function] = []
    with Progress("reading", total, 0, quiet=quiet, unit="files") as progress:
        for done, file in enumerate(read_folder(folder, skipped), 1):
            found += read_functions([file], skipped)
            progress.update(done, {"functions": len(found)})
    words = skipped.words()
    require(bool(found), f"no function in {folder}" + (f": {words}" if words else ""), "give a folder of source code")
    return found


def installed_functions(each: int, packages: Sequence[str] = PACKAGES) -> tuple[list[Function], str, int]:
    """`each` documented functions and half as many others of every package and the standard library, without near-duplicates.

    Kept in the cache.

    Returns:
        the functions, what was skipped in words, and how many near-duplicates were left out.
    """
    versions = (*(f"{name} {_version(name)}" for name in packages), sys.version)
    folder = cached_folder("code", (RECIPE, str(each), *versions), lambda into: _write_installed(into, each, packages))
    kept = read_json(folder / "functions.json")
    return [_function(row) for row in kept["functions"]], str(kept["skipped"]), int(kept["duplicates"])


def _version(package: str) -> str | None:
    names = {"PIL": "pillow", "sklearn": "scikit-learn", "attr": "attrs", "yaml": "pyyaml"}
    return version(names.get(package, package))


def _function(row: dict[str, Any]) -> Function:
    return Function(**{**row, "identifiers": tuple(row["identifiers"])})


def _write_installed(into: Path, each: int, packages: Sequence[str]) -> None:
    skipped, found = Skipped(), []
    for repository, folder in _sources(packages):
        found += _some_of(repository, folder, each, skipped)
    kept = without_near_duplicates(found)
    rows = [asdict(function) for function in kept]
    write_json(
        into / "functions.json", {"functions": rows, "skipped": skipped.words(), "duplicates": len(found) - len(kept)}
    )


def _some_of(repository: str, folder: Path, each: int, skipped: Skipped) -> list[Function]:
    """`each` documented functions of a package, and at most half as many without documentation."""
    with_doc: list[Function] = []
    without: list[Function] = []
    # in an order that has nothing to do with names: a package's first modules are not like its others
    paths = sorted(source_paths(folder), key=lambda path: content_hash([path.relative_to(folder).as_posix()]))
    for path in paths:
        if len(with_doc) >= each:
            break
        if "test" not in path.relative_to(folder).as_posix() and (
            file := read_source(path, folder, repository, skipped)
        ):
            for function in read_functions([file], skipped):
                (with_doc if function.doc else without).append(function)
    return [*with_doc[:each], *without[: each // 2]]


def without_near_duplicates(found: Sequence[Function]) -> list[Function]:
    """The first of each group of functions whose texts are nearly the same."""
    first = near_duplicates([function.code for function in found])
    return [function for i, function in enumerate(found) if first[i] == i]


def _sources(packages: Sequence[str]) -> Iterator[tuple[str, Path]]:
    yield LIBRARY, Path(sysconfig.get_paths()["stdlib"])
    for name in packages:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None:
            yield name, Path(spec.origin).parent


def split_functions(name: str, found: Sequence[Function], skipped: str, duplicates: int, seed: int) -> CodeSet:
    """Files to the three splits by seed.

    Raises:
        UserError: too few documented functions to train and to judge on.
    """
    parts: dict[str, list[Function]] = {"train": [], "select": [], "report": []}
    for function in found:
        draw = derive_seed("code split", seed, function.repository, function.path) / 2**63
        part = "report" if draw < HELD_OUT else "select" if draw < 2 * HELD_OUT else "train"
        parts[part].append(function)
    docs = {function.doc.lower() for function in parts["train"] if function.doc}
    select = [function for function in parts["select"] if function.doc.lower() not in docs]
    docs |= {function.doc.lower() for function in select if function.doc}
    report = [function for function in parts["report"] if function.doc.lower() not in docs]
    made = CodeSet(name, tuple(parts["train"]), tuple(select), tuple(report), skipped, duplicates)
    counts = [len(documented(part)) for part in (made.train, made.select, made.report)]
    require(
        counts[0] >= 16 and counts[1] >= 4 and counts[2] >= 4,
        f"{name} has {sum(counts)} documented functions ({counts[0]} to train, {counts[1]} to select, {counts[2]} to report)",
        "give a larger folder, or use --data installed",
    )
    return made


def shortened(part: Sequence[Function], most: int, seed: int) -> tuple[Function, ...]:
    """At most so many, drawn by seed; all for 0."""
    if not most or len(part) <= most:
        return tuple(part)
    chosen = np.random.default_rng(derive_seed("shortened", seed)).permutation(len(part))[:most]
    return tuple(part[i] for i in sorted(chosen))


def load_code(data: str, functions_each: int, seed: int, *, quiet: bool = True) -> CodeSet:
    """The functions that a name stands for: "installed", or a folder of source code.

    Raises:
        UserError: no such folder, or too little in it.
    """
    if data == "installed":
        return split_functions(data, *installed_functions(functions_each), seed)
    skipped = Skipped()
    found = folder_functions(Path(data).expanduser(), skipped, quiet=quiet)
    kept = without_near_duplicates(found)
    return split_functions(Path(data).name, kept, skipped.words(), len(found) - len(kept), seed)
