"""Molecules from a CSV with SMILES: atoms are nodes labelled by element, bonds are edges labelled by kind (needs rdkit)."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd

from stillhouse.core.errors import UserError, require
from stillhouse.graphs.data import GraphSet, make_graph_set, number_classes

BOND_KINDS = ("single", "double", "triple", "aromatic", "other")


def read_molecules(path: Path, *, smiles_column: str = "smiles", label_column: str = "") -> GraphSet:
    """Read molecules; rows without a label are left out.

    Args:
        path: CSV, plain or gzip.
        smiles_column: column of SMILES.
        label_column: column of classes; the last column with two to ten values where none is named.

    Raises:
        UserError: a column is missing, a SMILES cannot be read, rdkit is not installed.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=True)
    except (ValueError, OSError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as CSV ({error})", "give a CSV file with a header") from error
    columns = ", ".join(table.columns)
    require(
        smiles_column in table, f"{path} has no column {smiles_column!r}", f"choose --smiles-column from: {columns}"
    )
    label = label_column or _guess_label(table, smiles_column)
    require(label in table, f"{path} has no column {label!r}", f"choose --label-column from: {columns}")
    kept = table[table[label].notna() & table[smiles_column].notna()]
    require(len(kept) > 0, f"{path} has no row with both {smiles_column!r} and {label!r}", "choose other columns")
    return molecule_graphs(path.stem.removesuffix(".csv"), kept[smiles_column].tolist(), kept[label].tolist())


def molecule_graphs(name: str, smiles: list[str], labels: list[str]) -> GraphSet:
    """Graphs of molecules.

    Args:
        smiles, labels: one a molecule.

    Raises:
        UserError: a SMILES cannot be read, or rdkit is not installed.
    """
    atoms, bonds = zip(*(_parse(text, i) for i, text in enumerate(smiles)), strict=True)
    sizes = np.array([len(elements) for elements in atoms])
    first = np.cumsum(sizes) - sizes
    edges = np.concatenate(
        [np.array(b, dtype=np.int64).reshape(-1, 3) + np.array([s, s, 0]) for b, s in zip(bonds, first, strict=True)]
    )
    classes, class_names = number_classes(labels)
    return make_graph_set(
        name,
        np.repeat(np.arange(len(smiles)), sizes),
        np.concatenate([edges[:, 0], edges[:, 1]]),
        np.concatenate([edges[:, 1], edges[:, 0]]),
        classes,
        class_names,
        node_labels=np.concatenate([np.array(elements, dtype=np.int64) for elements in atoms]),
        edge_labels=np.tile(edges[:, 2], 2),
        edge_names=BOND_KINDS,
    )


def _parse(text: str, row: int) -> tuple[list[int], list[tuple[int, int, int]]]:
    """Atomic numbers, and (atom, atom, kind of bond) of a SMILES; valences are not judged, salts keep their parts."""
    try:
        from rdkit import Chem, RDLogger
    except ImportError as error:
        raise UserError("molecules need rdkit", "install it with: pip install 'stillhouse[graphs]'") from error
    RDLogger.DisableLog("rdApp.*")  # type: ignore[attr-defined]
    molecule = Chem.MolFromSmiles(text, sanitize=False)
    require(
        molecule is not None and molecule.GetNumAtoms() > 0,
        f"SMILES {text[:40]!r} (molecule {row}) cannot be read",
        "mend or remove that row",
    )
    kinds = {Chem.BondType.SINGLE: 0, Chem.BondType.DOUBLE: 1, Chem.BondType.TRIPLE: 2, Chem.BondType.AROMATIC: 3}
    atoms = [atom.GetAtomicNum() for atom in molecule.GetAtoms()]
    bonds = [
        (bond.GetBeginAtomIdx(), bond.GetEndAtomIdx(), kinds.get(bond.GetBondType(), 4)) for bond in molecule.GetBonds()
    ]
    return atoms, bonds


def _guess_label(table: pd.DataFrame, smiles_column: str) -> str:
    few = [name for name in table.columns if name != smiles_column and 2 <= table[name].nunique() <= 10]
    require(bool(few), "no column looks like a class", f"choose --label-column from: {', '.join(table.columns)}")
    return str(few[-1])
