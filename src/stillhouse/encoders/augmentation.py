"""Augmented texts: random edits, synonyms, words by a masked language model, back-translation, mixup in embedding space.

An operation maps a text to another; a pipeline applies several in order. Augmented texts are added to the originals
and get their class from the teacher. All are made before training, by seed, so that the teacher's outputs on them can
be cached.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stillhouse.core.errors import UserError, require
from stillhouse.core.seeding import derive_seed
from stillhouse.encoders.batches import NO_LABEL, Items
from stillhouse.encoders.data import Texts

Operation = Callable[[list[str], float, np.random.Generator], list[str]]
"""(words, share of words to change, randomness) -> words."""


def changes(words: Sequence[str], share: float) -> int:
    """How many words to change: the share, and at least one."""
    return max(1, round(share * len(words)))


def random_swap(words: list[str], share: float, random: np.random.Generator) -> list[str]:
    """Neighbouring words change places."""
    words = list(words)
    for _ in range(changes(words, share) if len(words) > 1 else 0):
        i = int(random.integers(len(words) - 1))
        words[i], words[i + 1] = words[i + 1], words[i]
    return words


def random_delete(words: list[str], share: float, random: np.random.Generator) -> list[str]:
    """Words are left out; one always stays."""
    kept = random.random(len(words)) >= share
    if not kept.any():
        kept[int(random.integers(len(words)))] = True
    return [word for word, keep in zip(words, kept, strict=True) if keep]


def random_insert(vocabulary: Frequencies) -> Operation:
    """Words drawn by their frequency come in at random places."""

    def operation(words: list[str], share: float, random: np.random.Generator) -> list[str]:
        words = list(words)
        for word in vocabulary.draw(changes(words, share), random):
            words.insert(int(random.integers(len(words) + 1)), word)
        return words

    return operation


def random_replace(vocabulary: Frequencies) -> Operation:
    """Words are replaced by words drawn by their frequency."""

    def operation(words: list[str], share: float, random: np.random.Generator) -> list[str]:
        words = list(words)
        places = random.permutation(len(words))[: changes(words, share)]
        for i, word in zip(places, vocabulary.draw(len(places), random), strict=True):
            words[i] = word
        return words

    return operation


def synonyms(thesaurus: Mapping[str, Sequence[str]]) -> Operation:
    """Words that the thesaurus knows are replaced by one of their synonyms."""

    def operation(words: list[str], share: float, random: np.random.Generator) -> list[str]:
        words = list(words)
        known = [i for i, word in enumerate(words) if thesaurus.get(word.lower())]
        for i in random.permutation(known)[: changes(words, share)] if known else ():
            options = thesaurus[words[i].lower()]
            words[i] = options[int(random.integers(len(options)))]
        return words

    return operation


class Frequencies:
    """Words of a corpus, drawn as often as they occur."""

    def __init__(self, texts: Texts) -> None:
        columns = (texts.first, texts.second or ())
        counts = Counter(word for column in columns for text in column for word in text.split())
        self.words = sorted(counts)
        total = np.array([counts[word] for word in self.words], float)
        self.shares = total / total.sum()

    def draw(self, n: int, random: np.random.Generator) -> list[str]:
        """n words."""
        return [self.words[i] for i in random.choice(len(self.words), n, p=self.shares)]


def read_thesaurus(path: Path) -> dict[str, list[str]]:
    """A thesaurus in MyThes form (th_en_US_v2.dat, as office programs carry it): single-word synonyms by word.

    Raises:
        UserError: no such file, or it is not in that form.
    """
    mend = "give a MyThes .dat file, e.g. /usr/share/mythes/th_en_US_v2.dat of the Debian package mythes-en-us"
    require(path.is_file(), f"no thesaurus {str(path)!r}", mend)
    lines = iter(path.read_text(encoding="utf-8", errors="replace").splitlines()[1:])
    found: dict[str, list[str]] = {}
    for line in lines:
        word, bar, count = line.partition("|")
        if not bar or not count.strip().isdigit():
            raise UserError(f"{path} is not a MyThes thesaurus (line {line[:40]!r})", mend)
        options = (next(lines, "").split("|")[1:] for _ in range(int(count)))
        # "word (antonym)" and the like are remarks, phrases would shift every later word
        flat = dict.fromkeys(o for meaning in options for o in meaning if o.isalpha() and o.lower() != word)
        if flat:
            found[word] = list(flat)
    return found


@dataclass(frozen=True)
class Edits:
    """Word operations by name, for a corpus."""

    operations: Mapping[str, Operation]
    whole: Mapping[str, Callable[[Sequence[str], int], list[str]]]
    """Operations on all texts at once (models): (texts, seed) -> texts."""

    def apply(self, names: Sequence[str], texts: Texts, share: float, seed: int) -> Texts:
        """Every text after the named operations in order; of a pair, both texts are changed.

        Raises:
            UserError: an operation needs something that was not given.
        """
        first = self._column(names, texts.first, share, seed, 0)
        second = None if texts.second is None else self._column(names, texts.second, share, seed, 1)
        return Texts(first, second, np.full(len(texts), NO_LABEL, np.int64))

    def _column(
        self, names: Sequence[str], column: Sequence[str], share: float, seed: int, which: int
    ) -> tuple[str, ...]:
        made = list(column)
        for step, name in enumerate(names):
            key = derive_seed("augmentation", seed, which, step, name)
            if name in self.whole:
                made = self.whole[name](made, key)
                continue
            operation, random = self.operations[name], np.random.default_rng(key)
            made = [" ".join(operation(text.split(), share, random)) for text in made]
        return tuple(made)


def word_edits(texts: Texts, thesaurus: Path | None) -> dict[str, Operation]:
    """The operations that need no model."""
    vocabulary = Frequencies(texts)
    found: dict[str, Operation] = {
        "swap": random_swap,
        "delete": random_delete,
        "insert": random_insert(vocabulary),
        "replace": random_replace(vocabulary),
    }
    if thesaurus is not None:
        found["synonyms"] = synonyms(read_thesaurus(thesaurus))
    return found


def mixed(items: Items, pairs: int, seed: int, concentration: tuple[float, float] = (0.2, 1.0)) -> Items:
    """Mixed pairs of items: e = lambda e_a + (1 - lambda) e_b, both drawn at random.

    lambda ~ Beta(a, a), a uniform in `concentration`; folded to at least a half, so that the first prevails. A mixed
    pair has no label of its own: the teacher's output on the mixed embeddings is its target.

    Args:
        items: what is mixed.
        pairs: how many.
        seed: of the draw.
        concentration: bounds of a.
    """
    random = np.random.default_rng(derive_seed("mixup", seed))
    a = random.uniform(*concentration, pairs)
    share = random.beta(a, a)
    first, second = (random.integers(len(items), size=pairs) for _ in range(2))
    return Items(
        items.first.take(first),
        items.first.take(second),
        np.maximum(share, 1 - share).astype(np.float32),
        np.full(pairs, NO_LABEL, np.int64),
    )
