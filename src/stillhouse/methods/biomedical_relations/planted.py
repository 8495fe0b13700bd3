"""Abstracts made by seed, with planted relations: nothing to fetch, and every answer known.

A world of genes, diseases and chemicals with synonyms is drawn, a few of which share an abbreviation with another concept.
Relations hold between some of them. Abstracts tell them in many wordings, deny others, hedge some, and mention more side by
side without a relation. Several wordings speak of two pairs at once ("A inhibits B, whereas C activates D") or deny one and
state another, so that a bag of words cannot tell which pair is meant. A third of the wordings appear in a part of the
documents only, as real corpora have wordings that the training part lacks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stillhouse.core.seeding import derive_seed
from stillhouse.knowledge.documents import Document, Mention, Relation

STATED: dict[str, tuple[str, ...]] = {
    "inhibits": (
        "{c} inhibits {g} in a dose-dependent manner.",
        "Treatment with {c} markedly reduced the activity of {g}.",
        "{g} was blocked by {c} at nanomolar concentrations.",
        "{c} is a selective antagonist of {g}.",
        "Expression of {g} fell sharply after exposure to {c}.",
        "We identified {c} as a potent suppressor of {g} signalling.",
        "Pretreatment with {c} abolished the response of {g}.",
        "{g} activity was attenuated in the presence of {c}.",
    ),
    "activates": (
        "{c} activates {g} in primary cells.",
        "Treatment with {c} strongly enhanced the activity of {g}.",
        "{g} was induced by {c} within two hours.",
        "{c} is a full agonist of {g}.",
        "Expression of {g} rose after exposure to {c}.",
        "{c} stimulated {g} and this was dose dependent.",
        "Up-regulation of {g} followed administration of {c}.",
        "{g} activity was potentiated in the presence of {c}.",
    ),
    "treats": (
        "{c} is effective in the treatment of {d}.",
        "Patients with {d} improved under {c}.",
        "{c} relieved the symptoms of {d} in a controlled trial.",
        "Remission of {d} was achieved with {c} in most subjects.",
        "{c} protects against {d}.",
        "Therapy of {d} with {c} was well tolerated and successful.",
        "Administration of {c} ameliorated {d}.",
        "Survival in {d} was prolonged by {c}.",
    ),
    "causes": (
        "{c} induced {d} in rats.",
        "{d} occurred in three subjects after {c}.",
        "We report a case of {d} following {c} overdose.",
        "Long-term exposure to {c} leads to {d}.",
        "{c} was withdrawn because of {d}.",
        "{d} is a known adverse effect of {c}.",
        "Chronic {c} produced {d} in all animals.",
        "{d} developed during {c} therapy and resolved when it was stopped.",
    ),
    "associated_with": (
        "Variants in {g} are associated with {d}.",
        "{g} confers susceptibility to {d}.",
        "Carriers of the {g} polymorphism had an increased risk of {d}.",
        "Mutations of {g} were found in families with {d}.",
        "{g} contributes to the pathogenesis of {d}.",
        "{d} was linked to the {g} locus.",
        "A haplotype of {g} predicts progression of {d}.",
        "Loss of {g} was frequent in {d}.",
    ),
}
DENIED: dict[str, tuple[str, ...]] = {
    "cg": (
        "{c} did not inhibit {g}.",
        "{g} was not activated by {c}.",
        "{c} had no effect on the activity of {g}.",
        "{c} failed to induce {g}.",
    ),
    "cd": (
        "{c} was not effective in the treatment of {d}.",
        "There was no evidence that {c} causes {d}.",
        "{d} was not induced by {c}.",
        "{c} failed to relieve the symptoms of {d}.",
    ),
    "gd": (
        "{g} is not associated with {d}.",
        "No association was found between {g} and {d}.",
        "The {g} polymorphism does not confer susceptibility to {d}.",
        "{d} was independent of {g}.",
    ),
}
BESIDE: dict[str, tuple[str, ...]] = {
    "cg": (
        "{g} was measured before {c} was given.",
        "The effect of {c} on {g} was studied.",
        "Levels of {c} and {g} were determined by ELISA.",
    ),
    "cd": (
        "{c} was given to patients with and without {d}.",
        "Whether {c} has a role in {d} was the question of this study.",
        "Serum {c} was determined in {d}.",
    ),
    "gd": (
        "{g} was genotyped in 240 patients with {d}.",
        "The role of {g} in {d} was examined.",
        "Samples of {d} were stained for {g}.",
    ),
}
DOUBLE = (
    ("{0c} inhibits {0g}, whereas {1c} activates {1g}.", "inhibits", "activates"),
    ("{0c} activates {0g}, whereas {1c} inhibits {1g}.", "activates", "inhibits"),
    ("{0c}, but not {1c}, inhibited {0g}.", "inhibits", ""),
    ("{0g} was induced by {0c} but not by {1c}.", "activates", ""),
    ("{0c} is effective in {0d} but was withdrawn because of {1d}.", "treats", "causes"),
    ("{0d} improved under {0c}, although {1d} occurred after {1c}.", "treats", "causes"),
    ("{0d} occurred after {0c}, while {1c} relieved {1d}.", "causes", "treats"),
    ("{0g}, but not {1g}, is associated with {0d}.", "associated_with", ""),
)
"""Two facts in one sentence; an empty second label denies it. {0c} and {1c} are the chemicals of the first and second fact."""
HEDGE = ("It is possible that ", "These data suggest that ", "We hypothesize that ", "Perhaps ")
FILLER = (
    "Further studies are needed.", "The mechanism remains to be established.", "Data were analysed with a mixed model.",
    "Follow-up was 24 months.", "Informed consent was obtained.",
)  # fmt: skip
ENDS = {"inhibits": "cg", "activates": "cg", "treats": "cd", "causes": "cd", "associated_with": "gd"}
SHARE = {"inhibits": 0.34, "activates": 0.2, "treats": 0.2, "causes": 0.1, "associated_with": 0.16}
"""Of stated relations: classes are as unequal as in real text."""
LETTER = {"c": "chemical", "g": "gene", "d": "disease"}
RARE_FROM = 5
"""Wordings from this place on appear in late documents only (half of them)."""


@dataclass(frozen=True)
class World:
    """Concepts, their names, and what holds between them."""

    names: dict[str, tuple[str, ...]]
    """Concept -> its names, the preferred one first."""
    types: dict[str, str]
    facts: tuple[tuple[str, str, str], ...]
    """(label, first concept, second concept), ends as in ENDS."""

    def of_type(self, letter: str) -> list[str]:
        """Concepts of a type, by its first letter."""
        return [c for c, kind in self.types.items() if kind == LETTER[letter]]

    def dictionary(self) -> list[tuple[str, str, str]]:
        """(name, type, concept) of every name."""
        return [(name, self.types[c], c) for c, names in self.names.items() for name in names]


def make_world(seed: int, size: int = 60) -> World:
    """A world of `size` genes, diseases and chemicals each, and as many facts as concepts."""
    random = np.random.default_rng(derive_seed("planted world", seed))
    names: dict[str, tuple[str, ...]] = {}
    types: dict[str, str] = {}
    makers = {"g": _gene, "d": _disease, "c": _chemical}
    taken: set[str] = set()
    for letter, make in makers.items():
        for i in range(size):
            concept = f"PLANTED:{letter.upper()}{i:03d}"
            drawn = tuple(n for n in make(random) if n not in taken)
            while not drawn:
                drawn = tuple(n for n in make(random) if n not in taken)
            names[concept], types[concept] = drawn, LETTER[letter]
            taken.update(drawn)
    _share_abbreviations(names, types, random)
    facts = {}
    for _ in range(3 * size):
        label = str(random.choice(list(SHARE), p=list(SHARE.values())))
        one, two = (str(random.choice([c for c, kind in types.items() if kind == LETTER[end]])) for end in ENDS[label])
        facts.setdefault((one, two), label)
    return World(names, types, tuple((label, *pair) for pair, label in facts.items()))


def _gene(random: np.random.Generator) -> list[str]:
    letters = "".join(random.choice(list("ABCDEFGHKLMNPRSTVX"), 3))
    number = int(random.integers(1, 20))
    return [f"{letters}{number}", f"{letters}-{number}"]


def _disease(random: np.random.Generator) -> list[str]:
    organ = str(random.choice(["renal", "hepatic", "cardiac", "pulmonary", "dermal", "neural", "retinal", "gastric", "spinal", "thyroid"]))  # fmt: skip
    kind = str(random.choice(["fibrosis", "dystrophy", "carcinoma", "insufficiency", "inflammation", "necrosis", "atrophy", "sclerosis"]))  # fmt: skip
    form = str(random.choice(["acute", "chronic", "familial", "progressive", "juvenile"]))
    return [f"{form} {organ} {kind}", (form[0] + organ[0] + kind[0]).upper() + str(random.choice(["D", "S"]))]


def _chemical(random: np.random.Generator) -> list[str]:
    stem = "".join(random.choice(["ra", "lo", "mi", "ter", "pra", "zo", "cle", "vu", "do", "fen"], 3))
    ending = str(random.choice(["amide", "olol", "statin", "azole", "idine", "mycin"]))
    return [stem + ending, f"{stem}{ending} hydrochloride"]


def _share_abbreviations(names: dict[str, tuple[str, ...]], types: dict[str, str], random: np.random.Generator) -> None:
    """Every sixth disease's abbreviation is also a gene's name."""
    genes = [c for c, kind in types.items() if kind == "gene"]
    for i, disease in enumerate([c for c, kind in types.items() if kind == "disease"]):
        if i % 6 == 0:
            gene = str(random.choice(genes))
            names[gene] = (*names[gene], names[disease][-1])


@dataclass(frozen=True)
class Told:
    """A sentence with its mentions and facts, before it has a place in a document."""

    text: str
    mentions: tuple[tuple[int, int, str], ...]
    facts: tuple[tuple[str, str, str], ...]


def make_documents(world: World, documents: int, seed: int) -> list[Document]:
    """Abstracts of four to nine sentences; relations annotated are those that some sentence states and none denies."""
    return [_document(world, i, i >= documents // 2, seed) for i in range(documents)]


def _document(world: World, number: int, late: bool, seed: int) -> Document:
    random = np.random.default_rng(derive_seed("planted document", seed, number))
    told = [_sentence(world, random, late) for _ in range(int(random.integers(4, 10)))]
    text, mentions = "", []
    stated: dict[tuple[str, str], str] = {}
    silent: set[tuple[str, str]] = set()
    for sentence in told:
        start = len(text) + (1 if text else 0)
        text = f"{text} {sentence.text}".strip()
        mentions += [Mention(((start + a, start + b),), world.types[c], (c,)) for a, b, c in sentence.mentions]
        for label, one, two in sentence.facts:
            if label:
                stated[one, two] = label
            else:
                silent.add((one, two))
    relations = tuple(Relation(label, *pair) for pair, label in stated.items() if pair not in silent)
    return Document(f"planted-{seed}-{number:05d}", text, tuple(mentions), relations)


def _sentence(world: World, random: np.random.Generator, late: bool) -> Told:
    kind = float(random.random())
    if kind < 0.38:
        label, one, two = world.facts[int(random.integers(len(world.facts)))]
        wordings = STATED[label] if late else STATED[label][:RARE_FROM]
        sentence = _fill(str(random.choice(wordings)), {ENDS[label][0]: one, ENDS[label][1]: two}, world, random)
        hedged = random.random() < 0.15
        return _with(sentence, ((label, one, two),), str(random.choice(HEDGE)) if hedged else "")
    if kind < 0.53:
        return _double(world, random)
    if kind < 0.9:
        ends = str(random.choice(list(DENIED)))
        one, two = (str(random.choice(world.of_type(end))) for end in ends)
        wordings = DENIED[ends] if kind < 0.7 else BESIDE[ends]
        sentence = _fill(str(random.choice(wordings)), {ends[0]: one, ends[1]: two}, world, random)
        return _with(sentence, (("", one, two),))
    return Told(str(random.choice(FILLER)), (), ())


def _double(world: World, random: np.random.Generator) -> Told:
    wording, *labels = DOUBLE[int(random.integers(len(DOUBLE)))]
    chosen: dict[str, str] = {}
    facts = []
    for place, label in enumerate(labels):
        known = [f for f in world.facts if f[0] == (label or labels[0])]
        _, one, two = known[int(random.integers(len(known)))]
        ends = ENDS[label or labels[0]]
        for letter, concept in zip(ends, (one, two), strict=True):
            chosen.setdefault(f"{place}{letter}", concept)
        # an end that the wording shares with the first fact is the first fact's
        pair = tuple(chosen[f"{place}{e}"] if f"{{{place}{e}}}" in wording else chosen[f"0{e}"] for e in ends)
        facts.append((label, *pair))
    if len(set(chosen.values())) < len(chosen):
        return _double(world, random)
    return _with(_fill(wording, chosen, world, random), tuple(facts))  # type: ignore[arg-type]


def _fill(wording: str, chosen: dict[str, str], world: World, random: np.random.Generator) -> tuple[str, list[tuple[int, int, str]]]:  # fmt: skip
    """A wording with names in its places, and where they are."""
    text, mentions = "", []
    rest = wording
    while "{" in rest:
        before, _, rest = rest.partition("{")
        key, _, rest = rest.partition("}")
        name = str(random.choice(world.names[chosen[key]]))
        text += before
        mentions.append((len(text), len(text) + len(name), chosen[key]))
        text += name
    return text + rest, mentions


def _with(filled: tuple[str, list[tuple[int, int, str]]], facts: tuple[tuple[str, str, str], ...], before: str = "") -> Told:  # fmt: skip
    text, mentions = filled
    first = mentions[0][0] == 0
    if before and not first:
        text = text[0].lower() + text[1:]
    return Told(before + text, tuple((a + len(before), b + len(before), c) for a, b, c in mentions), facts)
