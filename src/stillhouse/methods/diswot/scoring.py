"""Scores of a network: every requested part, over several draws of weights and images, with its spread.

A draw is a batch, random weights of the student from the draw's seed, and the teacher as the draw shows it. All networks of
a search are scored on the same draws, so differences between them are not those of the batch.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

from stillhouse.core.errors import require
from stillhouse.core.seeding import generator
from stillhouse.methods.diswot import kd_proxies, proxies, scores
from stillhouse.methods.diswot.initialise import Scheme, initialise
from stillhouse.vision.classes import Batch
from stillhouse.vision.costs import macs, parameters
from stillhouse.vision.maps import classifier_name, last_map_name, module_named, stage_map_names, watched

if TYPE_CHECKING:
    from jaxtyping import Float

TeacherState = Literal["random", "trained", "permuted", "noise"]
"""random: drawn anew like the students (published); trained: as it is; permuted, noise: controls without information."""


@dataclass(frozen=True)
class Places:
    """Names of the modules that scores look at."""

    last: str
    """Its output is the last map before pooling."""
    stages: tuple[str, ...]
    """Their outputs are the last maps at each size."""
    head: str
    """The linear layer that gives the class scores."""


def places_in(network: nn.Module, shape: tuple[int, int, int], last: str = "") -> Places:
    """Where to look in a network; `last` is found if it is not named.

    Raises:
        UserError: the network has no maps or no linear classifier, or no module of that name.
    """
    head = classifier_name(network)
    return Places(last or last_map_name(network, shape), tuple(stage_map_names(network, shape)), head)


@dataclass(eq=False)
class Sight:
    """A network and what a forward pass on a batch showed; further passes are made when they are asked for."""

    network: nn.Module
    batch: Batch
    places: Places
    maps: Float[Tensor, "B C h w"]
    stage_maps: tuple[Tensor, ...]
    logits: Float[Tensor, "B K"]
    codes: list[Tensor]
    loss: Tensor

    @property
    def features(self) -> Float[Tensor, "B C"]:
        """The averaged map."""
        return self.maps.mean((2, 3))

    @property
    def head(self) -> nn.Linear:
        """The classifier."""
        return cast(nn.Linear, module_named(self.network, self.places.head))

    @property
    def head_weight(self) -> Float[Tensor, "K C"]:
        """Weights of the classifier."""
        return self.head.weight.detach()

    @cached_property
    def head_gradient(self) -> Float[Tensor, "K C"]:
        """Gradient of the cross-entropy at the classifier's weights."""
        _ = self.differentiated
        gradient = self.head.weight.grad
        return torch.zeros_like(self.head_weight) if gradient is None else gradient.detach().clone()

    @cached_property
    def differentiated(self) -> nn.Module:
        """The network with the gradients of the cross-entropy in its weights."""
        self.network.zero_grad(set_to_none=True)
        self.loss.backward()
        return self.network

    @cached_property
    def synflow(self) -> tuple[float, int]:
        """(log SynFlow, live MACs)."""
        return proxies.synflow(self.network, self.batch)

    @property
    def dead(self) -> bool:
        """Whether the maps say nothing about the images: the same for all of them, or not finite."""
        same = (self.maps - self.maps[:1]).abs().max()
        return not bool(torch.isfinite(self.maps).all()) or float(same) == 0.0


def look(network: nn.Module, batch: Batch, places: Places, *, training: bool = True) -> Sight:
    """One forward pass.

    Args:
        network: put into training or evaluation mode.
        batch: images and classes.
        places: modules to look at, see `places_in`.
        training: normalise by the batch (random weights) or by what was learned (trained ones).

    Raises:
        UserError: a named module is missing or gives no maps.
    """
    network.train(training)
    with watched(network, [places.last, *places.stages]) as seen, proxies.rectifier_inputs(network) as codes:
        logits = network(batch.images)
    maps = seen[places.last].detach()
    require(
        maps.ndim == 4,
        f"module {places.last!r} gives a tensor of shape {tuple(maps.shape)}, not maps",
        "name a convolutional one",
    )
    stage_maps = tuple(seen[stage].detach() for stage in places.stages)
    loss = nn.functional.cross_entropy(logits, batch.labels)
    return Sight(network, batch, places, maps, stage_maps, logits.detach(), codes, loss)


