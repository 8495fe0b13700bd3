"""Every way to get the small classifier: distilled from sources, and what that has to be better than."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from stillhouse.core.errors import require
from stillhouse.core.result import Arm, Cost, Role
from stillhouse.core.run import Run
from stillhouse.core.seeding import derive_seed, seed_everything
from stillhouse.methods.similar_tasks.config import ArmName, Config
from stillhouse.methods.similar_tasks.drawer import Drawer, nearest_of, own_tasks, seconds_an_image, soft_targets
from stillhouse.methods.similar_tasks.fixmatch import train_fixmatch
from stillhouse.methods.similar_tasks.losses import SimilarTasks
from stillhouse.methods.similar_tasks.ranking import Score, order
from stillhouse.methods.similar_tasks.weights import effective_number
from stillhouse.vision.augmentation import mirrored, shifted
from stillhouse.vision.costs import latency_seconds, macs, parameters
from stillhouse.vision.few_labels import HIDDEN, FewLabels
from stillhouse.vision.images import ImageData
from stillhouse.vision.maps import classifier_name, module_named
from stillhouse.vision.source_tasks import parse_network, union
from stillhouse.vision.sources import fitted, look, torch_source
from stillhouse.vision.spaces import load_space
from stillhouse.vision.training import Objective, Recipe, StepImages, accuracy, train_classifier

TITLES: Mapping[ArmName, str] = {
    "weighted": "DistillWeighted",
    "nearest": "DistillNearest",
    "uniform": "uniform weights",
    "random": "a random source",
    "worst": "the least similar source",
    "oracle": "the best source in hindsight",
    "scratch": "labels alone",
    "finetune": "fine-tuned from the nearest source",
    "probe": "linear probe on the nearest source",
    "broad": "fine-tuned from the broad initialisation",
    "fixmatch": "FixMatch",
    "fixmatch_broad": "FixMatch from the broad initialisation",
    "fixmatch_weighted": "FixMatch from DistillWeighted",
}


FAR_SHARE = 0.2
"""Of the unlabelled images; about a twentieth is usual."""


@dataclass(frozen=True)
class Spent:
    """What an arm was made with."""

    seconds: float = 0.0
    updates: int = 0
    images: int = 0
    """Images that the student saw in training (a forward and a backward pass each)."""
    source_images: int = 0
    """Images that sources saw (a forward pass each)."""

    def __add__(self, other: Spent) -> Spent:
        return Spent(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))


@dataclass(frozen=True, eq=False)
class Made:
    """A trained network, what it took, and a word about it."""

    network: nn.Module
    spent: Spent
    note: str = ""


class Adapted(nn.Module):
    """A network behind images of other sizes or channels than it takes."""

    def __init__(self, network: nn.Module, shape: tuple[int, int, int] | None) -> None:
        super().__init__()
        self.network, self.shape = network, shape

    def forward(self, images: Tensor) -> Tensor:
        return self.network(fitted(images, self.shape))


@dataclass(frozen=True, eq=False)
class Workshop:
    """What every arm of a run is made with; a network that two arms need is made once."""

    config: Config
    few: FewLabels
    drawer: Drawer
    scores: list[Score]
    weights: np.ndarray
    run: Run
    made: dict[str, Made] = field(default_factory=dict)

    @property
    def recipe(self) -> Recipe:
        """How every arm is trained; what differs is said where it does."""
        c = self.config
        return Recipe(c.updates, c.labelled_batch, c.learning_rate, 0.9, c.weight_decay, shift=c.shift, mirror=c.mirror)

    def student(self) -> nn.Module:
        """The small network with the initial weights that all arms share.

        Raises:
            UserError: it is to start from a source, and none has its network.
        """
        network = self.untrained()
        if self.config.initial == "broad":
            load_body(network, self.broad().network)
        if self.config.initial == "nearest":
            kin = self.nearest_kin()
            require(
                kin is not None,
                f"no source has the student's network ({self.config.student})",
                "choose --student to be one of the sources' networks, or another --initial",
            )
            load_body(network, self.drawer.sources[kin or 0].network)  # type: ignore[arg-type]
        return network

    def nearest_kin(self) -> int | None:
        """Position of the most similar source of the student's own network; None where there is none."""
        space, description = parse_network(self.config.student)
        kin = ((self.drawer.sources[i].card, i) for i in order(self.scores) if i in self.drawer.usable)
        return next(
            (i for card, i in kin if (card.get("space"), card.get("description")) == (space, description)), None
        )

    def untrained(self) -> nn.Module:
        """The small network with random weights, the same every time."""
        space, description = parse_network(self.config.student)
        seed_everything("student", self.config.seed)
        return load_space(space).build(description, self.few.shape[0], self.few.pool.classes)

    def draw(self, unlabelled: int) -> StepImages:
        """Labelled images, then any of the pool as unlabelled ones, weakly changed; from the global generator."""
        few, c = self.few, self.config
        known = torch.randint(few.labelled, (c.labelled_batch,))
        others = torch.randint(len(few.pool), (unlabelled,))
        rows = torch.cat([known, others])
        labels = torch.cat([few.pool.labels[known], torch.full_like(others, HIDDEN)])
        mirror = torch.rand(len(rows)) < (0.5 if c.mirror else 0.0)
        images = mirrored(few.pool.images[rows], mirror)
        return StepImages(shifted(images, c.shift) if c.shift else images, labels, rows, mirror)

    def once(self, stage: str, make: Callable[[], Made]) -> Made:
        """What `make` gives, remembered by the name of its stage."""
        if stage not in self.made:
            self.made[stage] = make()
        return self.made[stage]

    def distilled(self, weights: np.ndarray, stage: str) -> Made:
        """The student distilled from the sources that have a weight; from labels alone where none has."""
        used = np.flatnonzero(weights)
        if not len(used):
            return replace(self.scratch(), note="no source exceeds chance: labels alone")
        if len(used) == 1:
            stage = f"from {self.drawer.sources[used[0]].name}"
        return self.once(stage, lambda: self._distil(weights, stage))

    def _distil(self, weights: np.ndarray, stage: str) -> Made:
        targets = soft_targets(self.drawer, weights, self.few.pool.images, self.config)
        objective = SimilarTasks(
            self.student(), targets, self.config.label_share, divide_by_classes=self.config.divide_by_classes
        )
        count = self.config.unlabelled_batch
        fitted_stage = train_classifier(
            objective, self.few.pool, self.recipe, self.run, stage=slug(stage), images_of_step=lambda: self.draw(count)
        )
        used = [self.drawer.sources[i] for i in np.flatnonzero(weights > 0)]
        passes = len(self.few.pool) * len(used)
        seconds = sum(seconds_an_image(source, self.few.pool.images) for source in used) * len(self.few.pool)
        images = self.config.updates * (self.config.labelled_batch + count)
        note = (
            f"{effective_number(weights):.1f} sources in effect" if len(used) > 1 else ", ".join(s.name for s in used)
        )
        return Made(
            objective.network,
            Spent(fitted_stage.seconds + seconds, self.config.updates, images, passes),
            note,
        )

    def one_source(self, index: int) -> Made:
        """The student distilled from one source."""
        weights = np.zeros(len(self.drawer.sources))
        weights[index] = 1.0
        return self.distilled(weights, "one source")

    def scratch(self) -> Made:
        """The student trained on the labelled images alone."""
        return self.once(TITLES["scratch"], lambda: self.fine_tuned(self.student(), TITLES["scratch"], ""))

    def fine_tuned(self, network: nn.Module, stage: str, note: str, before: Spent = Spent()) -> Made:
        """A network trained on the labelled images alone."""
        objective = Objective(network)
        fitted_stage = train_classifier(
            objective, self.few.pool, self.recipe, self.run, stage=slug(stage), images_of_step=lambda: self.draw(0)
        )
        spent = Spent(fitted_stage.seconds, self.config.updates, self.config.updates * self.config.labelled_batch)
        return Made(objective.network, before + spent, note)

    def broad(self) -> Made:
        """The student's network trained on the images of all source tasks together."""
        return self.once("broad initialisation", self._broad)

    def _broad(self) -> Made:
        c = self.config
        data = union(own_tasks(c, self.few), self.few.pool.size, self.few.pool.channels)
        space, description = parse_network(c.student)
        seed_everything("broad", c.seed)
        network = load_space(space).build(description, data.channels, data.classes)
        recipe = Recipe(c.broad_updates, 64, 0.1, shift=c.shift, mirror=c.mirror)
        stage = train_classifier(Objective(network), data, recipe, self.run, stage="broad-initialisation")
        return Made(network, Spent(stage.seconds, c.broad_updates, c.broad_updates * 64))

    def from_nearest(self) -> Made | None:
        """The nearest source of the student's own network as its start; else the nearest source itself; None for ONNX files."""
        kin = self.nearest_kin()
        if kin is not None:
            network = self.untrained()
            load_body(network, self.drawer.sources[kin].network)  # type: ignore[arg-type]
            return self.fine_tuned(network, "fine-tune", self.drawer.sources[kin].name)
        source = self.drawer.sources[nearest_of(self.scores, self.drawer)]
        if source.network is None:
            return None
        network = copy.deepcopy(source.network)
        seed_everything("new head", self.config.seed)
        replace_head(network, self.few.pool.classes)
        return self.fine_tuned(
            Adapted(network.requires_grad_(True), source.shape),
            "fine-tune",
            f"{source.name} itself: a network of its size",
        )

    def fixmatch(self, network: nn.Module, stage: str, before: Spent = Spent()) -> Made:
        """FixMatch on the pool from a network's weights."""
        c = self.config
        recipe = Recipe(c.updates, c.labelled_batch, c.fixmatch_learning_rate, 0.9, c.weight_decay)
        average, stage_fitted = train_fixmatch(
            network,
            self.few,
            lambda: self.draw(c.unlabelled_batch),
            recipe,
            c.fixmatch_threshold,
            self.run,
            stage=slug(stage),
        )
        images = c.updates * (c.labelled_batch + 2 * c.unlabelled_batch)
        told = self.run.records(stage=slug(stage))
        note = f"at the end {told[-1]['mask']:.0%} of the pseudo-labels counted" if told else ""
        if told and "pseudo_right" in told[-1]:
            note += f", {told[-1]['pseudo_right']:.0%} of them right"
        return Made(average, before + Spent(stage_fitted.seconds, c.updates, images), note)

    def make(self, arm: ArmName) -> Made | None:
        """The arm's network; None where there is none to be had."""
        usable = self.drawer.usable
        match arm:
            case "weighted":
                return self.distilled(self.weights, TITLES[arm])
            case "nearest":
                if not self.weights.any():  # no source exceeds chance
                    return self.distilled(self.weights, TITLES["weighted"])
                return self.one_source(nearest_of(self.scores, self.drawer))
            case "uniform":
                uniform = np.zeros(len(self.drawer.sources))
                uniform[usable] = 1 / len(usable)
                return self.distilled(uniform, TITLES[arm])
            case "random":
                return self.one_source(usable[derive_seed("random source", self.config.seed) % len(usable)])
            case "worst":
                return self.one_source([i for i in order(self.scores) if i in usable][-1])
            case "oracle":
                each = {i: accuracy(self.one_source(i).network, self.few.report) for i in usable}
                best = self.one_source(max(each, key=lambda i: each[i]))
                spent = sum((self.one_source(i).spent for i in usable), Spent())
                return Made(best.network, spent, f"{best.note}; chosen on the report split")
            case "scratch":
                return self.scratch()
            case "finetune":
                return self.from_nearest()
            case "broad":
                network = self.untrained()
                load_body(network, self.broad().network)
                return self.fine_tuned(network, "fine-tune broad", "", self.broad().spent)
            case "fixmatch":
                return self.fixmatch(self.student(), TITLES[arm])
            case "fixmatch_broad":
                network = self.untrained()
                load_body(network, self.broad().network)
                return self.fixmatch(network, TITLES[arm], self.broad().spent)
            case "fixmatch_weighted":
                start = self.distilled(self.weights, TITLES["weighted"])
                return self.fixmatch(copy.deepcopy(start.network), TITLES[arm], start.spent)
            case "probe":
                return None

    def reference_features(self, images: Tensor) -> np.ndarray:
        """Features of the network that learned from the labels alone: what RSA compares with."""
        features = torch_source("scratch", self.scratch().network, None).forward(images)[0]
        return features.double().numpy()

    def far_share(self) -> str:
        """A sentence on unlabelled images that look like no labelled one to the nearest source, where there are many."""
        output = self.drawer.outputs[nearest_of(self.scores, self.drawer)]
        n = self.drawer.probe.labelled
        if output is None or len(output.features) <= n:
            return ""
        unit = nn.functional.normalize(output.features - output.features[:n].mean(0), dim=1)
        near = (unit @ unit[:n].T).fill_diagonal_(-1).amax(1)  # the first n are the labelled ones themselves
        usual = near[:n].quantile(0.05)
        share = float((near[n:] < usual).float().mean())
        if share < FAR_SHARE:
            return ""
        return (
            f"{share:.0%} of the unlabelled images are farther from every labelled one than 95 % of the labelled ones are from each "
            "other (in the nearest source's features): some may be of another domain."
        )

    def linear_probe(self) -> Arm:
        """Logistic regression on the nearest source's features: what the source itself makes of the labels."""
        i = nearest_of(self.scores, self.drawer)
        source, few = self.drawer.sources[i], self.few
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
        model.fit(look(source, few.shown.images).features.numpy(), few.shown.labels.numpy())
        metrics = {}
        for name, data in judged(few).items():
            guesses = model.predict(look(source, data.images).features.numpy())
            metrics[name] = float((guesses == data.labels.numpy()).mean())
        latency = {"batch 64": seconds_an_image(source, few.pool.images)}
        cost = Cost(parameters=source.parameters, latency_seconds=latency)
        return Arm(TITLES["probe"], "teacher", metrics, cost, self.config.seed, source.name)

    def arm(self, name: ArmName, made: Made, role: Role) -> Arm:
        """The arm as the report shows it."""
        metrics = {key: accuracy(made.network, data) for key, data in judged(self.few).items()}
        shape = self.few.shape
        cost = Cost(
            parameters(made.network),
            latency_seconds={
                "batch 64": latency_seconds(made.network, shape, 64),
                "batch 1": latency_seconds(made.network, shape),
            },
            training_seconds=made.spent.seconds,
            updates={"student": made.spent.updates},
        )
        million = f"{macs(made.network, shape) / 1e6:.2f} million MACs"
        return Arm(TITLES[name], role, metrics, cost, self.config.seed, "; ".join(filter(None, [made.note, million])))


def judged(few: FewLabels) -> dict[str, ImageData]:
    """Splits to be right on, by the key of their metric."""
    return {"accuracy": few.report} | ({"accuracy_select": few.select} if few.select is not None else {})


def slug(stage: str) -> str:
    """A stage's name as a folder's."""
    return re.sub(r"[^\w.=-]+", "-", stage)


def load_body(network: nn.Module, other: nn.Module) -> None:
    """Everything but the last linear layer of a network of the same make."""
    last = classifier_name(network)
    weights = {key: value for key, value in other.state_dict().items() if not key.startswith(f"{last}.")}
    own = {key: value for key, value in network.state_dict().items() if key.startswith(f"{last}.")}
    network.load_state_dict({**weights, **own})


def replace_head(network: nn.Module, classes: int) -> None:
    """A new last linear layer."""
    name = classifier_name(network)
    parent, _, child = name.rpartition(".")
    width = module_named(network, name).in_features
    setattr(network.get_submodule(parent), child, nn.Linear(int(width), classes))  # type: ignore[arg-type]
