"""What an image is of: a class, a text, or nothing. A table with a row for each, indexed by label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from jaxtyping import Float, Int
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from torch import Tensor
from transformers import AutoTokenizer, CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast
from transformers.utils.logging import disable_progress_bar

from stillhouse.core.errors import UserError, first_line, require

T = TypeVar("T")
TEXT_WIDTH = 32
"""Width of a text encoder that is trained here."""
TABLE_ROWS = 1000
"""At 77 x 1024 numbers a text, as in Stable Diffusion 2, a table of so many takes 300 MB."""

disable_progress_bar()  # a bar for each of four small files says nothing


@dataclass(frozen=True)
class Conditions:
    """Conditions by label.

    Attributes:
        names: what each label means (class names or captions).
        table: class indices [labels] for a class-conditional model, text embeddings [labels, tokens, width] for a
            text model, None for an unconditional one.
    """

    names: tuple[str, ...]
    table: Tensor | None

    def of(self, labels: Int[Tensor, " batch"]) -> Tensor | None:
        """The network's condition for each label."""
        return None if self.table is None else self.table[labels]

    def to(self, device: torch.device) -> Conditions:
        """The same on another device."""
        return Conditions(self.names, None if self.table is None else self.table.to(device))


@dataclass
class TextEncoder:
    """A tokenizer and a CLIP-type text model, as in a Stable Diffusion folder."""

    tokenizer: Any
    model: CLIPTextModel

    def embed(self, texts: tuple[str, ...]) -> Float[Tensor, "texts tokens width"]:
        """Last hidden states, padded to the model's length."""
        length = self.model.config.max_position_embeddings
        tokens = self.tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=length, return_tensors="pt"
        )
        return self.model(tokens["input_ids"].to(self.model.device)).last_hidden_state

    def unknown_words(self, text: str) -> tuple[str, ...]:
        """Words of a text that the tokenizer has no token for."""
        unknown = self.tokenizer.unk_token_id
        words = dict.fromkeys(text.split())
        return tuple(w for w in words if unknown in self.tokenizer(w, add_special_tokens=False)["input_ids"])

    def save(self, folder: Path) -> None:
        """Save as the folders text_encoder and tokenizer."""
        self.model.save_pretrained(folder / "text_encoder", safe_serialization=True)
        self.tokenizer.save_pretrained(folder / "tokenizer")


def require_known_words(texts: Sequence[str], encoder: TextEncoder) -> None:
    """Refuse prompts that the teacher's tokenizer cannot read.

    Raises:
        UserError: names the first unknown word and its prompt.
    """
    words = dict.fromkeys(word for text in texts for word in text.split())
    unknown = encoder.unknown_words(" ".join(words))
    if unknown:
        number, text = next((i, t) for i, t in enumerate(texts, 1) if unknown[0] in t.split())
        raise UserError(
            f"prompt {number} ({text[:60]!r}) has the word {unknown[0]!r}, which the text encoder does not know",
            "use words that the teacher was trained on",
        )


def spread(items: Sequence[T], most: int) -> tuple[T, ...]:
    """All items, or `most` of them from everywhere in the sequence."""
    return tuple(items[int(i)] for i in torch.linspace(0, len(items) - 1, min(most, len(items))).round())


class ConditionSource(Protocol):
    """Where a network's conditions come from."""

    def of(self, labels: Int[Tensor, " batch"], /) -> Tensor | None:
        """The network's condition for each label."""
        ...


@dataclass(frozen=True)
class EmbeddedWhenDrawn:
    """Conditions of texts that are too many for a table of embeddings."""

    texts: tuple[str, ...]
    encoder: TextEncoder

    @torch.no_grad()
    def of(self, labels: Int[Tensor, " batch"], /) -> Float[Tensor, "batch tokens width"]:
        """Embeddings of the texts at `labels`."""
        return self.encoder.embed(tuple(self.texts[label] for label in labels.tolist())).to(labels.device)


def text_conditions(texts: tuple[str, ...], encoder: TextEncoder, device: torch.device) -> ConditionSource:
    """Conditions of these texts: from a table, or embedded when drawn where there are more than `TABLE_ROWS`."""
    if len(texts) > TABLE_ROWS:
        return EmbeddedWhenDrawn(texts, encoder)
    with torch.no_grad():
        return Conditions(texts, encoder.embed(texts).to(device))


def load_text_encoder(folder: Path) -> TextEncoder:
    """The text encoder and tokenizer of a Stable Diffusion type folder.

    Raises:
        UserError: one of them is missing, damaged, or not safetensors.
    """
    for part in ("text_encoder", "tokenizer"):
        require((folder / part).is_dir(), f"no folder {folder / part}", "a text-conditional teacher needs it")
    try:
        model = CLIPTextModel.from_pretrained(folder / "text_encoder", use_safetensors=True, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise UserError(
            f"the text encoder in {folder} cannot be loaded ({first_line(error)})", "fetch or save it again"
        ) from error
    return TextEncoder(tokenizer, model.eval().requires_grad_(False))


def new_text_encoder(captions: tuple[str, ...], width: int = TEXT_WIDTH, layers: int = 2) -> TextEncoder:
    """A small text encoder to be trained with a teacher: word-level tokenizer over the captions' own words.

    Args:
        captions: texts whose words make the vocabulary.
        width: hidden width; heads are width / 16.
    """
    split = pre_tokenizers.Whitespace()
    sentences = [[word for word, _ in split.pre_tokenize_str(caption.lower())] for caption in captions]
    words = sorted({word for sentence in sentences for word in sentence})
    vocabulary = {token: i for i, token in enumerate(["[pad]", "[end]", "[unknown]", *words])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="[unknown]"))
    inner.normalizer, inner.pre_tokenizer = normalizers.Lowercase(), split
    length = 1 + max(map(len, sentences))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="[pad]", eos_token="[end]", unk_token="[unknown]", model_max_length=length
    )
    config = CLIPTextConfig(
        vocab_size=len(vocabulary),
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=max(1, width // 16),
        max_position_embeddings=length,
        projection_dim=width,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=1,
    )
    return TextEncoder(tokenizer, CLIPTextModel(config))
