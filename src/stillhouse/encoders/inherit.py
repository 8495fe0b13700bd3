"""A student's first weights, taken from its teacher: chosen layers, strongest neurons, factorised words."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from stillhouse.core.errors import require
from stillhouse.encoders.models import encoder_layers, shape_of


@torch.no_grad()
def inherit(student: PreTrainedModel, teacher: PreTrainedModel, teacher_ids: np.ndarray, layers: str) -> None:
    """Copy into `student` what fits of `teacher`.

    Of a layer's feed-forward neurons the strongest are kept, by the norm of their weights in and out. Word vectors are the best
    approximation of their rank (SVD).

    Args:
        student: made by `new_student`, of the teacher's width.
        teacher: of BERT's layout.
        teacher_ids: [student pieces] the teacher's id of each of the student's.
        layers: "first" takes the teacher's first layers, whose inputs stay what they were; "spread" takes int(j T / S)
            for layer j, whose output it is to imitate under the skip mapping.

    Raises:
        UserError: the widths or heads differ, or the teacher has another layout.
    """
    ours, theirs = shape_of(student.config), shape_of(teacher.config)
    require(
        ours.width == theirs.width,
        f"a student of width {ours.width} cannot take over layers of width {theirs.width}",
        "use --init random, or leave --width out",
    )
    require(
        ours.heads == theirs.heads,
        f"a student of {ours.heads} heads cannot take over layers of {theirs.heads}",
        f"use --heads {theirs.heads}, or --init random",
    )
    sources = encoder_layers(teacher)
    for j, layer in enumerate(encoder_layers(student), start=1):
        _copy_layer(layer, sources[(j if layers == "first" else (j * theirs.layers) // ours.layers) - 1])
    _copy_embeddings(student, teacher, torch.from_numpy(teacher_ids))


def _copy_layer(into: Any, source: Any) -> None:
    attention, theirs = into.attention, source.attention
    attention.load_state_dict(theirs.state_dict())
    w_in, w_out = source.intermediate.dense, source.output.dense
    strength = w_in.weight.norm(dim=1) * w_out.weight.norm(dim=0)
    kept = strength.topk(into.intermediate.dense.out_features).indices.sort().values
    into.intermediate.dense.weight.copy_(w_in.weight[kept])
    into.intermediate.dense.bias.copy_(w_in.bias[kept])
    into.output.dense.weight.copy_(w_out.weight[:, kept])
    into.output.dense.bias.copy_(w_out.bias)
    into.output.LayerNorm.load_state_dict(source.output.LayerNorm.state_dict())


def _copy_embeddings(student: Any, teacher: Any, teacher_ids: Tensor) -> None:
    ours, theirs = student.base_model.embeddings, teacher.base_model.embeddings
    words = theirs.word_embeddings.weight[teacher_ids]
    positions = theirs.position_embeddings.weight[_offset(teacher) :][: ours.position_embeddings.num_embeddings]
    types = theirs.token_type_embeddings.weight
    rank, width = ours.word_embeddings.embedding_dim, words.shape[1]
    projection = getattr(student.base_model, "embeddings_project", None)
    if projection is None:
        basis, scale = torch.eye(width), 1.0
        ours.LayerNorm.load_state_dict(theirs.LayerNorm.state_dict())
    else:
        # the principal directions of the vectors whose mean over a row the layer norm takes out anyway
        centred = words - words.mean(dim=1, keepdim=True)
        basis = torch.linalg.svd(centred.double(), full_matrices=False).Vh[:rank].T.to(words.dtype)
        scale = (width / rank) ** 0.5
        gain, shift = theirs.LayerNorm.weight, theirs.LayerNorm.bias
        projection.weight.copy_(gain[:, None] * basis * scale)
        projection.bias.copy_(shift)
        ours.LayerNorm.weight.fill_(1.0)
        ours.LayerNorm.bias.zero_()
    ours.word_embeddings.weight.copy_(words @ basis)
    ours.position_embeddings.weight[: len(positions)].copy_(positions @ basis)
    ours.token_type_embeddings.weight[: len(types)].copy_((types @ basis)[: ours.token_type_embeddings.num_embeddings])


def _offset(teacher: Any) -> int:
    """Where the teacher's positions begin."""
    return int(teacher.config.pad_token_id) + 1 if "roberta" in teacher.config.model_type else 0
