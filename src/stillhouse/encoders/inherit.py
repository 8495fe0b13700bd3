"""A student's first weights, taken from its teacher: chosen layers, strongest neurons, factorised words, feed-forward parts refitted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from stillhouse.core.errors import require
from stillhouse.encoders.models import Batch, encoder_layers, shape_of


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
    for layer, source in zip(encoder_layers(student), source_layers(ours.layers, theirs.layers, layers), strict=True):
        _copy_layer(layer, sources[source])
    _copy_embeddings(student, teacher, torch.from_numpy(teacher_ids).to(teacher.device))


def source_layers(ours: int, theirs: int, layers: str) -> list[int]:
    """Which layer of a teacher each of a student's is taken from, counted from 0; `layers` as for `inherit`."""
    return [(j if layers == "first" else (j * theirs) // ours) - 1 for j in range(1, ours + 1)]


RIDGE = 1e-2
"""lambda of the refit, in mean variances of a neuron."""


@torch.no_grad()
def refit_feed_forward(
    student: PreTrainedModel, teacher: PreTrainedModel, batches: Iterable[Batch], layers: str
) -> list[float]:
    """Cut the feed-forward parts by what they do on some texts, and fit what is left to what the whole did.

    With a the activations of a teacher layer's neurons on all tokens and C their covariance, the neurons with the largest
    sqrt(C_ii) |W_i| are kept (K), and the weights behind them are the ridge solution of W a = W' a_K + b':

        W' = W C_{:K} (C_KK + lambda I)^-1,    b' = b + W mean(a) - W' mean(a_K)

    Neurons of a fine-tuned network are far from independent: a quarter of them, fitted, gives nearly all of what a layer
    adds, where the quarter with the strongest weights, as they are, gives about half.

    Args:
        student: whose layers `inherit` has filled from the same `layers`.
        teacher: of BERT's layout.
        batches: texts in the teacher's ids.
        layers: as for `inherit`.

    Returns:
        Of every student layer, the share of that variance which the fitted part does not give.
    """
    ours, theirs = shape_of(student.config), shape_of(teacher.config)
    sources = source_layers(ours.layers, theirs.layers, layers)
    moments = _activation_moments(teacher, batches, sorted(set(sources)))
    inner = encoder_layers(teacher)
    return [
        _refit(layer, inner[source], *moments[source])
        for layer, source in zip(encoder_layers(student), sources, strict=True)
    ]


def _activation_moments(teacher: Any, batches: Iterable[Batch], layers: list[int]) -> dict[int, tuple[Tensor, Tensor]]:
    """Mean and covariance of the feed-forward activations of some layers over all real tokens."""
    seen: dict[int, Tensor] = {}
    inner: Any = encoder_layers(teacher)
    handles = [
        inner[k].intermediate.register_forward_hook(lambda _m, _i, out, k=k: seen.__setitem__(k, out)) for k in layers
    ]
    count, sums, squares = 0, dict.fromkeys(layers, torch.zeros(())), dict.fromkeys(layers, torch.zeros(()))
    was_training = teacher.training
    teacher.eval()
    try:
        for batch in batches:
            placed = batch.to(teacher.device)
            types = {"token_type_ids": placed.types} if getattr(teacher.config, "type_vocab_size", 0) > 1 else {}
            teacher.base_model(input_ids=placed.first, attention_mask=placed.mask.long(), **types)
            count += int(placed.mask.sum())
            for k in layers:
                a = seen[k][placed.mask]
                sums[k] = sums[k].to(a.device) + a.sum(0).double()
                squares[k] = squares[k].to(a.device) + (a.T @ a).double()
    finally:
        teacher.train(was_training)
        for handle in handles:
            handle.remove()
    means = {k: sums[k] / count for k in layers}
    return {k: (means[k], squares[k] / count - torch.outer(means[k], means[k])) for k in layers}


def _refit(into: Any, source: Any, mean: Tensor, covariance: Tensor) -> float:
    w_in, w_out = source.intermediate.dense, source.output.dense
    weight = w_out.weight.double()
    strength = covariance.diagonal().clamp(min=0).sqrt() * weight.norm(dim=0)
    kept = strength.topk(into.intermediate.dense.out_features).indices.sort().values
    across, inside = covariance[:, kept], covariance[kept][:, kept]
    ridge = RIDGE * inside.diagonal().mean() * torch.eye(len(kept), dtype=inside.dtype, device=inside.device)
    fitted = torch.linalg.solve(inside + ridge, (weight @ across).T).T
    into.intermediate.dense.weight.copy_(w_in.weight[kept])
    into.intermediate.dense.bias.copy_(w_in.bias[kept])
    into.output.dense.weight.copy_(fitted)
    into.output.dense.bias.copy_(w_out.bias + weight @ mean - fitted @ mean[kept])
    whole = ((weight @ covariance) * weight).sum()
    missed = whole - 2 * ((fitted @ across.T) * weight).sum() + ((fitted @ inside) * fitted).sum()
    return float(missed / whole)


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
        basis, scale = torch.eye(width, device=words.device), 1.0
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
