"""Documents, the mentions of entities in them, and the relations that somebody annotated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from stillhouse.core.errors import UserError

Span = tuple[int, int]
"""Start and end (exclusive) in code points."""

TYPES = {
    "gene": "gene",
    "geneorgeneproduct": "gene",
    "protein": "gene",
    "gene-y": "gene",
    "gene-n": "gene",
    "familyname": "gene",
    "disease": "disease",
    "diseaseorphenotypicfeature": "disease",
    "phenotype": "disease",
    "diseaseclass": "disease",
    "chemical": "chemical",
    "chemicalentity": "chemical",
    "drug": "chemical",
    "sequencevariant": "variant",
    "variant": "variant",
    "mutation": "variant",
    "dnamutation": "variant",
    "proteinmutation": "variant",
    "snp": "variant",
    "organismtaxon": "organism",
    "species": "organism",
    "organism": "organism",
    "cellline": "cell_line",
    "cell_line": "cell_line",
}


def canonical_type(name: str) -> str:
    """One name for what corpora call by many: gene, disease, chemical, variant, organism, cell_line, or its own word."""
    return TYPES.get(name.strip().lower(), name.strip().lower().replace(" ", "_"))


NO_ID = ("", "-", "-1", "null", "none")


def split_ids(ids: str) -> tuple[str, ...]:
    """Concepts of a mention, which corpora divide by commas, bars or semicolons."""
    parts = [part.strip() for part in ids.replace("|", ",").replace(";", ",").split(",")]
    return tuple(part for part in parts if part.lower() not in NO_ID)


@dataclass(frozen=True)
class Mention:
    """A stretch of text that names something; several stretches where it is discontinuous."""

    spans: tuple[Span, ...]
    type: str
    ids: tuple[str, ...] = ()
    """Concepts, as "namespace:id" or as the corpus writes them; several for a composite mention."""

    @property
    def start(self) -> int:
        """First code point."""
        return self.spans[0][0]

    @property
    def end(self) -> int:
        """Behind the last code point."""
        return self.spans[-1][1]

    def text_in(self, text: str) -> str:
        """The mention's words, without what lies between its parts."""
        return " ".join(text[start:end] for start, end in self.spans)

    def moved(self, by: int) -> Mention:
        """The same mention further on in a text."""
        return replace(self, spans=tuple((start + by, end + by) for start, end in self.spans))


@dataclass(frozen=True)
class Relation:
    """Two concepts of a document and what holds between them."""

    label: str
    first: str
    second: str


@dataclass(frozen=True)
class Document:
    """A text with what is known of it."""

    id: str
    text: str
    mentions: tuple[Mention, ...] = ()
    relations: tuple[Relation, ...] = ()


@dataclass
class Counts:
    """What reading came upon; nothing is left out without being counted here."""

    documents: int = 0
    empty: int = 0
    duplicates: int = 0
    mentions: int = 0
    discontinuous: int = 0
    overlapping: int = 0
    other_units: int = 0
    """Documents whose offsets count bytes or UTF-16 units, converted to code points."""
    windows: int = 0
    """Sentences too long to be one, cut into windows."""
    pairs: int = 0
    notes: list[str] = field(default_factory=list)

    def saw(self, document: Document) -> None:
        """Count a document."""
        self.documents += 1
        self.empty += not document.text.strip()
        self.mentions += len(document.mentions)
        self.discontinuous += sum(len(m.spans) > 1 for m in document.mentions)

    def words(self) -> str:
        """In a line; zeros are left out."""
        named = {
            "documents": self.documents,
            "empty": self.empty,
            "duplicates left out": self.duplicates,
            "mentions": self.mentions,
            "discontinuous": self.discontinuous,
            "overlapping": self.overlapping,
            "with byte or UTF-16 offsets": self.other_units,
            "windows of long sentences": self.windows,
            "pairs": self.pairs,
        }
        return ", ".join(f"{value:,} {name}" for name, value in named.items() if value) or "nothing read"


def check_spans(spans: Sequence[Span], length: int, where: str) -> None:
    """Raise UserError unless spans are in order, not empty, and inside a text of this length."""
    last = -1
    for start, end in spans:
        if not (0 <= start < end <= length and start >= last):
            raise UserError(
                f"{where}: the mention {start} to {end} is not inside the text of {length} characters",
                "mend the offsets",
            )
        last = end
