"""Training classifiers on texts: rates, the best update on the select split, scores, latency."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.metrics import f1_score, matthews_corrcoef
from torch import Tensor, nn
from transformers import PreTrainedModel

from stillhouse.core.run import Run
from stillhouse.core.seeding import derive_seed
from stillhouse.core.training import Fitted, fit
from stillhouse.encoders.batches import Items, Schedule, assemble, ordered_batches
from stillhouse.encoders.losses import hard_label_loss
from stillhouse.encoders.models import forward


@dataclass(frozen=True)
class Recipe:
    """How a classifier is trained."""

    updates: int
    batch: int
    rate: float
    weight_decay: float = 0.01
    warmup: float = 0.1
    """Share of the updates in which the rate rises; then it falls to 0 in a straight line."""
    checks: int = 8
    """Scores on the select split along training; the best update's weights are kept."""

    def due(self) -> frozenset[int]:
        """After which updates to look at the select split; always after the last."""
        return frozenset(max(1, round(self.updates * (i + 1) / self.checks)) for i in range(self.checks))

    def factor(self, update: int) -> float:
        """The rate's share at an update."""
        rising = max(1.0, self.warmup * self.updates)
        return min((update + 1) / rising, (self.updates - update) / max(1.0, self.updates - rising))


class Best:
    """The weights that score best on the select split; part of the checkpoint."""

    def __init__(self) -> None:
        self.score, self.update = -np.inf, 0
        self.weights: dict[str, Tensor] = {}

    def see(self, update: int, score: float, model: nn.Module) -> None:
        """Take in a score; the earlier of equals stays."""
        if score > self.score:
            self.score, self.update = score, update
            self.weights = {name: value.detach().clone() for name, value in model.state_dict().items()}

    def state_dict(self) -> dict[str, Any]:
        return {"score": float(self.score), "update": self.update, "weights": self.weights}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self.score, self.update = state_dict["score"], state_dict["update"]
        self.weights = dict(state_dict["weights"])


def make_optimizer(model: nn.Module, rate: float, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW; no decay on biases and layer norms."""
    matrices = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    vectors = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=rate)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """One learning rate for all groups, times a group's own "factor"."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("factor", 1.0)


def descend(loss: Tensor, network: nn.Module, optimizer: torch.optim.Optimizer, rate: float) -> None:
    """One step of the optimizer at this learning rate, with the gradient of `loss` cut to norm 1 over the network's weights."""
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    set_rate(optimizer, rate)
    optimizer.step()


def score(metric: str, labels: np.ndarray, predicted: np.ndarray) -> float:
    """accuracy, macro_f1 or mcc of predicted classes."""
    if metric == "mcc":
        return float(matthews_corrcoef(labels, predicted))
    if metric == "macro_f1":
        return float(f1_score(labels, predicted, average="macro", zero_division=0))
    return float((labels == predicted).mean())


@torch.no_grad()
def predict(model: PreTrainedModel, items: Items, batch: int = 64) -> np.ndarray:
    """[items, classes] logits."""
    was_training = model.training
    model.eval()
    logits = np.zeros((len(items), int(model.config.num_labels or 0)), np.float32)
    for index in ordered_batches(items.lengths, batch):
        logits[index] = forward(model, assemble(items, index, model.config.pad_token_id)).logits.cpu().numpy()
    model.train(was_training)
    return logits


def score_model(model: PreTrainedModel, items: Items, metric: str) -> float:
    """The model's score on labelled items."""
    return score(metric, items.labels, predict(model, items).argmax(1))


def finetune(
    model: PreTrainedModel,
    train: Items,
    select: Items,
    recipe: Recipe,
    metric: str,
    run: Run,
    stage: str,
    seed: int,
) -> tuple[Best, Fitted]:
    """Train on hard labels; the model ends with the weights that were best on the select split."""
    optimizer = make_optimizer(model, recipe.rate, recipe.weight_decay)
    schedule = Schedule(train.lengths, recipe.batch, derive_seed(stage, seed))
    best = Best()

    def step(update: int) -> dict[str, Tensor]:
        model.train()
        index = schedule[update]
        out = forward(model, assemble(train, index, model.config.pad_token_id))
        loss = hard_label_loss(out.logits, torch.from_numpy(train.labels[index]).to(out.logits.device))
        descend(loss, model, optimizer, recipe.rate * recipe.factor(update))
        return {stage: loss.detach()}

    fitted = fit(
        step,
        {"model": model, "optimizer": optimizer, "best": best},
        recipe.updates,
        run,
        stage=stage,
        evaluate=check(model, select, metric, best),
        evaluate_at=recipe.due(),
        seed=seed,
    )
    model.load_state_dict(best.weights)
    model.eval()
    return best, fitted


def check(
    model: PreTrainedModel,
    select: Items,
    metric: str,
    best: Best,
    seen: Callable[[int, float], None] | None = None,
) -> Callable[[int, float], None]:
    """What `fit` calls to keep the best weights; `seen` is told the update and the score."""

    def evaluate(update: int, _seconds: float) -> None:
        found = score_model(model, select, metric)
        best.see(update, found, model)
        if seen:
            seen(update, found)

    return evaluate


def latencies(model: PreTrainedModel, items: Items, texts: int = 256) -> dict[str, float]:
    """Seconds a text at batch 1 and batch 64 on the first of these items; the best of three passes."""
    model.eval()
    found = {}
    for batch, most in ((1, min(64, texts)), (64, texts)):
        index = np.arange(min(most, len(items)))
        parts = [assemble(items, index[i : i + batch], model.config.pad_token_id) for i in range(0, len(index), batch)]
        taken = []
        with torch.no_grad():
            for _ in range(3):
                started = time.perf_counter()
                for part in parts:
                    forward(model, part).logits.cpu()  # waits for the device
                taken.append((time.perf_counter() - started) / len(index))
        found[f"batch {batch}"] = min(taken)
    return found
