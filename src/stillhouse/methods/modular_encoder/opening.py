"""The encoder before training: from scratch with a tokenizer of the training functions, or from a local folder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from stillhouse.core.errors import require
from stillhouse.core.seeding import seed_everything
from stillhouse.corpus.code_functions import Function
from stillhouse.encoders.models import minilm_folder, most_tokens
from stillhouse.encoders.multi_exit import (
    STACKED,
    MultiExitEncoder,
    TrunkShape,
    load_trunk,
    new_trunk,
    start_from_frequencies,
)
from stillhouse.encoders.tokens import load_tokenizer, train_code_bpe
from stillhouse.methods.modular_encoder.config import Config


def source_folder(config: Config) -> Path | None:
    """Where the encoder comes from; None for scratch."""
    if config.encoder == "scratch":
        return None
    return minilm_folder() if config.encoder == "minilm" else Path(config.encoder).expanduser()


def open_tokenizer(config: Config, train: Sequence[Function]) -> PreTrainedTokenizerFast:
    """The folder's tokenizer, or a new one of the training functions.

    Raises:
        UserError: the folder has none, or one without a mask token where tokens are to be guessed.
    """
    folder = source_folder(config)
    longest = max(config.max_text_tokens, config.max_code_tokens, config.window_tokens)
    if folder is None:
        marks = [
            mark
            for text in (config.text_instruction, config.code_instruction)
            for mark in re.findall(r"\[[A-Z]+\]", text)
        ]
        return train_code_bpe(
            (f"{f.doc}\n{f.code}" for f in train), config.pieces, longest, tuple(dict.fromkeys(marks))
        )
    tokenizer = load_tokenizer(folder)
    guessing = config.pretraining_updates == 0 or None not in (tokenizer.mask_token_id, tokenizer.cls_token_id)
    require(guessing, f"the tokenizer in {folder} has no mask token to pre-train with", "add --pretraining-updates 0")
    return tokenizer


def open_encoder(config: Config, tokenizer: PreTrainedTokenizerFast, counts: np.ndarray) -> MultiExitEncoder:
    """The encoder before training.

    Args:
        config: of the run, or of an encoder to compare with.
        tokenizer: whose pieces it reads.
        counts: [pieces] how often each is in the training functions, for the word vectors of an encoder from scratch.

    Raises:
        UserError: a folder that cannot be used, exits that do not fit, or fewer positions than tokens.
    """
    folder, depth = source_folder(config), config.layers
    seed_everything("encoder", config.seed)
    if folder is None:
        shape = TrunkShape(depth, config.width, config.heads, config.key_value_heads, config.feed_forward)
        trunk = new_trunk(shape, len(tokenizer), int(tokenizer.pad_token_id), config.dropout)
    else:
        trunk = load_trunk(folder, depth)
        if trunk.config.model_type not in STACKED:
            longest, most = (
                max(config.max_code_tokens, config.max_text_tokens, config.window_tokens),
                most_tokens(trunk.config),
            )
            require(
                longest <= most,
                f"{longest} tokens are asked for, the model in {folder} reads {most}",
                f"use {most} tokens or less",
            )
    encoder = MultiExitEncoder(trunk, config.exits, config.dimensions)
    if folder is None:
        start_from_frequencies(encoder, torch.from_numpy(counts))
    return encoder