Score = Callable[[Sight, Sight], float]
"""score(teacher, student); the latter's network may be looked at again."""

SIMILARITIES: Mapping[str, Score] = {
    "relation": lambda t, s: scores.relation(t.maps, s.maps),
    "channel_relation": lambda t, s: scores.channel_relation(t.maps, s.maps),
    "semantic": lambda t, s: scores.semantic(t.head_gradient, s.head_gradient),
    "semantic_exact": lambda t, s: scores.semantic(t.head_gradient, s.head_gradient, 0.0),
    "diswot": lambda t, s: scores.diswot(t.maps, s.maps, t.head_gradient, s.head_gradient),
    "class_gram": lambda t, s: scores.class_gram(t.head_gradient, s.head_gradient),
    "cam_relation": lambda t, s: scores.cam_relation(t.maps, s.maps, t.head_weight, s.head_weight, s.batch.labels),
    "teacher_regression": lambda t, s: scores.teacher_regression(s.features, t.logits),
    "logit_alignment": lambda t, s: scores.logit_alignment(s.features, t.logits),
}
KD_PROXIES: Mapping[str, Score] = {
    "kd": lambda t, s: kd_proxies.kd(t.logits, s.logits),
    "rkd": lambda t, s: kd_proxies.rkd(t.features, s.features),
    "cc": lambda t, s: kd_proxies.cc(t.features, s.features),
    "attention": lambda t, s: kd_proxies.attention(t.stage_maps, s.stage_maps),
    "nst": lambda t, s: kd_proxies.nst(t.maps, s.maps),
    "pkt": lambda t, s: kd_proxies.pkt(t.features, s.features),
}
STUDENT_ONLY: Mapping[str, Score] = {
    "sample_uniformity": lambda _, s: scores.sample_uniformity(s.maps),
    "channel_uniformity": lambda _, s: scores.channel_uniformity(s.maps),
    "vanished": lambda _, s: scores.vanished(s.head_gradient),
    "parameters": lambda _, s: float(parameters(s.network)),
    "macs": lambda _, s: float(macs(s.network, s.batch.shape)),
    "live_macs": lambda _, s: float(s.synflow[1]),
    "nwot": lambda _, s: proxies.nwot(s.codes),
    "synflow": lambda _, s: s.synflow[0],
    "grad_norm": lambda _, s: proxies.grad_norm(s.differentiated),
    "snip": lambda _, s: proxies.snip(s.differentiated),
    "fisher": lambda _, s: proxies.fisher(s.network, s.batch),
    "grasp": lambda _, s: proxies.grasp(s.network, s.batch),
    "jacob_cov": lambda _, s: proxies.jacob_cov(s.network, s.batch),
    "zen": lambda _, s: proxies.zen(s.network, s.batch, s.places.last),
}
SCORES: Mapping[str, Score] = {**SIMILARITIES, **KD_PROXIES, **STUDENT_ONLY}
"""Every score by its name; larger is better for all of them."""
COSTS = ("parameters", "macs", "live_macs")
"""Defined for a network that is not connected too."""


@dataclass(frozen=True)
class Setting:
    """How scores are taken."""

    names: tuple[str, ...]
    """Of `SCORES`."""
    draws: int = 2
    """Draws of weights and images."""
    scheme: Scheme = "kaiming"
    head_deviation: float | None = None
    teacher: TeacherState = "random"
    student_map: str = ""
    teacher_map: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        unknown = [name for name in self.names if name not in SCORES]
        require(not unknown, f"no score {unknown[0] if unknown else ''!r}", f"choose of {', '.join(SCORES)}")
        require(self.draws >= 1 and bool(self.names), "no score or no draw is asked for", "give one or more")


