"""Task-agnostic search (section 3.3): every architecture scored by its relation loss on held-out text, none fine-tuned.

Architectures are scored in broods, each a function of the seed and of what was scored before, and written down after each, so
that a search that was killed goes on as if it had not been.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import cattrs
import torch
from torch import nn
from transformers import BertModel, PreTrainedModel

from stillhouse.core.errors import UserError
from stillhouse.core.files import parse_json, write_atomically
from stillhouse.core.progress import Progress
from stillhouse.core.seeding import derive_seed
from stillhouse.encoders.costs import Architecture, Tables, multiply_adds, parameters
from stillhouse.encoders.elastic import bert_config
from stillhouse.methods.autodistil.front import Candidate, Costs, plane_front
from stillhouse.methods.autodistil.lesson import Exam
from stillhouse.methods.autodistil.spaces import SubSpace, distinct
from stillhouse.methods.autodistil.superlm import SuperLM

BROOD = 32
TRIES = 200
"""Children in a row that are known already before a brood is filled by chance."""


def costs_of(shape: Architecture, tables: Tables) -> Costs:
    """Costs that follow from the shape."""
    size = parameters(shape, tables)
    return Costs(multiply_adds(shape), size, 4 * size)


def search_space(
    superlm: SuperLM, exam: Exam, evaluations: int, seed: int, file: Path, quiet: bool
) -> tuple[list[Candidate], float]:
    """All architectures of the sub-space scored, or as many as `evaluations` found by evolution; and the seconds it took.

    Raises:
        UserError: `file` holds another search.
    """
    space, network = superlm.space, superlm.network
    identity = f"{space} {evaluations} {seed}"
    done, seconds = _read(file, identity)
    wanted = min(evaluations, distinct(space))
    with Progress(f"search {space.name}", wanted, len(done), quiet=quiet, unit="architectures") as progress:
        while len(done) < wanted:
            started = time.monotonic()
            brood = next_brood(space, done, wanted, seed)
            done += [Candidate(space.name, s, exam.loss(network, s), costs_of(s, network.tables)) for s in brood]
            seconds += time.monotonic() - started
            _write(file, identity, done, seconds)
            progress.update(len(done), {"best loss": min(c.loss for c in done)})
    return done, seconds


def next_brood(space: SubSpace, done: Sequence[Candidate], wanted: int, seed: int) -> list[Architecture]:
    """The architectures to be scored next: the space in its order if all of it is wanted, else children of the front."""
    size = min(BROOD, wanted - len(done))
    seen = {candidate.shape for candidate in done}
    if wanted == distinct(space):
        rest = [shape for shape in dict.fromkeys(space.all()) if shape not in seen]
        return rest[:size]
    brood: dict[Architecture, None] = {}
    for shape in _proposals(space, done, random.Random(derive_seed("brood", space.name, seed, len(done)))):
        if shape not in seen:
            brood[shape] = None
        if len(brood) == size:
            break
    return list(brood)


def _proposals(space: SubSpace, done: Sequence[Candidate], rng: random.Random) -> Iterator[Architecture]:
    """The corners and chance at first, then children of two of the front of loss and multiply-adds."""
    if not done:
        yield from (space.largest, space.smallest)
    parents = [candidate.shape for candidate in plane_front(done)]
    for _ in range(TRIES if parents else 0):
        yield space.child(rng.choice(parents), rng.choice(parents), rng)
    while True:
        yield space.draw(rng)


def _write(file: Path, identity: str, done: Sequence[Candidate], seconds: float) -> None:
    head = json.dumps({"search": identity, "seconds": seconds})
    rows = (json.dumps(cattrs.unstructure(candidate)) for candidate in done)
    write_atomically(file, "\n".join([head, *rows]) + "\n")


def _read(file: Path, identity: str) -> tuple[list[Candidate], float]:
    if not file.exists():
        return [], 0.0
    try:
        head, *rows = file.read_text(encoding="utf-8").splitlines()
        record = parse_json(head)
        done = [cattrs.structure(parse_json(row), Candidate) for row in rows]
        known, seconds = record["search"], float(record["seconds"])
    except (ValueError, KeyError, TypeError, cattrs.BaseValidationError) as error:
        raise UserError(f"{file} cannot be read as a search", "remove it to search anew") from error
    if known != identity:
        raise UserError(f"{file} is of another search", "start a new run")
    return done, seconds


@torch.no_grad()
def latency_seconds(model: PreTrainedModel, tokens: int, batch: int = 1, repeats: int = 5) -> float:
    """Seconds a text of so many tokens, the best of some passes after a first one."""
    ids = torch.randint(0, min(8, model.config.vocab_size), (batch, tokens))
    taken = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        model(input_ids=ids, attention_mask=torch.ones_like(ids))
        taken.append(time.perf_counter() - started)
    return min(taken[1:]) / batch


def stand_in(shape: Architecture, tokens: int) -> BertModel:
    """A `BertModel` of this shape with a few words: it takes as long as one with all of them."""
    config = bert_config(shape, Tables(8, max(tokens, 8), 1), 0, "gelu", 1e-12)
    with torch.device("meta"):
        model: nn.Module = BertModel(config)
    model = model.to_empty(device="cpu")
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.02)
    model.embeddings.position_ids = torch.arange(max(tokens, 8)).expand((1, -1))  # type: ignore[union-attr]
    model.embeddings.token_type_ids = torch.zeros(1, max(tokens, 8), dtype=torch.long)  # type: ignore[union-attr]
    return model.eval()  # type: ignore[return-value]


def timed(candidates: Sequence[Candidate], tokens: int, rounds: int = 4) -> list[Candidate]:
    """The candidates with their latency, by turns, so that a moment in which the machine is busy falls on all alike."""
    best = [float("inf")] * len(candidates)
    for _ in range(rounds):
        for i, candidate in enumerate(candidates):
            best[i] = min(best[i], latency_seconds(stand_in(candidate.shape, tokens), tokens, repeats=3))
    return [replace(c, costs=replace(c.costs, latency_seconds=s)) for c, s in zip(candidates, best, strict=True)]
