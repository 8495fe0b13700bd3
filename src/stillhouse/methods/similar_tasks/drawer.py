"""The sources of a run: opened or trained, looked through on the probe, scored and weighted."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stillhouse.core.errors import UserError, require
from stillhouse.methods.similar_tasks.config import Config
from stillhouse.methods.similar_tasks.losses import SoftTargets, softened, temperature_for
from stillhouse.methods.similar_tasks.ranking import Score, order, score_sources
from stillhouse.methods.similar_tasks.weights import above_chance, power_weights, shared_votes, softmax_weights, top
from stillhouse.vision.few_labels import FewLabels, limited
from stillhouse.vision.similarity import Undefined, debiased_cka
from stillhouse.vision.source_tasks import shares_images, train_source
from stillhouse.vision.sources import Outputs, Source, Unusable, fitted, look, open_sources, without_copies
from stillhouse.vision.training import Recipe

PROBE = 500
"""Images that sources are compared on: at most so many labelled ones, and so many in all for their likeness."""
LEAST_WEIGHT = 0.01
"""Sources below this weight have no part, and never see the whole pool."""
TIMED = 32


@dataclass(frozen=True, eq=False)
class Drawer:
    """Every source with what it says of the probe."""

    sources: tuple[Source, ...]
    outputs: tuple[Outputs | None, ...]
    problems: tuple[str, ...]
    """Why a source has no part; empty for the others."""
    unusable: tuple[Unusable, ...]
    """What could not be opened, copies, and what was left out."""
    probe: FewLabels

    @property
    def names(self) -> list[str]:
        """Of the sources."""
        return [source.name for source in self.sources]

    @property
    def usable(self) -> list[int]:
        """Positions of the sources without a problem."""
        return [i for i, problem in enumerate(self.problems) if not problem]

    def likeness(self) -> np.ndarray:
        """Debiased CKA of every two sources' features on images of the pool; 1 with itself, 0 where undefined."""
        table = np.eye(len(self.sources))
        for i in range(len(self.sources)):
            for j in range(i):
                table[i, j] = table[j, i] = _likeness(self.outputs[i], self.outputs[j])
        return table


def _likeness(one: Outputs | None, other: Outputs | None) -> float:
    if one is None or other is None:
        return 0.0
    try:
        return debiased_cka(one.features.double().numpy(), other.features.double().numpy())
    except Undefined:
        return 0.0


def source_recipe(config: Config) -> Recipe:
    """How source models are trained."""
    return Recipe(config.source_updates, 64, shift=config.shift, mirror=config.mirror)


def own_tasks(config: Config, few: FewLabels) -> list[str]:
    """The source tasks that are not the target itself."""
    return [task for task in config.source_tasks if not shares_images(task, few.pool)]


def all_sources(config: Config, few: FewLabels) -> tuple[list[Source], list[Unusable]]:
    """The folder's models, or small networks trained on the source tasks; those that are to have no part are told apart.

    Raises:
        UserError: there is none.
    """
    if config.sources != "train":
        found, unusable = open_sources(Path(config.sources).expanduser())
    else:
        size, channels = few.pool.size, few.pool.channels
        tasks = own_tasks(config, few)
        gone = [task for task in config.source_tasks if task not in tasks]
        unusable = [Unusable(task, "the target's own images") for task in gone]
        found = [
            train_source(task, network, size, channels, source_recipe(config))[0]
            for task in tasks
            for network in config.source_networks
        ]
    names = [source.name for source in found]
    for name in config.leave_out:
        require(name in names, f"no source {name!r} to leave out", f"the sources are {', '.join(names)}")
    unusable += [Unusable(name, "left out as asked") for name in config.leave_out]
    kept, copies = without_copies([source for source in found if source.name not in config.leave_out])
    require(bool(kept), "no source model is left", "give more tasks or models")
    return kept, [*unusable, *copies]


def open_drawer(config: Config, few: FewLabels) -> Drawer:
    """Open or train every source and look through the probe with each: the labelled images, then others of the pool.

    Raises:
        UserError: no source can be used.
    """
    sources, unusable = all_sources(config, few)
    probe = limited(few, PROBE)
    extra = max(0, PROBE - probe.labelled)
    images = torch.cat([probe.pool.images[: probe.labelled], few.pool.images[few.labelled : few.labelled + extra]])
    outputs: list[Outputs | None] = []
    problems = []
    for source in sources:
        try:
            seen = look(source, images)
        except UserError as error:
            outputs.append(None)
            problems.append(error.what)
            continue
        outputs.append(seen)
        problems.append(seen.problem())
    drawer = Drawer(tuple(sources), tuple(outputs), tuple(problems), tuple(unusable), probe)
    if not drawer.usable:
        raise UserError(f"no source can be used ({sources[0].name}: {problems[0]})", "give other models")
    return drawer


def on_labels(drawer: Drawer) -> list[Outputs | None]:
    """The sources' outputs on the labelled images of the probe."""
    n = drawer.probe.labelled
    return [o and Outputs(o.features[:n], o.log_probabilities[:n]) for o in drawer.outputs]


def score_drawer(drawer: Drawer, config: Config, reference: np.ndarray | None = None) -> list[Score]:
    """Every source's similarity to the labelled images.

    Raises:
        UserError: the labels allow none.
    """
    labels = drawer.probe.pool.labels[: drawer.probe.labelled].numpy()
    return score_sources(
        drawer.names,
        on_labels(drawer),
        drawer.problems,
        labels,
        config.similarity,
        seed=config.seed,
        reference=reference,
    )


def weights_of(scores: Sequence[Score], likeness: np.ndarray, config: Config) -> np.ndarray:
    """a_s of every source; all zero where none exceeds chance. Weights below 0.01 are given to the others."""
    value, chance, deviation = np.array([(score.value, score.chance, score.deviation) for score in scores]).T
    similarity = top(above_chance(value, chance, deviation, config.significance), config.top_k)
    if config.weighting == "softmax":
        weights = softmax_weights(similarity, config.softmax_temperature)
    else:
        weights = power_weights(similarity, config.power)
    weights = shared_votes(weights, likeness, config.redundancy)
    kept = np.where(weights >= LEAST_WEIGHT, weights, 0.0)
    return kept / kept.sum() if kept.any() else kept


def soft_targets(drawer: Drawer, weights: np.ndarray, pool: Tensor, config: Config) -> list[SoftTargets]:
    """Soft outputs on the whole pool of the sources that have a weight, the heaviest first.

    Raises:
        UserError: a source gives something that is not a number.
    """
    targets = []
    for i in np.argsort(-weights, kind="stable"):
        if weights[i] > 0:
            source = drawer.sources[i]
            seen = look(source, pool)
            problem = seen.problem()
            require(
                not problem,
                f"source {source.name} gives {problem} on the unlabelled images",
                f"--leave-out {source.name!r}",
            )
            logs = seen.log_probabilities
            temperature = config.temperature or temperature_for(logs, config.entropy)
            targets.append(SoftTargets(source.name, float(weights[i]), softened(logs, temperature), temperature))
    return targets


def seconds_an_image(source: Source, images: Tensor) -> float:
    """Of one pass on this machine, whether or not the cache has it."""
    some = images[:TIMED]
    started = time.monotonic()
    source.forward(fitted(some, source.shape))
    return (time.monotonic() - started) / len(some)


def nearest_of(scores: Sequence[Score], drawer: Drawer) -> int:
    """Position of the most similar usable source."""
    return next(i for i in order(scores) if i in drawer.usable)