@dataclass(frozen=True, eq=False)
class Judge:
    """The draws that every network is scored on."""

    setting: Setting
    batches: tuple[Batch, ...]
    teachers: tuple[Sight, ...]

    def score(self, network: nn.Module) -> dict[str, tuple[float, ...]]:
        """A value for each draw of each named score; -inf where the network's maps are dead. The network is drawn anew.

        Raises:
            UserError: it has no maps or no classifier, or a score does not fit it.
        """
        found: dict[str, list[float]] = {name: [] for name in self.setting.names}
        places = places_in(network, self.batches[0].shape, self.setting.student_map)
        for draw, (batch, teacher) in enumerate(zip(self.batches, self.teachers, strict=True)):
            initialise(
                network, self.setting.scheme, generator(self.setting.seed, "student", draw), self.setting.head_deviation
            )
            student = look(network, batch, places)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(draw)  # what a proxy draws is the same for all networks
                for name, values in found.items():
                    values.append(value_of(name, teacher, student))
        return {name: tuple(values) for name, values in found.items()}


def value_of(name: str, teacher: Sight, student: Sight) -> float:
    """A named score; -inf where the student's maps are dead or the score is not finite."""
    if student.dead and name not in COSTS:
        return -math.inf
    value = SCORES[name](teacher, student)
    return value if math.isfinite(value) else -math.inf


def make_judge(setting: Setting, batches: Sequence[Batch], teacher: nn.Module) -> Judge:
    """Show the teacher every draw's batch.

    Raises:
        UserError: the teacher does not fit the batches, or a named module is missing.
    """
    require(len(batches) == setting.draws, f"{len(batches)} batches for {setting.draws} draws", "give one a draw")
    sights = [_teacher_sight(setting, teacher, batch, draw) for draw, batch in enumerate(batches)]
    return Judge(setting, tuple(batches), tuple(sights))


def _teacher_sight(setting: Setting, teacher: nn.Module, batch: Batch, draw: int) -> Sight:
    shown = copy.deepcopy(teacher)
    rng = generator(setting.seed, "teacher", draw)
    if setting.teacher != "trained":
        initialise(shown, setting.scheme, rng, setting.head_deviation)
    places = places_in(shown, batch.shape, setting.teacher_map)
    sight = look(shown, batch, places, training=setting.teacher != "trained")
    return without_information(sight, setting.teacher, rng) if setting.teacher in ("permuted", "noise") else sight


def without_information(sight: Sight, control: TeacherState, rng: torch.Generator) -> Sight:
    """A teacher that says nothing of these images: permuted keeps its statistics, noise not even those."""
    shown = copy.copy(sight)
    if control == "permuted":
        samples = torch.randperm(len(sight.maps), generator=rng)
        shown.maps = sight.maps[samples][:, torch.randperm(sight.maps.shape[1], generator=rng)]
        shown.stage_maps = tuple(m[samples] for m in sight.stage_maps)
        shown.logits = sight.logits[samples]
        classes, columns = (torch.randperm(size, generator=rng) for size in sight.head_gradient.shape)
        shown.head_gradient = sight.head_gradient[classes][:, columns]
    else:
        shown.maps = torch.randn(sight.maps.shape, generator=rng).relu()
        shown.stage_maps = tuple(torch.randn(m.shape, generator=rng).relu() for m in sight.stage_maps)
        shown.logits = torch.randn(sight.logits.shape, generator=rng)
        shown.head_gradient = torch.randn(sight.head_weight.shape, generator=rng)
    return shown


def mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean over the draws and their standard deviation (0 for one draw); -inf if any draw is."""
    if not all(map(math.isfinite, values)):
        return -math.inf, 0.0
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def seconds_a_score(judge: Judge, network: nn.Module, repeats: int = 3) -> float:
    """Processor seconds that one network takes for one draw, the fastest of a few."""
    best = math.inf
    for _ in range(repeats):
        started = time.process_time()
        judge.score(network)
        best = min(best, time.process_time() - started)
    return best / judge.setting.draws
