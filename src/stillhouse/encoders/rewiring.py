"""A super-network's first weights: the top-left of its teacher's, of the feed-forward neurons the strongest first.

The order of neurons changes nothing of the whole network. Ordering the hidden coordinates by importance, too, made no
difference after the first fifty updates, so they stay as they are.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from transformers import PreTrainedModel

from stillhouse.core.errors import require
from stillhouse.encoders.elastic import ElasticBert, ElasticLayer, Extent
from stillhouse.encoders.layers import LayerParts, layer_parts


@torch.no_grad()
def inherit_from(network: ElasticBert, teacher: PreTrainedModel) -> None:
    """Copy into the super-network what it can hold of its teacher.

    The pooler stays new: behind states of another width the teacher's means nothing, and sentence encoders never trained theirs.
    The teacher's columns are divided among the finest heads in their order: with as many as the teacher has, each is one of its.

    Raises:
        UserError: the super-network is larger than the teacher.
    """
    require_room(network.extent, teacher)
    for layer, source in zip(network.layers, layer_parts(teacher), strict=True):
        _copy_layer(cast(ElasticLayer, layer), source)
    _copy_embeddings(network, teacher)


def require_room(extent: Extent, teacher: PreTrainedModel) -> None:
    """Refuse a super-network that is larger than its teacher.

    Raises:
        UserError: it is.
    """
    theirs = teacher.config
    sizes = (
        ("layers", extent.layers, theirs.num_hidden_layers),
        ("hidden", extent.hidden, theirs.hidden_size),
        ("feed-forward", extent.feed_forward, theirs.intermediate_size),
    )
    for name, ours, most in sizes:
        require(
            ours <= most,
            f"the largest architecture has {ours} {name}, the teacher {most}",
            "make the space smaller, or use --init random",
        )
    divides = theirs.hidden_size % extent.heads == 0
    require(
        divides,
        f"the teacher's width {theirs.hidden_size} is not divisible by {extent.heads} heads",
        "use other heads, or --init random",
    )


def _copy_layer(into: ElasticLayer, source: LayerParts) -> None:
    heads, h = into.extent.heads, into.extent.hidden
    columns, biases = h // heads, into.qkv_bias.view(3, heads, -1)
    for i, module in enumerate((source.query, source.key, source.value)):
        into.qkv[i].copy_(module.weight[:, :h].reshape(heads, -1, h)[:, :columns])
        biases[i].copy_(module.bias.view(heads, -1)[:, :columns])
    into.out.copy_(source.attention_out.weight[:h].reshape(h, heads, -1)[:, :, :columns])
    into.out_bias.copy_(source.attention_out.bias[:h])
    strength = source.inner.weight.norm(dim=1) * source.outer.weight.norm(dim=0)
    kept = strength.argsort(descending=True, stable=True)[: into.extent.feed_forward]
    into.inner.copy_(source.inner.weight[kept, :h])
    into.inner_bias.copy_(source.inner.bias[kept])
    into.outer.copy_(source.outer.weight[:h][:, kept])
    into.outer_bias.copy_(source.outer.bias[:h])
    for ours, bias, norm in (
        (into.attention_norm, into.attention_norm_bias, source.attention_norm),
        (into.outer_norm, into.outer_norm_bias, source.outer_norm),
    ):
        ours.copy_(norm.weight[:h])
        bias.copy_(norm.bias[:h])


def _copy_embeddings(network: ElasticBert, teacher: PreTrainedModel) -> None:
    theirs: Any = teacher.base_model.embeddings
    projection: Any = getattr(teacher.base_model, "embeddings_project", None)
    h, tables = network.extent.hidden, network.tables
    words, places = theirs.word_embeddings.weight, theirs.position_embeddings.weight
    kinds = theirs.token_type_embeddings.weight if hasattr(theirs, "token_type_embeddings") else None
    if projection is not None:  # ELECTRA's small word vectors, multiplied out; their norm comes before the projection
        words, places, kinds = (rows @ projection.weight.T for rows in (words, places, kinds))
        network.norm_bias.copy_(projection.bias[:h])
    else:
        network.norm.copy_(theirs.LayerNorm.weight[:h])
        network.norm_bias.copy_(theirs.LayerNorm.bias[:h])
    network.words.copy_(words[: tables.words, :h])
    found = places[position_offset(teacher) :][: tables.positions, :h]
    network.positions[: len(found)].copy_(found)
    if kinds is None:
        network.types.zero_()
    else:
        network.types.copy_(kinds[: tables.types, :h])


def position_offset(teacher: PreTrainedModel) -> int:
    """Where the teacher's positions begin: RoBERTa and MPNet count from behind the padding id."""
    return int(teacher.config.pad_token_id) + 1 if teacher.config.model_type not in ("bert", "electra") else 0
