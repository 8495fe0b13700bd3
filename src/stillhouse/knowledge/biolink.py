"""Names that other graphs use too: compact identifiers, IRIs, Biolink categories and predicates."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import quote

from stillhouse.core.files import content_hash

BIOLINK = "https://w3id.org/biolink/vocab/"
REGISTRY = "https://bioregistry.io/"
OWN = "urn:stillhouse:"
TEXT = "text:"
"""Namespace of mentions without a concept: their own words."""

CATEGORIES = {
    "gene": "Gene",
    "disease": "DiseaseOrPhenotypicFeature",
    "chemical": "ChemicalEntity",
    "variant": "SequenceVariant",
    "organism": "OrganismTaxon",
    "cell_line": "CellLine",
}
SUBJECT_FIRST = ("chemical", "gene", "variant", "organism", "cell_line", "disease")
"""Which type is the subject: corpora of this kind annotate pairs, not directions."""


class Predicate(NamedTuple):
    """A Biolink predicate, and the direction that a qualifier adds to it."""

    name: str
    direction: str = ""


PREDICATES = {
    # BioRED
    "association": Predicate("associated_with"),
    "positive_correlation": Predicate("positively_correlated_with"),
    "negative_correlation": Predicate("negatively_correlated_with"),
    "bind": Predicate("directly_physically_interacts_with"),
    "drug_interaction": Predicate("interacts_with"),
    "conversion": Predicate("derives_into"),
    # ChemProt
    "inhibitor": Predicate("affects", "decreased"),
    "antagonist": Predicate("affects", "decreased"),
    "downregulator": Predicate("affects", "decreased"),
    "indirect-downregulator": Predicate("affects", "decreased"),
    "agonist-inhibitor": Predicate("affects", "decreased"),
    "activator": Predicate("affects", "increased"),
    "agonist": Predicate("affects", "increased"),
    "agonist-activator": Predicate("affects", "increased"),
    "upregulator": Predicate("affects", "increased"),
    "indirect-upregulator": Predicate("affects", "increased"),
    "substrate": Predicate("is_substrate_of"),
    "product-of": Predicate("is_output_of"),
    # GAD and the built-in abstracts
    "associated_with": Predicate("associated_with"),
    "causes": Predicate("causes"),
    "treats": Predicate("treats"),
    "inhibits": Predicate("affects", "decreased"),
    "activates": Predicate("affects", "increased"),
    "interacts_with": Predicate("interacts_with"),
}
"""Labels (lowercase) -> Biolink; any other label is related_to, and every edge keeps its own label beside."""


def predicate_of(label: str) -> Predicate:
    """The Biolink predicate of a relation label."""
    return PREDICATES.get(label.lower(), Predicate("related_to"))


def category_of(kind: str) -> str:
    """The Biolink category of an entity type."""
    return CATEGORIES.get(kind, "NamedThing")


def curie(concept: str, kind: str) -> str:
    """A concept as namespace:id; what corpora write without a namespace gets the one that its form and type tell."""
    if ":" in concept:
        return concept
    if re.fullmatch(r"[DC]\d{5,}", concept):
        return f"MESH:{concept}"
    if re.fullmatch(r"rs\d+", concept):
        return f"DBSNP:{concept}"
    if concept.isdigit():
        return {"gene": "NCBIGene:", "organism": "NCBITaxon:"}.get(kind, "OMIM:") + concept
    return f"{TEXT}{concept.lower()}"


def iri(compact: str) -> str:
    """The IRI of namespace:id."""
    namespace, _, name = compact.partition(":")
    if namespace + ":" == TEXT:
        return f"{OWN}text:{quote(name, safe='')}"
    return f"{REGISTRY}{namespace.lower()}:{quote(name, safe='')}"


def edge_id(subject: str, label: str, object: str) -> str:
    """The same for every mention of one edge."""
    return content_hash(["edge", subject, label, object])


def ordered(one: tuple[str, str], two: tuple[str, str]) -> tuple[tuple[str, str], tuple[str, str]]:
    """Two (type, concept) in the order subject, object: by type, then by name."""

    def rank(end: tuple[str, str]) -> tuple[int, str]:
        return (SUBJECT_FIRST.index(end[0]) if end[0] in SUBJECT_FIRST else len(SUBJECT_FIRST), end[1])

    return (one, two) if rank(one) <= rank(two) else (two, one)
