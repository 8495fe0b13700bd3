"""Training one student by one pipeline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from stillhouse.core.run import Run
from stillhouse.core.seeding import derive_seed
from stillhouse.core.training import Fitted, Stateful, fit
from stillhouse.encoders.batches import Items, Schedule, assemble
from stillhouse.encoders.losses import ATTENTION, PREDICTION, hard_label_loss
from stillhouse.encoders.models import Shape, forward, shape_of
from stillhouse.encoders.outputs import TeacherBatch
from stillhouse.encoders.training import Best, Recipe, check, make_optimizer, set_rate
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
    pipeline, recipe = work.pipeline, work.recipe
    device = student.device
    guide = Guide(pipeline, shape_of(student.config), work.teacher_shape).to(device)
    # projections learn with the student
    learners = nn.ModuleDict({"student": student, "projections": guide.projections})
    optimizer = make_optimizer(learners, recipe.rate, recipe.weight_decay)
    critic_optimizer = torch.optim.Adam(guide.critics.parameters(), work.critic_rate) if len(guide.critics) else None
    balance, best = Balance(work.intermediate_weight), Best()
    schedule = Schedule(work.items.lengths, recipe.batch, derive_seed("student", seed))
    weights = [p for p in student.parameters() if p.requires_grad]
    alone = int(CRITICS_ALONE * recipe.updates) if pipeline.intermediate in LEARNED_CRITIC else 0

    def losses(update: int) -> tuple[Tensor, Tensor | None, bool]:
        index = schedule[update]
        batch = assemble(work.items, index, student.config.pad_token_id).to(device)
        out = forward(student, batch, attention=pipeline.intermediate in ATTENTION)
        prediction = out.logits.new_zeros(())
        if pipeline.hard_weight > 0:
            labels = torch.from_numpy(work.items.labels[index]).to(device)
            prediction = prediction + pipeline.hard_weight * hard_label_loss(out.logits, labels)
        if work.told is None:
            return prediction, None, True
        told = work.told.batch(index).to(device)
        if pipeline.hard_weight < 1:
            soft = PREDICTION[pipeline.prediction](out.logits, told.logits, work.temperature)
            prediction = prediction + (1 - pipeline.hard_weight) * soft
        if not guide.pairs:
            return prediction, None, True
        listens = update >= alone
        return prediction, guide(out, told, batch.mask, learn_student=listens), listens

    def step(update: int) -> dict[str, Tensor]:
        student.train()
        prediction, intermediate, listens = losses(update)
        total = prediction
        if intermediate is not None:
            factor = (
                balance.factor(prediction, intermediate, weights)
                if work.balanced and listens
                else work.intermediate_weight
            )
            total = prediction + factor * intermediate
        optimizer.zero_grad()
        if critic_optimizer:
            critic_optimizer.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(learners.parameters(), 1.0)
        set_rate(optimizer, recipe.rate * recipe.factor(update))
        optimizer.step()
        if critic_optimizer:
            nn.utils.clip_grad_norm_(guide.critics.parameters(), 1.0)
            critic_optimizer.step()
        told = {} if intermediate is None else {"intermediate": intermediate.detach()}
        return {"prediction": prediction.detach(), **told}

    state: dict[str, Stateful] = {
        "student": student,
        "guide": guide,
        "optimizer": optimizer,
        "balance": balance,
        "best": best,
    }
    if critic_optimizer:
        state["critics"] = critic_optimizer
    fitted = fit(
        step,
        state,
        recipe.updates,
        run,
        stage=stage,
        evaluate=check(student, work.select, work.metric, best, seen),
        evaluate_at=recipe.due(),
        seed=seed,
    )
    student.load_state_dict(best.weights)
    student.eval()
    return best, fitted
