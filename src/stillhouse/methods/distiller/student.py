"""Training one student by one pipeline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from stillhouse.core.run import Run
from stillhouse.core.seeding import derive_seed
from stillhouse.core.training import Fitted, Stateful, fit
from stillhouse.encoders.batches import Items, Schedule, assemble
from stillhouse.encoders.losses import ATTENTION, PREDICTION, hard_label_loss
from stillhouse.encoders.models import Outputs, Shape, forward, shape_of
from stillhouse.encoders.outputs import TeacherBatch
from stillhouse.encoders.training import Best, Recipe, check, descend, make_optimizer
from stillhouse.methods.distiller.config import LEARNED_CRITIC, Pipeline
from stillhouse.methods.distiller.guide import Balance, Guide

CRITICS_ALONE = 0.15
"""Share of the updates in which the critics learn before the student listens to them."""


class Told(Protocol):
    """Gives the teacher's outputs on items."""

    def batch(self, index: np.ndarray) -> TeacherBatch: ...


@dataclass(frozen=True)
class Distillation:
    """What a student is trained on and how."""

    pipeline: Pipeline
    items: Items
    told: Told | None
    """The teacher's outputs on `items`; None where nothing of it is read."""
    select: Items
    metric: str
    teacher_shape: Shape
    recipe: Recipe
    temperature: float
    intermediate_weight: float
    balanced: bool
    critic_rate: float


class Lesson:
    """The losses of every update: on the labels and the teacher's answers, and on the states in between."""

    def __init__(self, student: PreTrainedModel, work: Distillation, guide: Guide, seed: int) -> None:
        self.student, self.work, self.guide = student, work, guide
        self.schedule = Schedule(work.items.lengths, work.recipe.batch, derive_seed("student", seed))
        learned = work.pipeline.intermediate in LEARNED_CRITIC
        self.critics_alone_updates = int(CRITICS_ALONE * work.recipe.updates) if learned else 0

    def __call__(self, update: int) -> tuple[Float[Tensor, ""], Float[Tensor, ""] | None, bool]:
        """Prediction loss, intermediate loss where the pipeline has one, and whether the student listens to the latter yet."""
        index, work = self.schedule[update], self.work
        batch = assemble(work.items, index, self.student.config.pad_token_id).to(self.student.device)
        out = forward(self.student, batch, attention=work.pipeline.intermediate in ATTENTION)
        told = work.told.batch(index).to(self.student.device) if work.told else None
        prediction = self._prediction(out, index, told)
        if told is None or not self.guide.pairs:
            return prediction, None, True
        listens = update >= self.critics_alone_updates
        return prediction, self.guide(out, told, batch.mask, learn_student=listens), listens

    def _prediction(self, out: Outputs, index: np.ndarray, told: TeacherBatch | None) -> Float[Tensor, ""]:
        """hard CE(y, z_S) + (1 - hard) l_KD(z_T, z_S)."""
        pipeline = self.work.pipeline
        loss = out.logits.new_zeros(())
        if pipeline.hard_weight > 0:
            labels = torch.from_numpy(self.work.items.labels[index]).to(out.logits.device)
            loss = loss + pipeline.hard_weight * hard_label_loss(out.logits, labels)
        if told is not None and pipeline.hard_weight < 1:
            soft = PREDICTION[pipeline.prediction](out.logits, told.logits, self.work.temperature)
            loss = loss + (1 - pipeline.hard_weight) * soft
        return loss


def distil_student(
    student: PreTrainedModel,
    work: Distillation,
    run: Run,
    stage: str,
    seed: int,
    seen: Callable[[int, float], None] | None = None,
) -> tuple[Best, Fitted]:
    """L = hard CE(y, z_S) + (1 - hard) l_KD(z_T, z_S) + w sum m_ij l(H_T^i, H_S^j) (Distiller, equation 1).

    The student ends with the weights that scored best on the select split. Critics have an optimizer and a gradient
    clip of their own: under one clip for both their large early gradients would stop the student. `seen` is told the
    update and the score of every look at the select split.
    """
    recipe = work.recipe
    guide = Guide(work.pipeline, shape_of(student.config), work.teacher_shape).to(student.device)
    # projections learn with the student
    learners = nn.ModuleDict({"student": student, "projections": guide.projections})
    optimizer = make_optimizer(learners, recipe.rate, recipe.weight_decay)
    critic_optimizer = torch.optim.Adam(guide.critics.parameters(), work.critic_rate) if len(guide.critics) else None
    balance, best, losses = Balance(work.intermediate_weight), Best(), Lesson(student, work, guide, seed)
    weights = [p for p in student.parameters() if p.requires_grad]

    def step(update: int) -> dict[str, Tensor]:
        student.train()
        prediction, intermediate, listens = losses(update)
        total = prediction
        if intermediate is not None:
            balanced = work.balanced and listens
            factor = balance.factor(prediction, intermediate, weights) if balanced else work.intermediate_weight
            total = prediction + factor * intermediate
        if critic_optimizer:
            critic_optimizer.zero_grad()
        descend(total, learners, optimizer, recipe.rate * recipe.factor(update))
        if critic_optimizer:
            nn.utils.clip_grad_norm_(guide.critics.parameters(), 1.0)
            critic_optimizer.step()
        told = {} if intermediate is None else {"intermediate": intermediate.detach()}
        return {"prediction": prediction.detach(), **told}

    state: dict[str, Stateful] = {"student": student, "guide": guide, "optimizer": optimizer}
    state |= {"balance": balance, "best": best, **({"critics": critic_optimizer} if critic_optimizer else {})}
    looks = check(student, work.select, work.metric, best, seen)
    fitted = fit(step, state, recipe.updates, run, stage=stage, evaluate=looks, evaluate_at=recipe.due(), seed=seed)
    student.load_state_dict(best.weights)
    student.eval()
    return best, fitted
