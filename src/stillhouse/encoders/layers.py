"""The parts of an encoder layer, whatever its model type calls them; refused where queries, keys and values cannot be read."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

from torch import nn
from transformers import PreTrainedModel

from stillhouse.core.errors import UserError
from stillhouse.encoders.models import LAYOUT


class LayerParts(NamedTuple):
    """Linear maps and norms of one post-norm layer."""

    query: nn.Linear
    key: nn.Linear
    value: nn.Linear
    attention_out: nn.Linear
    attention_norm: nn.LayerNorm
    inner: nn.Linear
    outer: nn.Linear
    outer_norm: nn.LayerNorm


def layer_parts(model: PreTrainedModel) -> list[LayerParts]:
    """Every layer of a BERT, RoBERTa, ELECTRA or MPNet type encoder, first to last.

    Raises:
        UserError: a model whose queries, keys and values cannot be told apart here.
    """
    kind, base = model.config.model_type, cast(Any, model.base_model)
    if kind in LAYOUT:
        return [
            LayerParts(
                layer.attention.self.query,
                layer.attention.self.key,
                layer.attention.self.value,
                layer.attention.output.dense,
                layer.attention.output.LayerNorm,
                layer.intermediate.dense,
                layer.output.dense,
                layer.output.LayerNorm,
            )
            for layer in base.encoder.layer
        ]
    if kind == "mpnet":
        return [
            LayerParts(
                layer.attention.attn.q,
                layer.attention.attn.k,
                layer.attention.attn.v,
                layer.attention.attn.o,
                layer.attention.LayerNorm,
                layer.intermediate.dense,
                layer.output.dense,
                layer.output.LayerNorm,
            )
            for layer in base.encoder.layer
        ]
    raise UserError(
        f"the queries, keys and values of a {kind} model cannot be read",
        f"give a teacher of type {', '.join(LAYOUT)} or mpnet",
    )
