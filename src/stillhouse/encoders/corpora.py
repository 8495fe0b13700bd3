"""Texts without labels: folders and files of one's own, and by name the texts of the tasks in `public`, or MedQuAD's answers."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stillhouse.core.data import PublicFile, find_public_file
from stillhouse.core.errors import UserError, require
from stillhouse.core.seeding import derive_seed
from stillhouse.encoders.data import TextData, Texts
from stillhouse.encoders.public import NAMED

HELD_SHARE = 0.1
"""Of a corpus without splits of its own, for select and for report each."""
_MEDQUAD = PublicFile(
    "medquad/medquad.jsonl.gz",
    "https://github.com/abachaa/MedQuAD (answers of collections 1 to 9, one JSON object a line with the key answer, gzipped)",
    "8298fc6f78602207afb75f8695c1bf95ac30a683e9d774e57bd24cfa2a8e257f",
)


@dataclass(frozen=True)
class Corpus:
    """Texts to learn from, to choose on and to report on; no text is in two of them."""

    name: str
    train: tuple[str, ...]
    select: tuple[str, ...]
    report: tuple[str, ...]


def load_corpus(data: str, *, most_train: int = 0, most_held: int = 0) -> Corpus:
    """A corpus by name, folder of .txt files, or .txt file; several are joined with "+".

    Args:
        data: names (the tasks of `load_texts`, without their labels; medquad) or paths, joined with "+".
        most_train: at most this many training texts, drawn by seed 0; 0 takes all.
        most_held: the same for select and for report.

    Raises:
        UserError: no such corpus, or one without text.
    """
    train, select, report = zip(*(_splits(name) for name in data.split("+")), strict=True)
    seen: set[str] = set()
    parts = []
    # what is reported on first: a text that turns up again must not be learned from
    for column, most in ((report, most_held), (select, most_held), (train, most_train)):
        texts = [text for part in column for text in part if not (text in seen or seen.add(text))]  # type: ignore[func-returns-value]
        parts.append(_drawn(texts, most))
    return Corpus(data, parts[2], parts[1], parts[0])


def _drawn(texts: Sequence[str], most: int) -> tuple[str, ...]:
    if not most or len(texts) <= most:
        return tuple(texts)
    chosen = np.random.default_rng(derive_seed("corpus", len(texts))).permutation(len(texts))[:most]
    return tuple(texts[i] for i in sorted(chosen))


Splits = tuple[Sequence[str], Sequence[str], Sequence[str]]


def _splits(name: str) -> Splits:
    if name in NAMED:
        data: TextData = NAMED[name]()
        return _unlabelled(data.train), _unlabelled(data.select), _unlabelled(data.report)
    if name in CORPORA:
        return _split(CORPORA[name]())
    path = Path(name)
    if path.is_dir():
        files = sorted(path.rglob("*.txt"))
        require(bool(files), f"no .txt file below {name}", "give a folder of text files")
        return _split(text for file in files for text in paragraphs(_read(file)))
    if path.is_file():
        require(path.suffix == ".txt", f"{name} is not a .txt file", "give a .txt file, or a folder of them")
        return _split(paragraphs(_read(path)))
    known = ", ".join((*NAMED, *CORPORA))
    raise UserError(f"no texts {name!r}", f"give a folder of .txt files, a .txt file, or one of {known}")


def _unlabelled(texts: Texts) -> list[str]:
    return [*texts.first, *(texts.second or ())]


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read as UTF-8 text ({error})", "mend or remove the file") from error


def paragraphs(text: str) -> list[str]:
    """Blocks between blank lines, or lines where there is no blank line; white space made single."""
    blocks = re.split(r"\n\s*\n", text.strip())
    if len(blocks) == 1:
        blocks = text.splitlines()
    return [joined for block in blocks if (joined := " ".join(block.split()))]


def sentences(text: str, words: tuple[int, int] = (5, 60)) -> list[str]:
    """Pieces that end in a full stop, question or exclamation mark, of a sensible number of words."""
    found = re.split(r"(?<=[.!?])\s+", " ".join(text.split()))
    return [one for one in found if words[0] <= len(one.split()) <= words[1]]


def _split(texts: Iterable[str]) -> Splits:
    """80 % to learn from, 10 % to choose on, 10 % to report on, the same in every run."""
    unique = list(dict.fromkeys(texts))
    require(len(unique) >= 10, f"a corpus of {len(unique)} texts cannot be split", "give ten texts or more")
    order = np.random.default_rng(derive_seed("corpus split", 0)).permutation(len(unique))
    held = max(1, round(HELD_SHARE * len(unique)))
    report, select, train = order[:held], order[held : 2 * held], order[2 * held :]
    return tuple([unique[i] for i in sorted(part)] for part in (train, select, report))  # type: ignore[return-value]


def medquad() -> list[str]:
    """Sentences of MedQuAD's answers: general and medical English prose."""
    with gzip.open(find_public_file(_MEDQUAD), "rt", encoding="utf-8") as file:
        return [text for line in file for text in sentences(json.loads(line)["answer"])]


CORPORA: Mapping[str, Callable[[], list[str]]] = {"medquad": medquad}
