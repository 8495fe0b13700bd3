"""What a finished run can hand out: students for any bound, cut out of its super-networks without further training."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cattrs
from transformers import BertModel, PreTrainedModel, PreTrainedTokenizerFast

from stillhouse.core.errors import UserError, require
from stillhouse.core.files import make_folder_atomically, read_json, write_json
from stillhouse.encoders.costs import Architecture
from stillhouse.encoders.elastic import ElasticBert, load_elastic, save_elastic, to_bert
from stillhouse.encoders.tokens import load_tokenizer
from stillhouse.methods.autodistil.front import Bounds, Candidate, Costs, pick
from stillhouse.methods.autodistil.spaces import home_of, parse_space
from stillhouse.methods.autodistil.superlm import SuperLM

FRONT, SUPER = "front.json", "super"


@dataclass(frozen=True)
class Front:
    """Everything that was scored, as it lies in the model folder."""

    spaces: tuple[str, ...]
    teacher: Architecture
    teacher_costs: Costs
    uninformed: float
    """Loss of a student that knows nothing: the share kept is 1 - loss / uninformed."""
    tokens: int
    """Of the text that latency is for."""
    front: tuple[Candidate, ...]
    """Those that can be the best under some bound, with latencies."""
    others: tuple[Candidate, ...]

    def kept(self, candidate: Candidate) -> float:
        """Share of the teacher's relations."""
        return 1 - candidate.loss / self.uninformed


@dataclass(frozen=True, eq=False)
class Family:
    """A run's students."""

    folder: Path
    """The run's model folder."""
    front: Front

    def pick(
        self, *, max_flops: int = 0, max_parameters: int = 0, max_bytes: int = 0, max_latency_ms: float = 0.0
    ) -> Candidate:
        """The best student within the bounds (0 is none), from the stored front.

        Raises:
            UserError: none is; says which is nearest.
        """
        return pick(self.front.front, Bounds(max_flops, max_parameters, max_bytes, max_latency_ms / 1e3))

    def named(self, shape: Architecture) -> Candidate:
        """An architecture of the sub-spaces.

        Raises:
            UserError: it is outside all of them, or was not scored by the evolutionary search.
        """
        home_of(shape, [parse_space(text) for text in self.front.spaces])
        scored = (*self.front.front, *self.front.others)
        found = next((c for c in scored if c.shape == shape), None)
        if found is None:
            raise UserError(f"{shape} was not scored by the search", "choose one of: stillhouse autodistil front RUN")
        return found

    def student(self, candidate: Candidate) -> BertModel:
        """The candidate as an ordinary BERT."""
        return to_bert(super_network(self.folder / SUPER / f"{candidate.space}.safetensors"), candidate.shape)

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The teacher's, which all students share."""
        return load_tokenizer(self.folder)

    def save(self, candidate: Candidate, folder: Path) -> None:
        """The candidate as a transformers folder that AutoModel and AutoTokenizer open.

        Raises:
            UserError: the folder is there and not empty, or cannot be written.
        """
        require(
            not folder.exists() or (folder.is_dir() and not any(folder.iterdir())),
            f"{folder} is not an empty folder",
            "choose another with --out",
        )
        save_student(self.student(candidate), self.tokenizer(), folder)


@lru_cache(maxsize=1)
def super_network(file: Path) -> ElasticBert:
    """A stored super-network."""
    return load_elastic(file)


def save_student(student: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """A transformers folder."""

    def fill(into: Path) -> None:
        student.save_pretrained(into)
        tokenizer.save_pretrained(into)

    make_folder_atomically(folder, fill)


def save_family(
    superlms: list[SuperLM], front: Front, student: BertModel, tokenizer: PreTrainedTokenizerFast, folder: Path
) -> None:
    """The picked student with its tokenizer, and beside it the super-networks and the front."""

    def fill(into: Path) -> None:
        student.save_pretrained(into)
        tokenizer.save_pretrained(into)
        (into / SUPER).mkdir()
        for one in superlms:
            save_elastic(one.network, into / SUPER / f"{one.space.name}.safetensors")
        write_json(into / FRONT, cattrs.unstructure(front))

    make_folder_atomically(folder, fill)


def open_family(run: Path) -> Family:
    """The students of a finished run.

    Raises:
        UserError: not a finished run of autodistil.
    """
    file = run / "model" / FRONT
    require((run / "config.json").is_file(), f"{run} is not a run folder", "name a run folder, see what is in runs/")
    require(
        file.is_file(),
        f"{run} has no front of students",
        f"finish it with: stillhouse resume {run}, or name a run of autodistil",
    )
    try:
        return Family(run / "model", cattrs.structure(read_json(file), Front))
    except (cattrs.BaseValidationError, TypeError, ValueError) as error:
        raise UserError(f"{file} cannot be read", "run autodistil again") from error
