"""Back-translation with two sequence-to-sequence models of the user's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from stillhouse.core.errors import UserError, first_line
from stillhouse.encoders.models import load_config

BATCH = 32


def back_translation(there: Path, back: Path) -> Callable[[Sequence[str], int], list[str]]:
    """An operation: into another language with one model, back with the other, by sampling.

    Raises:
        UserError: a folder holds no translation model.
    """
    models = [_load(folder) for folder in (there, back)]

    def operation(texts: Sequence[str], seed: int) -> list[str]:
        made = list(texts)
        for model, tokenizer in models:
            made = [
                text
                for i in range(0, len(made), BATCH)
                for text in _translate(model, tokenizer, made[i : i + BATCH], seed + i)
            ]
        # a model may say nothing at all; the text then stays as it was
        return [new.strip() or old for new, old in zip(made, texts, strict=True)]

    return operation


def _load(folder: Path) -> tuple[Any, Any]:
    load_config(folder)
    try:
        model = AutoModelForSeq2SeqLM.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, trust_remote_code=False
        )
        return model.eval(), AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{folder} holds no translation model ({first_line(error)})", "give a sequence-to-sequence folder"
        ) from error


@torch.no_grad()
def _translate(model: Any, tokenizer: Any, texts: list[str], seed: int) -> list[str]:
    given = tokenizer(texts, return_tensors="pt", padding=True, truncation=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = model.generate(**given, do_sample=True, top_p=0.8, max_new_tokens=2 * given["input_ids"].shape[1] + 8)
    return list(tokenizer.batch_decode(made, skip_special_tokens=True))
