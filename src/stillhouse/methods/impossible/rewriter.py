"""The finished student: a transformers folder, and text in, text out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stillhouse.core.errors import UserError, require
from stillhouse.core.files import make_folder_atomically, read_json, write_json
from stillhouse.corpus.sentences import split_sentences
from stillhouse.methods.impossible.causal import Sampling
from stillhouse.methods.impossible.config import Config, Task
from stillhouse.methods.impossible.made_here import STUDENT_TOKENS
from stillhouse.methods.impossible.seq2seq import Student, load_student, rewrite
from stillhouse.methods.impossible.vocabulary import CODES


@dataclass(frozen=True)
class Rewriter:
    """A student that rewrites sentences: `rewriter("Anna bought two lamps.")`."""

    student: Student
    task: Task

    def __call__(
        self, text: str, *, codes: Sequence[str] = (), outputs: int = 1, temperature: float = 0.0, seed: int = 0
    ) -> list[str]:
        """Rewritings of a text, sentence by sentence.

        Args:
            text: sentences; what follows the last full stop is taken as one too.
            codes: control codes, e.g. "<passive>".
            outputs: how many; more than one are sampled.
            temperature: of the sampling; 0 takes the likeliest token each time (one output) or 0.7.
            seed: of the sampling.

        Raises:
            UserError: an empty text, or a code that is not known.
        """
        require(bool(text.strip()), "nothing to rewrite", "give a sentence")
        for code in codes:
            require(code in CODES, f"no control code {code!r}", f"give some of {' '.join(CODES)}")
        require(outputs >= 1, f"outputs is {outputs}", "give one or more")
        sentences = split_text(text)
        sampling = Sampling(temperature or 0.7, 0.9, 48, 64) if outputs > 1 or temperature else None
        made = rewrite(self.student, sentences, each=outputs, sampling=sampling, codes=codes, seed=(seed, "rewrite"))
        return list(dict.fromkeys(" ".join(some[i] for some in made) for i in range(outputs)))


def split_text(text: str) -> list[str]:
    """All sentences of a text, an unfinished last one too."""
    whole = " ".join(text.split())
    found = list(split_sentences(whole))
    rest = whole[len(" ".join(found)) :].strip()
    return [*found, rest] if rest else found


def save_rewriter(student: Student, config: Config, folder: Path) -> None:
    """A transformers folder, and what it was trained for."""

    def fill(beside: Path) -> None:
        student.model.save_pretrained(beside)
        student.tokenizer.save_pretrained(beside)
        write_json(beside / "rewriter.json", {"task": config.task, "control": list(config.control)})

    make_folder_atomically(folder, fill)


def load_rewriter(folder: Path) -> Rewriter:
    """What `save_rewriter` saved.

    Raises:
        UserError: the folder is not a run's model.
    """
    about = read_json(folder / "rewriter.json")
    if about.get("task") not in ("paraphrase", "summary"):
        raise UserError(f"{folder / 'rewriter.json'} names no task", "restore the model folder")
    return Rewriter(load_student(folder, STUDENT_TOKENS), about["task"])
