"""What of a made text was already in the text that made it, and in the text it will be judged on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from stillhouse.corpus.rouge import words


class Seen:
    """Sentences and runs of words of a corpus, as hashes: 8 bytes each, whatever their length.

    Args:
        sentences: of the corpus.
        run: length in words of the runs that are kept.
    """

    def __init__(self, sentences: Iterable[str], run: int = 8) -> None:
        self.run = run
        self.whole: set[int] = set()
        self.runs: set[int] = set()
        for sentence in sentences:
            found = words(sentence)
            self.whole.add(hash(tuple(found)))
            self.runs.update(hash(part) for part in _runs(found, run))

    def verbatim(self, sentence: str) -> bool:
        """Whether the corpus has the sentence, word for word."""
        return hash(tuple(words(sentence))) in self.whole

    def share_of_runs(self, sentence: str) -> float:
        """Share of the sentence's runs of words that the corpus has; 0 for a shorter sentence."""
        here = _runs(words(sentence), self.run)
        return sum(hash(part) in self.runs for part in here) / len(here) if here else 0.0


def _runs(found: Sequence[str], length: int) -> list[tuple[str, ...]]:
    return [tuple(found[i : i + length]) for i in range(len(found) - length + 1)]
