"""The search: random or evolutionary, under bounds that every network is held to, resumable, by parallel workers.

Networks are proposed in broods of a fixed size, each brood a function of the seed and of what was evaluated before it. So a
search that was killed goes on as if it had not been, and one worker finds what eight find. Every evaluated network is kept.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from stillhouse.core.errors import UserError, require
from stillhouse.core.files import parse_json, write_atomically
from stillhouse.core.progress import Progress
from stillhouse.core.seeding import derive_seed
from stillhouse.methods.diswot.scoring import Judge, Setting, make_judge, mean_and_spread
from stillhouse.vision.classes import Batch
from stillhouse.vision.costs import Shape, latency_seconds, macs, parameters
from stillhouse.vision.ranking import rank_sum
from stillhouse.vision.spaces import Description, Space, key_of

BROOD = 16
TRIES = 300
"""Proposals in a row that are known or above the bound before a brood stays short."""


@dataclass(frozen=True)
class Bounds:
    """What a student may cost; 0 is no bound."""

    parameters: int = 0
    macs: int = 0
    latency_seconds: float = 0.0
    """Measured here for one image, with one thread."""

    def admit(self, costs: Costs) -> bool:
        """Whether a network is within every bound."""
        return (
            (not self.parameters or costs.parameters <= self.parameters)
            and (not self.macs or costs.macs <= self.macs)
            and (not self.latency_seconds or (costs.latency_seconds or 0.0) <= self.latency_seconds)
        )

    def words(self) -> str:
        """The bounds, for an error or a report."""
        parts = [f"{self.parameters:,} parameters"] if self.parameters else []
        parts += [f"{self.macs:,} MACs"] if self.macs else []
        parts += [f"{1e3 * self.latency_seconds:.3g} ms"] if self.latency_seconds else []
        return ", ".join(parts) or "no bound"


@dataclass(frozen=True)
class Costs:
    """What a network costs."""

    parameters: int
    macs: int
    latency_seconds: float | None = None
    """Measured only where it is bounded."""


@dataclass(frozen=True)
class Candidate:
    """A network that was scored."""

    description: Description
    costs: Costs
    scores: dict[str, tuple[float, ...]]
    """A value for each draw of each score."""

    def mean(self, name: str) -> float:
        """Mean of a score over the draws."""
        return mean_and_spread(self.scores[name])[0]


@dataclass(frozen=True)
class Plan:
    """How to search."""

    space: Space
    setting: Setting
    bounds: Bounds = field(default_factory=Bounds)
    strategy: Literal["evolution", "random"] = "evolution"
    evaluations: int = 200
    population: int = 36
    """The youngest that parents are taken from."""
    tournament: int = 8
    crossover: float = 0.3
    """Share of children with two parents."""
    seed: int = 0


@dataclass(frozen=True)
class Found:
    """All networks of a search, and which is best."""

    candidates: tuple[Candidate, ...]
    ranks: tuple[float, ...]
    """Rank sum of each over all scores and all networks of the search."""
    seconds: float
    """Of scoring, summed over resumes."""

    @property
    def best(self) -> Candidate:
        """The first of those with the highest rank sum."""
        return self.candidates[self.order[0]]

    @property
    def order(self) -> list[int]:
        """Best first."""
        return sorted(range(len(self.candidates)), key=lambda i: -self.ranks[i])

    def front(self, cost: Callable[[Costs], float]) -> list[int]:
        """The networks that no other beats in both rank sum and cost, cheapest first."""
        best, kept = -math.inf, []
        for i in sorted(range(len(self.candidates)), key=lambda i: (cost(self.candidates[i].costs), -self.ranks[i])):
            if self.ranks[i] > best:
                best = self.ranks[i]
                kept.append(i)
        return kept


def combined(candidates: Sequence[Candidate]) -> list[float]:
    """Rank sum over the scores: raw sums would be decided by the score with the widest range."""
    names = list(candidates[0].scores)
    return rank_sum([[candidate.mean(name) for candidate in candidates] for name in names]).tolist()


def search(
    plan: Plan,
    batches: Sequence[Batch],
    teacher: nn.Module,
    classes: int,
    *,
    file: Path | None = None,
    workers: int = 1,
    quiet: bool = True,
) -> Found:
    """Propose and score networks until there are `plan.evaluations`, or the space has no further within the bounds.

    Args:
        plan: space, scores, bounds, strategy.
        batches: one a draw.
        teacher: as an object; how it is shown is the setting's business.
        classes: of the students.
        file: JSON lines of every network; what is there already is not scored again.
        workers: processes.
        quiet: show no progress.

    Raises:
        UserError: the bounds exclude everything, a score does not fit the space, or the file belongs to another search.
    """
    done, seconds = _read(file, plan) if file else ([], 0.0)
    shape = batches[0].shape
    with (
        _scorer(plan, batches, teacher, classes, workers) as score,
        Progress("search", plan.evaluations, len(done), quiet=quiet, unit="networks") as progress,
    ):
        while len(done) < plan.evaluations:
            brood = propose(plan, done, shape, classes)
            if not brood:
                break
            started = time.monotonic()
            found = score([description for description, _ in brood])
            seconds += time.monotonic() - started
            done += [Candidate(d, costs, values) for (d, costs), values in zip(brood, found, strict=True)]
            if file:
                _write(file, plan, done, seconds)
            progress.update(len(done), {})
    require(bool(done), "no network was searched", "ask for one evaluation or more")
    return Found(tuple(done), tuple(combined(done)), seconds)


def try_out(plan: Plan, batches: Sequence[Batch], teacher: nn.Module, classes: int) -> None:
    """Score the first network that the search will propose, to see that everything fits together.

    Raises:
        UserError: as `search`.
    """
    (description, _), *_ = propose(plan, [], batches[0].shape, classes)
    _Worker(plan.space, plan.setting, tuple(batches), teacher, classes).score(description)


def propose(plan: Plan, done: Sequence[Candidate], shape: Shape, classes: int) -> list[tuple[Description, Costs]]:
    """The next brood: new networks within the bounds; empty where the space has no more.

    Raises:
        UserError: nothing that was drawn is within the bounds.
    """
    rng = random.Random(derive_seed(plan.seed, "brood", len(done)))
    seen = {key_of(candidate.description) for candidate in done}
    brood: list[tuple[Description, Costs]] = []
    cheapest: list[Costs] = []
    wanted, refused = min(BROOD, plan.evaluations - len(done)), 0
    for description in _proposals(plan, done, rng):
        refused += 1
        if refused > TRIES and plan.space.size > 4 * plan.evaluations:
            break
        key = key_of(description)
        if key in seen:
            continue
        seen.add(key)
        costs = costs_of(plan.space, description, plan.bounds, shape, classes)
        if plan.bounds.admit(costs):
            brood.append((description, costs))
            refused = 0
            if len(brood) == wanted:
                break
        else:
            cheapest = sorted([*cheapest, costs], key=lambda c: c.macs)[:1]
    if not brood and not done:
        raise UserError(
            f"no network of space {plan.space.name} that was drawn is within {plan.bounds.words()}",
            f"raise the bound: the cheapest had {cheapest[0].parameters:,} parameters and {cheapest[0].macs:,} MACs",
        )
    return brood


def _proposals(plan: Plan, done: Sequence[Candidate], rng: random.Random) -> Iterator[Description]:
    """Descriptions by strategy; the whole space in a random order where it is hardly larger than what is asked for."""
    if plan.space.size <= 4 * plan.evaluations:
        rest = list(plan.space.all())
        rng.shuffle(rest)
        if plan.strategy == "random" or len(done) < plan.population:
            yield from rest
            return
        yield from (_child(plan, done, rng) for _ in range(TRIES))
        yield from rest
        return
    while True:
        first = len(done) < plan.population or plan.strategy == "random"
        yield plan.space.sample(rng) if first else _child(plan, done, rng)


def _child(plan: Plan, done: Sequence[Candidate], rng: random.Random) -> Description:
    """Aging evolution (arXiv 1802.01548): the best of a tournament among the youngest, mutated; sometimes of two parents."""
    population = done[-plan.population :]
    ranks = combined(population)

    def parent() -> Description:
        entrants = rng.sample(range(len(population)), min(plan.tournament, len(population)))
        return population[max(entrants, key=lambda i: ranks[i])].description

    child = parent()
    if rng.random() < plan.crossover:
        child = plan.space.cross(child, parent(), rng)
    return plan.space.mutate(child, rng)


def costs_of(space: Space, description: Description, bounds: Bounds, shape: Shape, classes: int) -> Costs:
    """What a described network costs; its latency is measured where that is bounded."""
    network = space.build(description, shape[0], classes)
    found = Costs(parameters(network), macs(network, shape))
    if not bounds.latency_seconds or not bounds.admit(found):
        return found
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    taken = latency_seconds(network, shape)
    torch.set_num_threads(threads)
    return Costs(found.parameters, found.macs, taken)


Scores = list[dict[str, tuple[float, ...]]]


@contextmanager
def _scorer(
    plan: Plan, batches: Sequence[Batch], teacher: nn.Module, classes: int, workers: int
) -> Iterator[Callable[[list[Description]], Scores]]:
    """Scores descriptions in this process or in several."""
    given = (plan.space, plan.setting, tuple(batches), teacher, classes)
    if workers <= 1:
        scoring = _Worker(*given)
        yield lambda descriptions: [scoring.score(description) for description in descriptions]
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=given) as pool:
        yield lambda descriptions: list(pool.map(_score, descriptions))


class _Worker:
    def __init__(
        self, space: Space, setting: Setting, batches: tuple[Batch, ...], teacher: nn.Module, classes: int
    ) -> None:
        self.space, self.channels, self.classes = space, batches[0].shape[0], classes
        self.judge: Judge = make_judge(setting, batches, teacher)

    def score(self, description: Description) -> dict[str, tuple[float, ...]]:
        return self.judge.score(self.space.build(description, self.channels, self.classes))


_worker: list[_Worker] = []


def _begin(*given: Any) -> None:
    torch.set_num_threads(1)
    _worker[:] = [_Worker(*given)]


def _score(description: Description) -> dict[str, tuple[float, ...]]:
    return _worker[0].score(description)


def _identity(plan: Plan) -> dict[str, Any]:
    """What must be equal for two searches to be one."""
    return {
        "space": plan.space.name,
        "setting": json.loads(json.dumps(asdict(plan.setting))),
        "bounds": asdict(plan.bounds),
        "strategy": [plan.strategy, plan.population, plan.tournament, plan.crossover, plan.seed],
    }


def _write(file: Path, plan: Plan, done: Sequence[Candidate], seconds: float) -> None:
    head = json.dumps({"plan": _identity(plan), "seconds": seconds})
    write_atomically(file, "\n".join([head, *(json.dumps(asdict(candidate)) for candidate in done)]) + "\n")


def _read(file: Path, plan: Plan) -> tuple[list[Candidate], float]:
    """The networks of an earlier start; those of a brood that was cut off are scored again."""
    if not file.exists():
        return [], 0.0
    return read_search(file, plan)


def read_search(file: Path, plan: Plan | None = None) -> tuple[list[Candidate], float]:
    """All networks in a file that `search` wrote, and the seconds they took.

    Raises:
        UserError: it is not such a file, or not that of this plan.
    """
    try:
        head, *lines = file.read_text(encoding="utf-8").splitlines()
        record = parse_json(head)
        candidates = [_candidate(parse_json(line)) for line in lines]
        seconds, identity = float(record["seconds"]), record["plan"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} cannot be read as a search ({error})", "remove it to search anew") from error
    if plan is not None and identity != _identity(plan):
        raise UserError(f"{file} is of another search (space, scores, bounds or seed differ)", "start a new run")
    return candidates, seconds


def _candidate(record: dict[str, Any]) -> Candidate:
    scores = {name: tuple(values) for name, values in record["scores"].items()}
    return Candidate(record["description"], Costs(**record["costs"]), scores)
