"""The intermediate objective: sum over mapped pairs of layers m_ij l(H_T^i, H_S^j), with what it learns beside the student."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from stillhouse.core.errors import UserError, require
from stillhouse.encoders.losses import ATTENTION, FIRST_TOKEN, HIDDEN
from stillhouse.encoders.mapping import attention_pairs, hidden_pairs, reweighted, transport, uniform
from stillhouse.encoders.models import Outputs, Shape
from stillhouse.encoders.mutual_information import (
    SeparableCritic,
    infonce_bound,
    interpolated_bound,
    nwj_bound,
    tuba_bound,
)
from stillhouse.encoders.outputs import TeacherBatch, Wanted
from stillhouse.methods.distiller.config import LEARNED_CRITIC, Pipeline

EMD_TEMPERATURE = 20.0
"""Of BERT-EMD's cost attention."""
EMD_MEMORY = 0.9
"""The layers' weights are averages over updates: those of one batch jump."""


def pairs_of(pipeline: Pipeline, student: Shape, teacher: Shape) -> tuple[tuple[int, int], ...]:
    """(student layer, teacher layer) pairs that the pipeline compares."""
    if pipeline.intermediate == "none":
        return ()
    mapped = attention_pairs if pipeline.intermediate in ATTENTION else hidden_pairs
    return mapped(pipeline.mapping, student.layers, teacher.layers)


def wanted(pipeline: Pipeline, student: Shape, teacher: Shape) -> Wanted:
    """What of the teacher's outputs the pipeline reads."""
    layers = tuple(sorted({i for _, i in pairs_of(pipeline, student, teacher)}))
    if pipeline.intermediate in ATTENTION:
        return Wanted(attention=layers)
    if pipeline.intermediate in HIDDEN:
        return Wanted(layers=layers)
    return Wanted(first_tokens=bool(layers))


