"""Abstracts made by seed, with planted relations: nothing to fetch, and every answer known.

A world of genes, diseases and chemicals with synonyms is drawn, a few of which share an abbreviation with another concept.
Relations hold between some of them. Abstracts tell them in many wordings, deny others, hedge some, and mention more side by
side without a relation. Many sentences speak of two pairs at once ("A inhibits B, whereas C activates D") or deny one and
state another, so that a bag of words cannot tell which pair is meant; and verbs are as unevenly frequent as words of a
language are, so that the report split has some that training lacks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stillhouse.core.seeding import derive_seed
from stillhouse.knowledge.documents import Document, Mention, Relation

VERBS: dict[str, str] = {
    "inhibits": "inhibits inhibited, blocks blocked, suppresses suppressed, reduces reduced, attenuates attenuated, antagonizes antagonized, "
    "represses repressed, abolishes abolished, decreases decreased, impairs impaired, diminishes diminished, silences silenced, "
    "dampens dampened, abrogates abrogated, curbs curbed, depresses depressed, lowers lowered, neutralizes neutralized, "
    "inactivates inactivated, quenches quenched, disrupts disrupted, hinders hindered, restrains restrained, extinguishes extinguished",
    "activates": "activates activated, induces induced, stimulates stimulated, enhances enhanced, increases increased, potentiates potentiated, "
    "upregulates upregulated, promotes promoted, elevates elevated, augments augmented, boosts boosted, raises raised, "
    "amplifies amplified, triggers triggered, intensifies intensified, strengthens strengthened, sensitizes sensitized, "
    "agonizes agonized, drives driven, reinforces reinforced, turns-on turned-on, heightens heightened, fuels fuelled, awakens awakened",
    "treats": "relieves relieved, improves improved, treats treated, ameliorates ameliorated, alleviates alleviated, cures cured, prevents prevented, "
    "controls controlled, reverses reversed, eases eased, heals healed, resolves resolved, mitigates mitigated, "
    "palliates palliated, halts halted, delays delayed, lessens lessened, soothes soothed, remedies remedied, slows slowed",
    "causes": "causes caused, induces induced, produces produced, provokes provoked, precipitates precipitated, triggers triggered, elicits elicited, "
    "aggravates aggravated, worsens worsened, evokes evoked, accelerates accelerated, exacerbates exacerbated, "
    "brings-on brought-on, engenders engendered, initiates initiated, inflicts inflicted, breeds bred, generates generated",
}
"""Relation -> verbs (present, participle), the common ones first: they are drawn like words of a language, the k-th with weight 1 / k,
so that the rare ones of the report split are mostly new. Two verbs speak for two relations, by the types of what they join."""
LINKS = (
    "is associated with",
    "confers susceptibility to",
    "is linked to",
    "contributes to the pathogenesis of",
    "predisposes to",
    "increases the risk of",
    "is mutated in",
    "predicts progression of",
    "is a susceptibility locus of",
    "is implicated in",
    "modifies",
    "is a risk factor of",
    "underlies",
    "segregates with",
    "is overexpressed in",
    "is deleted in",
    "correlates with the severity of",
    "is a hallmark of",
    "accounts for many cases of",
    "is frequently lost in",
)
MANNER = (
    "in a dose-dependent manner",
    "in primary cells",
    "within two hours",
    "in a controlled trial",
    "in rats",
    "at nanomolar concentrations",
    "in most subjects",
    "after oral administration",
    "in two cohorts",
    "at the highest dose",
    "in vitro",
    "after adjustment for age",
)
ASIDE = (
    "given orally",
    "at low doses",
    "in contrast to placebo",
    "as shown before",
    "alone or in combination",
    "first described in 1994",
    "irrespective of age",
    "in all animals",
    "measured by ELISA",
    "which was well tolerated",
)
ADVERB = ("markedly", "strongly", "significantly", "rapidly", "partially", "consistently", "transiently")
DENIED = ("did not", "failed to", "does not", "was unable to", "never")
NOT_LINKED = (
    "{g} is not associated with {d}",
    "no association was found between {g} and {d}",
    "{g} does not confer susceptibility to {d}",
    "{d} was independent of {g}",
    "{g} was not linked to {d}",
    "there is no evidence that {g} contributes to {d}",
)
BESIDE: dict[str, tuple[str, ...]] = {
    "cg": (
        "{g} was measured before {c} was given",
        "the effect of {c} on {g} was studied",
        "levels of {c} and {g} were determined",
        "cells with inhibited {g} were exposed to {c}",
        "{c} was added when activated {g} had been removed",
        "we asked how {c} acts where {g} is increased",
        "reduced {g} was seen before {c} was started",
    ),
    "cd": (
        "{c} was given to patients with and without {d}",
        "the use of {c} in {d} was reviewed",
        "serum {c} was determined in {d}",
        "patients with {d} were randomized to {c} or placebo",
        "{d} was diagnosed before treatment with {c} began",
        "subjects whose {d} had improved received {c}",
        "induced {d} was scored by staff blinded to {c}",
    ),
    "gd": (
        "{g} was genotyped in 240 patients with {d}",
        "the role of {g} in {d} was examined",
        "samples of {d} were stained for {g}",
        "carriers of {g} without {d} served as controls",
        "susceptibility to {d} was studied in families tested for {g}",
        "we sequenced {g} in cases of {d}",
        "the risk of {d} was computed in a model that included {g}",
    ),
}
HEDGE = ("it is possible that ", "these data suggest that ", "we hypothesize that ", "perhaps ")
FILLER = (
    "Further studies are needed.",
    "The mechanism remains to be established.",
    "Data were analysed with a mixed model.",
    "Follow-up was 24 months.",
    "Informed consent was obtained.",
)
ENDS = {"inhibits": "cg", "activates": "cg", "treats": "cd", "causes": "cd", "associated_with": "gd"}
SHARE = {"inhibits": 0.34, "activates": 0.2, "treats": 0.2, "causes": 0.1, "associated_with": 0.16}
"""Of stated relations: classes are as unequal as in real text."""
LETTER = {"c": "chemical", "g": "gene", "d": "disease"}


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
    facts: dict[tuple[str, str], str] = {}
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
    organ = str(
        random.choice(
            ["renal", "hepatic", "cardiac", "pulmonary", "dermal", "neural", "retinal", "gastric", "spinal", "thyroid"]
        )
    )
    kind = str(
        random.choice(
            ["fibrosis", "dystrophy", "carcinoma", "insufficiency", "inflammation", "necrosis", "atrophy", "sclerosis"]
        )
    )
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
    return [_document(world, i, seed) for i in range(documents)]


def _document(world: World, number: int, seed: int) -> Document:
    random = np.random.default_rng(derive_seed("planted document", seed, number))
    told = [_sentence(world, random) for _ in range(int(random.integers(4, 10)))]
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


def _sentence(world: World, random: np.random.Generator) -> Told:
    kind = float(random.random())
    if kind < 0.36:
        label, one, two = _fact(world, random)
        hedge = str(random.choice(HEDGE)) if random.random() < 0.15 else ""
        ends = ENDS[label]
        return _told(
            hedge + _clause(label, f"{{{ends[0]}}}", f"{{{ends[1]}}}", random),
            {ends[0]: one, ends[1]: two},
            ((label, one, two),),
            world,
            random,
        )
    if kind < 0.58:
        return _double(world, random)
    if kind < 0.92:
        ends = str(random.choice(["cg", "cd", "gd"]))
        one, two = (str(random.choice(world.of_type(end))) for end in ends)
        wording = str(random.choice(BESIDE[ends])) if kind < 0.76 else _denial(ends, random)
        return _told(wording, {ends[0]: one, ends[1]: two}, (("", one, two),), world, random)
    return Told(str(random.choice(FILLER)), (), ())


def _fact(world: World, random: np.random.Generator) -> tuple[str, str, str]:
    return world.facts[int(random.integers(len(world.facts)))]


def _zipf(words: tuple[str, ...] | list[str], random: np.random.Generator) -> str:
    """The k-th word with weight 1 / k."""
    weights = 1 / np.arange(1, len(words) + 1)
    return str(random.choice(words, p=weights / weights.sum()))


def _verb(label: str, random: np.random.Generator) -> list[str]:
    """Present and participle."""
    return [form.replace("-", " ") for form in _zipf(VERBS[label].split(", "), random).split()]


def _clause(label: str, one: str, two: str, random: np.random.Generator) -> str:
    """A statement that `label` holds from one to two, perhaps with an aside, an adverb and a manner."""
    aside = f", {random.choice(ASIDE)}," if random.random() < 0.3 else ""
    manner = f" {random.choice(MANNER)}" if random.random() < 0.4 else ""
    if label == "associated_with":
        if random.random() < 0.3:
            return f"{two}{aside} was found in carriers of {one} mutations{manner}"
        return f"{one}{aside} {_zipf(LINKS, random)} {two}{manner}"
    present, participle = _verb(label, random)
    adverb = f"{random.choice(ADVERB)} " if random.random() < 0.3 else ""
    if random.random() < 0.4:
        return f"{two}{aside} was {adverb}{participle} by {one}{manner}"
    return f"{one}{aside} {adverb}{present} {two}{manner}"


def _denial(ends: str, random: np.random.Generator) -> str:
    if ends == "gd":
        return str(random.choice(NOT_LINKED))
    label = str(random.choice([label for label, known in ENDS.items() if known == ends]))
    present, participle = _verb(label, random)
    one, two = (f"{{{end}}}" for end in ends)
    if random.random() < 0.4:
        return f"{two} was not {participle} by {one}"
    deny = str(random.choice(DENIED))
    return f"{one} never {present} {two}" if deny == "never" else f"{one} {deny} {_infinitive(present)} {two}"


def _infinitive(present: str) -> str:
    """inhibits -> inhibit, diminishes -> diminish, remedies -> remedy, "brings on" -> "bring on"."""
    word, _, rest = present.partition(" ")
    if word.endswith("ies"):
        word = word[:-3] + "y"
    elif word.endswith(("shes", "sses", "ches")):
        word = word[:-2]
    else:
        word = word[:-1]
    return f"{word} {rest}".strip()


def _double(world: World, random: np.random.Generator) -> Told:
    """Two pairs in one sentence: two statements, or one and a denial of the same about a third concept."""
    label, one, two = _fact(world, random)
    a, b = tuple(ENDS[label])
    if random.random() < 0.35:
        other = str(random.choice([c for c in world.of_type(a) if c != one]))
        chosen = {f"0{a}": one, f"0{b}": two, f"1{a}": other}
        clause = _clause(label, f"{{0{a}}}, but not {{1{a}}},", f"{{0{b}}}", random).replace(",,", ",")
        return _told(clause.rstrip(","), chosen, ((label, one, two), ("", other, two)), world, random)
    label2, three, four = _fact(world, random)
    if {one, two} & {three, four}:
        return _double(world, random)
    c, d = tuple(ENDS[label2])
    chosen = {f"0{a}": one, f"0{b}": two, f"1{c}": three, f"1{d}": four}
    join = str(random.choice([", whereas ", " and ", "; ", ", while ", ", and in the same series "]))
    clauses = (_clause(label, f"{{0{a}}}", f"{{0{b}}}", random), _clause(label2, f"{{1{c}}}", f"{{1{d}}}", random))
    return _told(join.join(clauses), chosen, ((label, one, two), (label2, three, four)), world, random)


def _told(
    wording: str,
    chosen: dict[str, str],
    facts: tuple[tuple[str, str, str], ...],
    world: World,
    random: np.random.Generator,
) -> Told:
    """A wording as a sentence, with names in its places."""
    text, mentions = "", []
    rest = wording if wording.startswith("{") else wording[0].upper() + wording[1:]
    while "{" in rest:
        before, _, rest = rest.partition("{")
        key, _, rest = rest.partition("}")
        name = str(random.choice(world.names[chosen[key]]))
        text += before
        mentions.append((len(text), len(text) + len(name), chosen[key]))
        text += name
    return Told(f"{text}{rest}.", tuple(mentions), facts)
