"""An encoder with exits: one stack of layers, an embedding after several of them, each prefix a model of its own.

    h_0 = embed(x),  h_i = layer_i(h_{i-1}),  e_i = normalise(W_i pool(norm_i(h_i)))     for exits i

pool is the mean over real tokens. A new stack has StarCoder-2's blocks (rotary positions, grouped queries, pre-norm) without the causal
mask, every token sees every token; BERT-type encoders can be given exits too. Layers behind the deepest exit asked for are not run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModel, PreTrainedModel, Starcoder2Config, Starcoder2Model

from stillhouse.core.errors import UserError, first_line, require
from stillhouse.encoders.models import LAYOUT, load_config

ROTARY_BASE = 1e6
"""Of the published model."""
STACKED = ("starcoder2",)
"""Decoder types whose causal mask is left out."""


@dataclass(frozen=True)
class TrunkShape:
    """Size of a new stack."""

    layers: int
    width: int
    heads: int
    key_value_heads: int
    feed_forward: int
    positions: int = 2048


def new_trunk(shape: TrunkShape, pieces: int, pad_id: int, dropout: float = 0.0) -> PreTrainedModel:
    """StarCoder-2's blocks with random weights.

    Raises:
        UserError: heads that do not divide the width, or query heads that do not divide among the key heads.
    """
    require(
        shape.width % (2 * shape.heads) == 0,
        f"width {shape.width} is not an even multiple of {shape.heads} heads",
        "change --width or --heads",
    )
    require(
        shape.heads % shape.key_value_heads == 0,
        f"{shape.heads} heads cannot share {shape.key_value_heads} key-value heads",
        "change --key-value-heads",
    )
    config = Starcoder2Config(
        vocab_size=pieces,
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        intermediate_size=shape.feed_forward,
        max_position_embeddings=shape.positions,
        rope_parameters={"rope_type": "default", "rope_theta": ROTARY_BASE},
        sliding_window=None,
        residual_dropout=dropout,
        embedding_dropout=dropout,
        attention_dropout=dropout,
        pad_token_id=pad_id,
        bos_token_id=None,
        eos_token_id=None,
        use_cache=False,
    )
    config.is_causal = False  # kept in config.json: transformers' own forward pass then leaves the mask out too
    return Starcoder2Model(config)


SMOOTHING = 1e-3
"""a of smooth inverse frequency: pieces rarer than this count fully."""
WORD_DEVIATION = 0.3
"""Of new word vectors, so that layers with random weights do not drown them."""


@torch.no_grad()
def start_from_frequencies(encoder: MultiExitEncoder, counts: Int[Tensor, " pieces"]) -> None:
    """Word vectors at random, w_t = a_t r_t + sqrt(1 - a_t^2) c, with a_t^2 = s / (s + p_t) and c one direction that heads do not read.

    The last maps of every layer start at 0, so that every exit starts as the same sum of words and none begins behind another. A mean
    over tokens is then a random projection of a bag of words with smooth inverse frequency (Arora et al. 2017), which a small
    set of pairs is learned from much faster than from StarCoder-2's small vectors. Layer norms take away lengths, so frequent
    pieces are not shortened but turned towards c.
    """
    words = cast(nn.Embedding, encoder.trunk.get_input_embeddings()).weight
    shares = counts.to(words.dtype) / counts.sum().clamp_min(1)
    kept = (SMOOTHING / (SMOOTHING + shares)).sqrt()[:, None]
    words.normal_(0, WORD_DEVIATION)
    words *= kept
    words[:, :1] += (1 - kept.square()).sqrt() * WORD_DEVIATION * words.shape[1] ** 0.5
    for projection in encoder.projections.values():
        cast(nn.Linear, projection).weight[:, 0] = 0
    for layer in cast(Any, encoder.trunk).layers:
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.c_proj.weight.zero_()


def load_trunk(folder: Path, layers: int = 0) -> PreTrainedModel:
    """The encoder of a transformers folder (BERT type, or StarCoder-2, which loses its causal mask).

    Args:
        folder: saved by transformers, with safetensors weights.
        layers: keep the first so many; 0 keeps all.

    Raises:
        UserError: no such folder, another type of model, or no safetensors weights.
    """
    config = load_config(folder)
    known = (*LAYOUT, *STACKED)
    require(
        config.model_type in known,
        f"{folder} holds a {config.model_type} model",
        f"give one of the types {', '.join(known)}",
    )
    if config.model_type in STACKED:
        config.sliding_window, config.is_causal, config.use_cache = None, False, False
    if layers:
        most = config.num_hidden_layers
        require(
            layers <= most,
            f"{layers} layers are asked for, the model in {folder} has {most}",
            f"use --layers {most} or less",
        )
        config.num_hidden_layers = layers
    try:
        extra = (
            {"add_pooling_layer": False} if config.model_type in ("bert", "roberta", "xlm-roberta", "camembert") else {}
        )
        return AutoModel.from_pretrained(
            folder,
            config=config,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=torch.float32,
            **extra,
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise UserError(
            f"the model in {folder} cannot be loaded ({first_line(error)})",
            "give an encoder saved with model.save_pretrained(folder)",
        ) from error


class MultiExitEncoder(nn.Module):
    """A stack with a head at each exit.

    Attributes:
        trunk: the stack.
        exits: layers after which there is a head, counted from 1, rising.
    """

    def __init__(self, trunk: PreTrainedModel, exits: Sequence[int], dimensions: int) -> None:
        super().__init__()
        self.trunk, self.exits = trunk, tuple(exits)
        layers = trunk.config.num_hidden_layers
        require(
            bool(exits) and list(exits) == sorted(set(exits)) and exits[0] >= 1 and exits[-1] <= layers,
            f"exits {', '.join(map(str, exits))} do not fit {layers} layers",
            f"give rising layer numbers from 1 to {layers}",
        )
        width = trunk.config.hidden_size
        # BERT's layers end in a norm of their own, StarCoder's do not
        self.norms = nn.ModuleDict(
            {str(i): nn.LayerNorm(width, eps=1e-5) if self.pre_norm else nn.Identity() for i in exits}
        )
        self.projections = nn.ModuleDict({str(i): nn.Linear(width, dimensions, bias=False) for i in exits})
        for projection in self.projections.values():
            # near the identity where widths are equal: a head starts from the stack's own geometry
            nn.init.eye_(cast(nn.Linear, projection).weight)

    @property
    def pre_norm(self) -> bool:
        """Whether states need a norm before they are read."""
        return self.trunk.config.model_type in STACKED

    @property
    def layers(self) -> nn.ModuleList:
        """The stack's layers."""
        trunk: Any = self.trunk
        return cast(nn.ModuleList, trunk.layers if self.pre_norm else trunk.encoder.layer)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.trunk.device

    @property
    def dimensions(self) -> int:
        """Of the embeddings."""
        return cast(nn.Linear, self.projections[str(self.exits[0])]).out_features

    def states(
        self, ids: Int[Tensor, "batch tokens"], mask: Bool[Tensor, "batch tokens"], exits: Sequence[int]
    ) -> dict[int, Float[Tensor, "batch tokens width"]]:
        """Normed states after these layers; layers behind the deepest are not run.

        Raises:
            UserError: no such exit.
        """
        for i in exits:
            self.require_exit(i)
        found: dict[int, Tensor] = {}
        for i, state in enumerate(self._layers(ids, mask, max(exits)), 1):
            if i in exits:
                found[i] = self.norms[str(i)](state)
        return found

    def _layers(self, ids: Tensor, mask: Tensor, depth: int) -> Any:
        """The states after layers 1 ... depth."""
        model: Any = self.trunk
        # added to the scores: 0 where a token may be looked at. Not a boolean mask, which one exporter cannot write
        unseen = torch.zeros(mask.shape, dtype=model.dtype, device=mask.device).masked_fill(
            ~mask, torch.finfo(model.dtype).min
        )
        seen = unseen[:, None, None, :].expand(-1, 1, ids.shape[1], -1)
        if self.pre_norm:
            state = functional.dropout(model.embed_tokens(ids), model.config.embedding_dropout, self.training)
            places = torch.arange(ids.shape[1], device=ids.device)[None]
            rotary = model.rotary_emb(state, position_ids=places)
            for layer in model.layers[:depth]:
                state = layer(state, attention_mask=seen, position_embeddings=rotary)
                yield state
            return
        state = model.embeddings(input_ids=ids)
        if hasattr(model, "embeddings_project"):
            state = model.embeddings_project(state)
        for layer in model.encoder.layer[:depth]:
            state = layer(state, seen)
            yield state

    def forward(
        self, ids: Int[Tensor, "batch tokens"], mask: Bool[Tensor, "batch tokens"], exits: Sequence[int]
    ) -> dict[int, Float[Tensor, "batch dimensions"]]:
        """Unit embeddings at these exits."""
        return {i: self.embed(state, mask, i) for i, state in self.states(ids, mask, exits).items()}

    def embed(
        self, state: Float[Tensor, "batch tokens width"], mask: Bool[Tensor, "batch tokens"], at: int
    ) -> Float[Tensor, "batch dimensions"]:
        """The embedding of an exit's normed states."""
        return functional.normalize(self.projections[str(at)](mean_of_tokens(state, mask)), dim=-1)

    def require_exit(self, at: int) -> None:
        """Refuse what is not an exit.

        Raises:
            UserError: no such exit.
        """
        require(at in self.exits, f"no exit {at}", f"exits: {', '.join(map(str, self.exits))}")

    def parameters_to(self, at: int) -> int:
        """Parameters of the stand-alone model of an exit."""
        return sum(p.numel() for p in cut_at(self, at).parameters())