class Guide(nn.Module):
    """Projections (trained with the student) and critics (trained by their own optimizer), one a mapped pair of layers.

    A critic each keeps the mapping and the critics' capacity apart, which the released code mixes up.

    Raises:
        UserError: the student is wider than the teacher, or head counts differ for a loss of equal heads.
    """

    def __init__(self, pipeline: Pipeline, student: Shape, teacher: Shape) -> None:
        super().__init__()
        require(
            student.width <= teacher.width,
            f"a student of width {student.width} is wider than its teacher of {teacher.width}",
            "give --width at most the teacher's",
        )
        if pipeline.intermediate in ("att_mse", "att_ce") and student.heads != teacher.heads:
            raise UserError(
                f"{pipeline.intermediate} compares equal heads, student and teacher have {student.heads} and {teacher.heads}",
                f"use {'att_mse_sum' if pipeline.intermediate == 'att_mse' else 'att_ce_mean'}",
            )
        self.pipeline, self.pairs = pipeline, pairs_of(pipeline, student, teacher)
        same = student.width == teacher.width or pipeline.intermediate in (*ATTENTION, *LEARNED_CRITIC)
        widths = student.width, teacher.width
        self.projections = nn.ModuleList(nn.Identity() if same else nn.Linear(*widths) for _ in self.pairs)
        critics = self.pairs if pipeline.intermediate in LEARNED_CRITIC else ()
        self.critics = nn.ModuleList(SeparableCritic(*widths) for _ in critics)
        rows, columns = (len({pair[side] for pair in self.pairs}) for side in (0, 1))
        self.student_weights: Tensor
        self.teacher_weights: Tensor
        self.register_buffer("student_weights", torch.from_numpy(uniform(max(1, rows))))
        self.register_buffer("teacher_weights", torch.from_numpy(uniform(max(1, columns))))

    def forward(self, ours: Outputs, theirs: TeacherBatch, mask: Tensor, *, learn_student: bool) -> Float[Tensor, ""]:
        """The mean over pairs (skip, last), or the cost of the cheapest flow between all layers (emd).

        Args:
            ours, theirs: outputs on one batch.
            mask: [batch, tokens] real tokens.
            learn_student: False lets only critics and projections learn.
        """
        costs = [self._pair(n, j, i, ours, theirs, mask, learn_student) for n, (j, i) in enumerate(self.pairs)]
        stacked = torch.stack(costs)
        if self.pipeline.mapping != "emd":
            return stacked.mean()
        matrix = stacked.view(len(self.student_weights), len(self.teacher_weights))
        flow = torch.from_numpy(self._flow(matrix.detach().double().numpy())).to(matrix.dtype)
        if learn_student:
            return (flow * matrix).sum()
        return stacked.mean()  # critics of pairs that no flow goes through have to learn too

    def _flow(self, costs: np.ndarray) -> np.ndarray:
        students, teachers = self.student_weights.numpy(), self.teacher_weights.numpy()
        flow = transport(costs, students, teachers)
        for axis, buffer in ((0, self.student_weights), (1, self.teacher_weights)):
            new = torch.from_numpy(reweighted(flow, costs, buffer.numpy(), axis, EMD_TEMPERATURE))
            buffer.mul_(EMD_MEMORY).add_(new, alpha=1 - EMD_MEMORY)
        return flow

    def _pair(
        self, n: int, j: int, i: int, ours: Outputs, theirs: TeacherBatch, mask: Tensor, learn_student: bool
    ) -> Tensor:
        kind = self.pipeline.intermediate
        if kind in ATTENTION:
            return ATTENTION[kind](ours.attention[j], theirs.attention[i], mask)
        states = ours.hidden[j] if learn_student else ours.hidden[j].detach()
        if kind in HIDDEN:
            return HIDDEN[kind](self.projections[n](states), theirs.hidden[i], mask)
        assert theirs.first_tokens is not None
        first, told = states[:, 0], theirs.first_tokens[:, i]
        if kind in FIRST_TOKEN:
            return FIRST_TOKEN[kind](self.projections[n](first), told)
        scores, baseline = self.critics[n](first, told)
        match kind:
            case "mi":
                return -interpolated_bound(scores, baseline, self.pipeline.alpha)
            case "tuba":
                return -tuba_bound(scores, baseline)
            case "nwj":
                return -nwj_bound(scores)
            case _:
                return -infonce_bound(scores)


class Balance:
    """The factor that gives the intermediate gradient a set size relative to the prediction gradient.

    Both gradients are measured on the student's weights at every `every`-th update; the factor is their ratio,
    smoothed. One intermediate objective is in nats, another in squared units, a third is a sum over a thousand
    features: without this, comparing them compares their units.
    """

    def __init__(self, weight: float, every: int = 10, memory: float = 0.7) -> None:
        self.weight, self.every, self.memory = weight, every, memory
        self.log_ratio: float | None = None
        self.measured = 0

    def factor(self, prediction: Tensor, intermediate: Tensor, weights: list[nn.Parameter]) -> float:
        """The factor of this update."""
        if self.measured % self.every == 0:
            sizes = [_gradient_norm(loss, weights) for loss in (prediction, intermediate)]
            ratio = float(np.log(max(sizes[0], 1e-12) / max(sizes[1], 1e-12)))
            old = ratio if self.log_ratio is None else self.log_ratio
            self.log_ratio = self.memory * old + (1 - self.memory) * ratio
        self.measured += 1
        assert self.log_ratio is not None
        return self.weight * float(np.exp(self.log_ratio))

    def state_dict(self) -> dict[str, Any]:
        return {"log_ratio": self.log_ratio, "measured": self.measured}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.log_ratio, self.measured = state_dict["log_ratio"], state_dict["measured"]


def _gradient_norm(loss: Tensor, weights: list[nn.Parameter]) -> float:
    gradients = torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True)
    return float(torch.stack([g.norm() for g in gradients if g is not None]).norm())
