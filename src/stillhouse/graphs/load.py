"""One call for every kind of graph data that a user can name."""

from __future__ import annotations

from pathlib import Path

from stillhouse.core.data import PublicFile, find_public_file
from stillhouse.core.errors import UserError
from stillhouse.graphs.data import GraphSet
from stillhouse.graphs.folder import read_graph_folder
from stillhouse.graphs.molecules import read_molecules
from stillhouse.graphs.motifs import motif_graphs
from stillhouse.graphs.tu import read_public_tu, read_tu

MOLECULES = {
    "tox21": PublicFile("molecules/tox21.csv.gz", "the GitHub repository deepchem/deepchem, folder datasets"),
    "hiv": PublicFile("molecules/HIV.csv", "the GitHub repository deepchem/deepchem, folder examples/hiv"),
}
LABELS = {"tox21": "NR-AhR", "hiv": "HIV_active"}


def load_graphs(
    data: str, *, smiles_column: str = "smiles", label_column: str = "", graphs: int = 600, seed: int = 0
) -> GraphSet:
    """Graphs by name or path.

    Args:
        data: "motifs" (generated), a TU zip or folder, a CSV of SMILES, a folder of GraphML files or edge lists, "tox21"
            or "hiv", or the name of a TU set below $STILLHOUSE_DATA.
        smiles_column, label_column: of a CSV.
        graphs, seed: of the generated motifs.

    Raises:
        UserError: it cannot be found or read.
    """
    path = Path(data)
    if data == "motifs":
        return motif_graphs(graphs, seed)
    if data in MOLECULES:
        file = find_public_file(MOLECULES[data])
        return read_molecules(file, smiles_column=smiles_column, label_column=label_column or LABELS[data])
    if path.is_dir():
        return read_tu(path) if any(path.glob("*_A.txt")) else read_graph_folder(path)
    if path.suffix == ".zip" and path.exists():
        return read_tu(path)
    if path.exists():
        return read_molecules(path, smiles_column=smiles_column, label_column=label_column)
    if path.suffix or "/" in data:
        raise UserError(f"no file or folder {data}", "check the path")
    return read_public_tu(data)