def mean_of_tokens(
    state: Float[Tensor, "batch tokens width"], mask: Bool[Tensor, "batch tokens"]
) -> Float[Tensor, "batch width"]:
    """Mean over real tokens."""
    share = mask[:, :, None].to(state.dtype)
    return (state * share).sum(1) / share.sum(1).clamp_min(1)


def cut_at(encoder: MultiExitEncoder, at: int) -> MultiExitEncoder:
    """The stand-alone model of an exit: embeddings, layers 1 ... at, its norm and projection; weights are shared.

    Raises:
        UserError: no such exit.
    """
    encoder.require_exit(at)
    config = type(encoder.trunk.config).from_dict({**encoder.trunk.config.to_dict(), "num_hidden_layers": at})
    with torch.device("meta"):
        trunk = type(encoder.trunk)(
            config, **({} if encoder.pre_norm or config.model_type == "electra" else {"add_pooling_layer": False})
        )
    cut = MultiExitEncoder(trunk, (at,), encoder.dimensions)
    state = {name: value for name, value in encoder.trunk.state_dict().items() if name in trunk.state_dict()}
    if encoder.pre_norm:  # transformers' own forward pass ends in this norm
        state |= {f"norm.{name}": value for name, value in encoder.norms[str(at)].state_dict().items()}
    trunk.load_state_dict(state, assign=True)
    _restore_buffers(trunk, encoder.trunk)
    cut.norms, cut.projections = (
        nn.ModuleDict({str(at): part[str(at)]}) for part in (encoder.norms, encoder.projections)
    )
    return cut.eval()


def _restore_buffers(trunk: PreTrainedModel, whole: PreTrainedModel) -> None:
    """Buffers that no file holds (rotary frequencies, position numbers)."""
    own = dict(whole.named_buffers())
    for name, _ in list(trunk.named_buffers()):
        holder, _, last = name.rpartition(".")
        setattr(trunk.get_submodule(holder), last, own[name])
