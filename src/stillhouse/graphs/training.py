"""Training graph classifiers, the same way for every arm, and measuring them on untouched real graphs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn import functional

from stillhouse.core.seeding import seed_everything
from stillhouse.graphs.material import Material, NodeGraph
from stillhouse.graphs.networks import GraphClassifier, find_network


@dataclass(frozen=True)
class Recipe:
    """How every arm's network is made and trained."""

    network: str = "gin"
    layers: int = 2
    width: int = 64
    dropout: float = 0.0
    updates: int = 400
    learning_rates: tuple[float, ...] = (3e-3, 1e-2)
    """Every arm is trained at each of them; the one that is best on the select split counts."""
    weight_decay: float = 0.0
    checks: int = 16
    """Evaluations along training; the best one on the select split is reported beside the last."""

    def due(self) -> frozenset[int]:
        """After which updates to evaluate; always after the last."""
        return frozenset(max(1, round(self.updates * (i + 1) / self.checks)) for i in range(self.checks))


@dataclass(frozen=True)
class Exam:
    """Real graphs to be classified: `counts` says which nodes are pooled."""

    graph: NodeGraph
    counts: Tensor
    classes: np.ndarray


@dataclass(frozen=True)
class Score:
    """AUC on the report split: at the update that is best on the select split, and at the last one."""

    select: float
    report: float
    last: float
    best_update: int
    seconds: float = 0.0


def make_classifier(recipe: Recipe, graph: NodeGraph, classes: int) -> GraphClassifier:
    """A fresh network for this kind of graph; its weights come from the global generator."""
    encoder = find_network(recipe.network)(graph.x.shape[1], graph.edge_attr.shape[1], recipe.width, recipe.layers)
    return GraphClassifier(encoder, recipe.width, classes, recipe.dropout)


def make_optimizer(model: GraphClassifier, recipe: Recipe, learning_rate: float) -> torch.optim.Optimizer:
    """Adam with decoupled weight decay."""
    return torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=recipe.weight_decay)


def update_classifier(
    model: GraphClassifier, optimizer: torch.optim.Optimizer, material: Material, update: int, seed: int
) -> Tensor:
    """One update on a drawn batch; the loss, cross entropy against classes or shares."""
    counts, targets = material.draw(update, seed)
    loss = functional.cross_entropy(model(material.graph, counts), targets)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.detach()


@torch.no_grad()
def probabilities(model: GraphClassifier, graph: NodeGraph, counts: Tensor) -> np.ndarray:
    """[graphs, classes], dropout off."""
    was_training = model.training
    model.eval()
    shares = model(graph, counts).softmax(1)
    model.train(was_training)
    return shares.numpy()


def auc(classes: np.ndarray, shares: np.ndarray) -> float:
    """Area under the ROC curve; with more than two classes the mean of each class against the rest.

    Args:
        classes: [graphs].
        shares: [graphs, classes]; only their order within a column matters.
    """
    if shares.shape[1] == 2:
        return float(roc_auc_score(classes, shares[:, 1]))
    present = [c for c in range(shares.shape[1]) if 0 < (classes == c).sum() < len(classes)]
    return float(np.mean([roc_auc_score(classes == c, shares[:, c]) for c in present]))


def exam_auc(model: GraphClassifier, exam: Exam) -> float:
    """AUC of a network on an exam."""
    return auc(exam.classes, probabilities(model, exam.graph, exam.counts))


def train_and_score(material: Material, recipe: Recipe, select: Exam, report: Exam, classes: int, seed: int) -> Score:
    """Train a fresh network and score it along the way."""
    return train_classifier(material, recipe, select, report, classes, seed)[0]


def train_classifier(
    material: Material, recipe: Recipe, select: Exam, report: Exam, classes: int, seed: int
) -> tuple[Score, GraphClassifier]:
    """As `train_and_score`, and the network after its last update; of the learning rates the best on select."""

    def at(learning_rate: float) -> tuple[Score, GraphClassifier]:
        seed_everything("classifier", seed)
        model = make_classifier(recipe, material.graph, classes)
        optimizer = make_optimizer(model, recipe, learning_rate)

        def step(update: int) -> Tensor:
            return update_classifier(model, optimizer, material, update, seed)

        return score_along(model, recipe.updates, recipe.due(), step, select, report), model

    return max((at(rate) for rate in recipe.learning_rates), key=lambda scored: scored[0].select)


def score_along(
    model: GraphClassifier, updates: int, due: frozenset[int], step: Callable[[int], object], select: Exam, report: Exam
) -> Score:
    """Take `updates` steps, examine after those in `due`; best on select (the earlier wins a tie), and last."""
    best = Score(-1.0, 0.5, 0.5, 0)
    for done in range(1, updates + 1):
        step(done - 1)
        if done in due:
            chosen, reported = exam_auc(model, select), exam_auc(model, report)
            better = chosen > best.select
            best = Score(chosen, reported, reported, done) if better else replace(best, last=reported)
    return best


def untrained(
    recipe: Recipe, graph: NodeGraph, select: Exam, report: Exam, classes: int, seed: int, inits: int = 10
) -> Score:
    """The control that every trained row must clear: the best of some untrained networks, chosen on select."""
    scores = []
    for init in range(inits):
        seed_everything("untrained", seed, init)
        model = make_classifier(recipe, graph, classes)
        scores.append(Score(exam_auc(model, select), exam_auc(model, report), 0.0, 0))
    best = max(scores, key=lambda score: score.select)
    return replace(best, last=best.report)
