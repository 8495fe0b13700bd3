"""A BERT whose layers, heads, hidden size and feed-forward size can be chosen at every forward pass: slices of one weight set.

A slice has the first H coordinates, the first F neurons, of the super-network's N layers those of index floor(i N / L), in whole
numbers, and the first H / M columns of each of its M finest heads, of which M / A neighbours make a head of the slice. So a
column stands for the same in every slice, whatever the number of heads. Norms are over the H coordinates that there are.
A slice is an ordinary BERT, and `to_bert` copies it into one that transformers opens.

AutoDistil's super-network (arXiv 2201.12507) drops heads and keeps each 64 columns wide whatever H is, which no `BertModel` can
express: it wants heads times columns to be H.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import BertConfig, BertModel
from transformers.activations import ACT2FN

from stillhouse.core.errors import UserError, first_line, require
from stillhouse.core.files import parse_json
from stillhouse.encoders.costs import Architecture, Tables
from stillhouse.encoders.models import Batch
from stillhouse.encoders.relations import Projections


@dataclass(frozen=True)
class Extent:
    """The largest of everything that slices may take."""

    layers: int
    heads: int
    """The finest heads M; those of a slice are made of them."""
    hidden: int
    feed_forward: int

    def require_inside(self, shape: Architecture) -> None:
        """Refuse what cannot be sliced.

        Raises:
            UserError: hidden is not divisible by the heads, they do not divide the finest, or a size is too large.
        """
        require_divisible(shape)
        require(
            self.heads % shape.heads == 0,
            f"{shape.heads} heads cannot be made of {self.heads}",
            f"use a divisor of {self.heads}",
        )
        require_divisible(Architecture(shape.layers, self.heads, shape.hidden, shape.feed_forward))
        for name in ("layers", "hidden", "feed_forward"):
            ours, most = getattr(shape, name), getattr(self, name)
            require(1 <= ours <= most, f"{shape} has {name} {ours}, the super-network {most}", f"use 1 to {most}")


def require_divisible(shape: Architecture) -> None:
    """Refuse a hidden size that is not a multiple of the heads.

    Raises:
        UserError: it is not.
    """
    divides = shape.heads > 0 and shape.hidden % shape.heads == 0
    below = shape.hidden // max(1, shape.heads) * shape.heads
    near = ", ".join(str(h) for h in (below, below + shape.heads) if h > 0)
    require(
        divides, f"hidden {shape.hidden} is not divisible by {shape.heads} heads", f"use hidden {near}, or other heads"
    )


def extent_of(shapes: Sequence[Architecture], layers: int) -> Extent:
    """The smallest super-network of this many layers that all shapes are slices of; the most heads are the finest.

    Raises:
        UserError: a number of heads does not divide the finest, or a hidden size is not a multiple of it.
    """
    extent = Extent(
        layers,
        max(s.heads for s in shapes),
        max(s.hidden for s in shapes),
        max(s.feed_forward for s in shapes),
    )
    for shape in shapes:
        extent.require_inside(shape)
    return extent


class LayerSlice(NamedTuple):
    """The weights of one layer at one architecture, in BERT's layout."""

    qkv: Tensor
    """[3 hidden, hidden]: queries, keys, values."""
    qkv_bias: Tensor
    out: Tensor
    out_bias: Tensor
    attention_norm: Tensor
    attention_norm_bias: Tensor
    inner: Tensor
    inner_bias: Tensor
    outer: Tensor
    outer_bias: Tensor
    outer_norm: Tensor
    outer_norm_bias: Tensor


class ElasticLayer(nn.Module):
    """The weights that all slices of a layer share; the finest heads lie apart, so that each keeps its own columns."""

    def __init__(self, extent: Extent) -> None:
        super().__init__()
        self.extent = extent
        heads, hidden, inner = extent.heads, extent.hidden, extent.feed_forward
        columns = hidden // heads
        self.qkv = nn.Parameter(torch.randn(3, heads, columns, hidden) * 0.02)
        self.out = nn.Parameter(torch.randn(hidden, heads, columns) * 0.02)
        self.inner = nn.Parameter(torch.randn(inner, hidden) * 0.02)
        self.outer = nn.Parameter(torch.randn(hidden, inner) * 0.02)
        # vectors, so that an optimizer that spares vectors from weight decay spares them
        self.qkv_bias = nn.Parameter(torch.zeros(3 * heads * columns))
        self.out_bias = nn.Parameter(torch.zeros(hidden))
        self.inner_bias = nn.Parameter(torch.zeros(inner))
        self.outer_bias = nn.Parameter(torch.zeros(hidden))
        self.attention_norm = nn.Parameter(torch.ones(hidden))
        self.attention_norm_bias = nn.Parameter(torch.zeros(hidden))
        self.outer_norm = nn.Parameter(torch.ones(hidden))
        self.outer_norm_bias = nn.Parameter(torch.zeros(hidden))

    def sliced(self, shape: Architecture) -> LayerSlice:
        """The top-left weights."""
        h, f, columns = shape.hidden, shape.feed_forward, shape.hidden // self.extent.heads
        return LayerSlice(
            self.qkv[:, :, :columns, :h].reshape(3 * h, h),
            self.qkv_bias.view(3, self.extent.heads, -1)[:, :, :columns].reshape(3 * h),
            self.out[:h, :, :columns].reshape(h, h),
            self.out_bias[:h],
            self.attention_norm[:h],
            self.attention_norm_bias[:h],
            self.inner[:f, :h],
            self.inner_bias[:f],
            self.outer[:h, :f],
            self.outer_bias[:h],
            self.outer_norm[:h],
            self.outer_norm_bias[:h],
        )


