"""Small files of one's own for the methods that take any: images, texts, tables, molecules, source code, questions."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def own_files(method: str, folder: Path) -> dict[str, Any]:
    """Options that make the method read files below `folder`, which are written; none where it only knows names."""
    write = WRITERS.get(method)
    if write is None:
        return {}
    folder.mkdir(parents=True, exist_ok=True)
    return write(folder)


def images(folder: Path) -> dict[str, Any]:
    """Forty digits of each of three classes as PNG files."""
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    for digit in range(3):
        place = folder / "images" / f"digit {digit}"
        place.mkdir(parents=True, exist_ok=True)
        for number, i in enumerate(np.flatnonzero(digits.target == digit)[:100]):
            Image.fromarray((digits.images[i] * 15.9).astype(np.uint8)).save(place / f"{number:03d}.png")
    return {"data": str(folder / "images")}


def labelled_texts(folder: Path) -> dict[str, Any]:
    """A CSV of texts of two classes."""
    from text_samples import some_texts

    texts = some_texts(200)
    with (folder / "texts.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "label"])
        rows.writerows((text, f"class {label}") for text, label in zip(texts.first, texts.labels, strict=True))
    return {"data": str(folder / "texts.csv")}


def plain_texts(folder: Path) -> dict[str, Any]:
    """A folder of text files."""
    from text_samples import some_texts

    for number in range(8):
        lines = (f"{text.capitalize()} with a house and a bird today." for text in some_texts(30, seed=number).first)
        (folder / f"{number}.txt").write_text("\n\n".join(lines))
    return {"data": str(folder)}


def questions(folder: Path) -> dict[str, Any]:
    """A SQuAD file whose titles are users."""
    from stillhouse.corpus.spans import Span
    from stillhouse.corpus.squad import Question, write_squad

    made = []
    for user in range(24):
        for post in range(3):
            context = f"I could not sleep for {user + 2} nights. After {post + 1} weeks it got better with tea and long walks."
            start = context.index(f"{user + 2} nights")
            answer = Span(start, start + len(f"{user + 2} nights"))
            made.append(
                Question(f"{user}-{post}-a", "How long could they not sleep?", context, (answer,), f"user {user}")
            )
            made.append(Question(f"{user}-{post}-b", "Which doctor did they see?", context, (), f"user {user}"))
    write_squad(made, folder / "questions.json")
    return {"data": str(folder / "questions.json")}


def a_table(folder: Path) -> dict[str, Any]:
    """The loans as somebody's CSV."""
    from stillhouse.tables.datasets import loans

    source = loans(600)
    source.table.to_csv(folder / "loans.csv", index=False)
    return {
        "data": str(folder / "loans.csv"),
        "label": source.label,
        "sensitive": source.sensitive,
        "positive": source.positive,
    }


def molecules(folder: Path) -> dict[str, Any]:
    """Alcohols and amines as SMILES."""
    with (folder / "molecules.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["smiles", "kind"])
        for length in range(1, 31):
            rows.writerow([f"{'C' * length}O", "alcohol"])
            rows.writerow([f"{'C' * length}N", "amine"])
    return {"data": str(folder / "molecules.csv")}


def source_code(folder: Path) -> dict[str, Any]:
    """A copy of two parts of this package."""
    import stillhouse

    for part in ("diffusion", "vision"):
        here = Path(stillhouse.__file__).parent / part
        shutil.copytree(here, folder / "code" / part, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    return {"data": str(folder / "code")}


WRITERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "dmd2": images,
    "disback": images,
    "multi_student": images,
    "diswot": images,
    "similar_tasks": images,
    "distiller": labelled_texts,
    "autodistil": plain_texts,
    "forum_qa": questions,
    "fair_tables": a_table,
    "mirage": molecules,
    "modular_encoder": source_code,
}