class ElasticBert(nn.Module):
    """The super-network: embeddings, layers and pooler at their largest."""

    def __init__(
        self, extent: Extent, tables: Tables, pad_id: int, activation: str = "gelu", epsilon: float = 1e-12
    ) -> None:
        super().__init__()
        self.extent, self.tables, self.pad_id = extent, tables, pad_id
        self.activation_name, self.epsilon = activation, epsilon
        self.activation: Callable[[Tensor], Tensor] = ACT2FN[activation]
        hidden = extent.hidden
        self.words = nn.Parameter(torch.randn(tables.words, hidden) * 0.02)
        self.positions = nn.Parameter(torch.randn(tables.positions, hidden) * 0.02)
        self.types = nn.Parameter(torch.randn(tables.types, hidden) * 0.02)
        self.norm = nn.Parameter(torch.ones(hidden))
        self.norm_bias = nn.Parameter(torch.zeros(hidden))
        self.layers = nn.ModuleList(ElasticLayer(extent) for _ in range(extent.layers))
        self.pooler = nn.Parameter(torch.randn(hidden, hidden) * hidden**-0.5)
        self.pooler_bias = nn.Parameter(torch.zeros(hidden))

    def chosen_layers(self, shape: Architecture) -> list[ElasticLayer]:
        """Layers floor(i N / L): the first always, spread evenly (the released code's depth slice, in whole numbers)."""
        return [cast(ElasticLayer, self.layers[i * self.extent.layers // shape.layers]) for i in range(shape.layers)]

    def embed(self, shape: Architecture, batch: Batch) -> Float[Tensor, "batch tokens hidden"]:
        """What enters the first layer."""
        h = shape.hidden
        places = torch.arange(batch.first.shape[1], device=self.words.device)
        words = functional.embedding(batch.first, self.words[:, :h])
        summed = words + self.positions[places, :h] + functional.embedding(batch.types, self.types[:, :h])
        return functional.layer_norm(summed, (h,), self.norm[:h], self.norm_bias[:h], self.epsilon)

    def forward(self, shape: Architecture, batch: Batch) -> Float[Tensor, "batch tokens hidden"]:
        """The last layer's states at an architecture."""
        batch, states = self._begin(shape, batch)
        for layer in self.chosen_layers(shape):
            states = self._layer(layer.sliced(shape), shape, states, batch.mask)
        return states

    def last_projections(self, shape: Architecture, batch: Batch) -> Projections:
        """Queries, keys and values of the last layer, all that the relation loss reads; what comes after is not computed."""
        batch, states = self._begin(shape, batch)
        *before, last = self.chosen_layers(shape)
        for layer in before:
            states = self._layer(layer.sliced(shape), shape, states, batch.mask)
        weights = last.sliced(shape)
        return Projections(*functional.linear(states, weights.qkv, weights.qkv_bias).chunk(3, dim=-1))

    def _begin(self, shape: Architecture, batch: Batch) -> tuple[Batch, Tensor]:
        self.extent.require_inside(shape)
        batch = batch.to(self.words.device)
        return batch, self.embed(shape, batch)

    def _layer(self, w: LayerSlice, shape: Architecture, states: Tensor, mask: Tensor) -> Tensor:
        """One post-norm layer."""
        size = (shape.hidden,)
        split = functional.linear(states, w.qkv, w.qkv_bias).unflatten(-1, (3, shape.heads, shape.head_width))
        query, key, value = split.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None, :])
        out = functional.linear(mixed.transpose(1, 2).flatten(2), w.out, w.out_bias)
        states = functional.layer_norm(states + out, size, w.attention_norm, w.attention_norm_bias, self.epsilon)
        inner = self.activation(functional.linear(states, w.inner, w.inner_bias))
        outer = functional.linear(inner, w.outer, w.outer_bias)
        return functional.layer_norm(states + outer, size, w.outer_norm, w.outer_norm_bias, self.epsilon)


def bert_config(shape: Architecture, tables: Tables, pad_id: int, activation: str, epsilon: float) -> BertConfig:
    """The transformers config of a slice."""
    return BertConfig(
        vocab_size=tables.words,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.feed_forward,
        max_position_embeddings=tables.positions,
        type_vocab_size=tables.types,
        pad_token_id=pad_id,
        hidden_act=activation,
        layer_norm_eps=epsilon,
        architectures=["BertModel"],
    )


@torch.no_grad()
def to_bert(network: ElasticBert, shape: Architecture) -> BertModel:
    """The slice as an ordinary `BertModel`, in evaluation mode."""
    network.extent.require_inside(shape)
    config = bert_config(shape, network.tables, network.pad_id, network.activation_name, network.epsilon)
    with torch.device("meta"):  # random weights of a whole vocabulary would take longer than all the rest
        model: Any = BertModel(config)
    model.load_state_dict(bert_weights(network, shape), assign=True)
    # tables that transformers computes and does not save
    model.embeddings.position_ids = torch.arange(network.tables.positions).expand((1, -1))
    model.embeddings.token_type_ids = torch.zeros(1, network.tables.positions, dtype=torch.long)
    return cast(BertModel, model.eval())


def bert_weights(network: ElasticBert, shape: Architecture) -> dict[str, Tensor]:
    """The slice's weights under `BertModel`'s names, copied."""
    h = shape.hidden
    found = {
        "embeddings.word_embeddings.weight": network.words[:, :h],
        "embeddings.position_embeddings.weight": network.positions[:, :h],
        "embeddings.token_type_embeddings.weight": network.types[:, :h],
        "embeddings.LayerNorm.weight": network.norm[:h],
        "embeddings.LayerNorm.bias": network.norm_bias[:h],
        "pooler.dense.weight": network.pooler[:h, :h],
        "pooler.dense.bias": network.pooler_bias[:h],
    }
    for i, layer in enumerate(network.chosen_layers(shape)):
        found |= {f"encoder.layer.{i}.{name}": value for name, value in _layer_weights(layer.sliced(shape))}
    return {name: value.detach().clone().contiguous() for name, value in found.items()}


def _layer_weights(w: LayerSlice) -> list[tuple[str, Tensor]]:
    names = ("query", "key", "value")
    weights, biases = zip(names, w.qkv.chunk(3), strict=True), zip(names, w.qkv_bias.chunk(3), strict=True)
    return [
        *((f"attention.self.{name}.weight", value) for name, value in weights),
        *((f"attention.self.{name}.bias", value) for name, value in biases),
        ("attention.output.dense.weight", w.out),
        ("attention.output.dense.bias", w.out_bias),
        ("attention.output.LayerNorm.weight", w.attention_norm),
        ("attention.output.LayerNorm.bias", w.attention_norm_bias),
        ("intermediate.dense.weight", w.inner),
        ("intermediate.dense.bias", w.inner_bias),
        ("output.dense.weight", w.outer),
        ("output.dense.bias", w.outer_bias),
        ("output.LayerNorm.weight", w.outer_norm),
        ("output.LayerNorm.bias", w.outer_norm_bias),
    ]


def save_elastic(network: ElasticBert, file: Path) -> None:
    """The super-network's weights, its sizes in the file's metadata."""
    e, t = network.extent, network.tables
    sizes = {
        "extent": (e.layers, e.heads, e.hidden, e.feed_forward),
        "tables": (t.words, t.positions, t.types),
        "rest": (network.pad_id, network.activation_name, network.epsilon),
    }
    weights = {name: value.detach().cpu().contiguous().clone() for name, value in network.state_dict().items()}
    save_file(weights, file, metadata={"sizes": json.dumps(sizes)})


def load_elastic(file: Path) -> ElasticBert:
    """What `save_elastic` wrote.

    Raises:
        UserError: missing, damaged, or not a super-network.
    """
    try:
        with safe_open(file, framework="pt") as opened:
            sizes = parse_json((opened.metadata() or {})["sizes"])
        with torch.device("meta"):
            network = ElasticBert(Extent(*sizes["extent"]), Tables(*sizes["tables"]), *sizes["rest"])
        network.load_state_dict(load_file(file), assign=True)
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{file} is not a super-network ({first_line(error)})", "run autodistil again") from error
    return network.eval()
