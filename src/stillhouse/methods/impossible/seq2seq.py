"""The student: a small encoder-decoder, from a folder or made here; trained on pairs, with control codes before the input.

L = - sum_(x, y) log p_S(y | [code,] x)
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import (
    AutoModelForSeq2SeqLM,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from stillhouse.core.errors import UserError, first_line
from stillhouse.core.run import Run
from stillhouse.core.seeding import derive_seed, seed_everything
from stillhouse.core.training import Fitted, fit
from stillhouse.encoders.models import load_config, to_best_device
from stillhouse.encoders.tokens import load_tokenizer
from stillhouse.encoders.training import Recipe, descend, make_optimizer
from stillhouse.methods.impossible.causal import Sampling, Throughput
from stillhouse.methods.impossible.config import Size
from stillhouse.methods.impossible.vocabulary import ensure_codes

IGNORED = -100


@dataclass(frozen=True)
class Student:
    """An encoder-decoder and its tokenizer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    max_tokens: int

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device


def new_student_model(size: Size, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """A T5 of this size with random weights."""
    settings: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "d_model": size.width,
        "d_kv": size.width // size.heads,
        "d_ff": 4 * size.width,
        "num_layers": size.layers,
        "num_heads": size.heads,
        "dropout_rate": 0.0,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "decoder_start_token_id": tokenizer.pad_token_id,
    }
    return T5ForConditionalGeneration(T5Config(**settings))


def load_student(folder: Path, max_tokens: int) -> Student:
    """An encoder-decoder that transformers saved; control codes are added to its vocabulary where they are missing.

    Raises:
        UserError: no such folder, another kind of model, or without safetensors weights.
    """
    load_config(folder)
    try:
        model = AutoModelForSeq2SeqLM.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise UserError(
            f"the student in {folder} cannot be loaded ({first_line(error)})",
            "give an encoder-decoder (T5 type) saved with model.save_pretrained(folder)",
        ) from error
    tokenizer = load_tokenizer(folder)
    if ensure_codes(tokenizer):
        seed_everything("control codes")  # their vectors are drawn
        model.resize_token_embeddings(max(len(tokenizer), int(model.config.vocab_size)))
    return Student(to_best_device(model).eval(), tokenizer, max_tokens)


def copy_of(student: Student) -> Student:
    """The same weights in a model of its own."""
    model = type(student.model)(student.model.config)
    model.load_state_dict(student.model.state_dict())
    return Student(to_best_device(model), student.tokenizer, student.max_tokens)


@dataclass(frozen=True)
class Examples:
    """Inputs and outputs as ids."""

    inputs: list[np.ndarray]
    outputs: list[np.ndarray]

    def __len__(self) -> int:
        return len(self.inputs)


def encode_examples(student: Student, inputs: Sequence[str], outputs: Sequence[str]) -> Examples:
    """Ids of both sides, each ended by the end token; longer ones are cut."""
    return Examples(_ids(student, inputs), _ids(student, outputs))


def _ids(student: Student, texts: Sequence[str]) -> list[np.ndarray]:
    end = student.tokenizer.eos_token_id
    rows = student.tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"] if texts else []
    return [np.array([*row[: student.max_tokens - 1], end], np.int64) for row in rows]


def code_ids(student: Student, codes: Sequence[str]) -> list[int]:
    """The ids of control codes."""
    return [cast(int, student.tokenizer.convert_tokens_to_ids(code)) for code in codes]


def padded(rows: Sequence[np.ndarray], value: int) -> Tensor:
    """[rows, longest] int64."""
    made = np.full((len(rows), max(map(len, rows))), value, np.int64)
    for place, row in zip(made, rows, strict=True):
        place[: len(row)] = row
    return torch.from_numpy(made)


Draw = Callable[[int, np.random.Generator], tuple[list[np.ndarray], list[np.ndarray]]]
"""A batch of inputs and outputs of this size."""


def train_student(student: Student, draw: Draw, recipe: Recipe, run: Run, stage: str, seed: int) -> Fitted:
    """Cross-entropy of the outputs, batches drawn by `draw`."""
    model, pad = student.model, cast(int, student.tokenizer.pad_token_id)
    optimizer = make_optimizer(model, recipe.rate, recipe.weight_decay)

    def step(update: int) -> dict[str, Tensor]:
        model.train()
        inputs, outputs = draw(recipe.batch, np.random.default_rng(derive_seed(stage, seed, update)))
        ids, labels = padded(inputs, pad).to(student.device), padded(outputs, IGNORED).to(student.device)
        loss = model(input_ids=ids, attention_mask=(ids != pad).long(), labels=labels).loss
        descend(loss, model, optimizer, recipe.rate * recipe.factor(update))
        return {stage: loss.detach()}

    fitted = fit(step, {"model": model, "optimizer": optimizer}, recipe.updates, run, stage=stage, seed=seed)
    model.eval()
    return fitted


def draw_pairs(examples: Examples, codes: Sequence[Sequence[int]] | None = None) -> Draw:
    """Pairs at random; half of the times with the pair's control codes before the input.

    Args:
        examples: the pairs.
        codes: ids of every pair's codes; each code is told with probability one half.
    """

    def draw(batch: int, random: np.random.Generator) -> tuple[list[np.ndarray], list[np.ndarray]]:
        index = random.integers(len(examples), size=batch)
        told = [[code for code in (codes[i] if codes else ()) if random.random() < 0.5] for i in index]
        inputs = [
            np.concatenate([np.array(some, np.int64), examples.inputs[i]]) for i, some in zip(index, told, strict=True)
        ]
        return inputs, [examples.outputs[i] for i in index]

    return draw


def draw_denoising(student: Student, sentences: Sequence[str], hidden: float = 0.3) -> Draw:
    """Sentences of plain text to be restored from themselves with words masked: pre-training, in which nothing is rephrased."""
    words = re.compile(r"\s*\S+")
    pieces = [
        [
            np.array(p, np.int64)
            for p in student.tokenizer(words.findall(s), add_special_tokens=False, verbose=False)["input_ids"]
        ]
        for s in sentences
    ]
    mask, end = np.array([student.tokenizer.mask_token_id]), np.array([student.tokenizer.eos_token_id])

    def draw(batch: int, random: np.random.Generator) -> tuple[list[np.ndarray], list[np.ndarray]]:
        chosen = [pieces[i] for i in random.integers(len(pieces), size=batch)]
        shown = [[mask if random.random() < hidden else word for word in words] for words in chosen]
        limit = student.max_tokens - 1
        inputs = [np.concatenate([np.concatenate(words)[:limit], end]) for words in shown]
        return inputs, [np.concatenate([np.concatenate(words)[:limit], end]) for words in chosen]

    return draw


@torch.no_grad()
def rewrite(
    student: Student,
    texts: Sequence[str],
    *,
    each: int = 1,
    sampling: Sampling | None = None,
    codes: Sequence[str] = (),
    seed: Sequence[int | str] = (0,),
    batch: int = 64,
    max_new_tokens: int = 48,
    throughput: Throughput | None = None,
) -> list[list[str]]:
    """The student's outputs for every text: sampled where `sampling` is given, else the likeliest next token each time.

    Args:
        student: the model.
        texts: inputs.
        each: sampled outputs of every text.
        sampling: temperature, nucleus, length, batch.
        codes: control codes told before every text.
        seed: parts of the seed of the sampling.
        batch: texts at once where nothing is sampled.
        max_new_tokens: longest output where nothing is sampled.
        throughput: added to.
    """
    made: list[list[str]] = [[] for _ in texts]
    prefix = code_ids(student, codes)
    rows = [np.array([*prefix, *row], np.int64) for row in _ids(student, texts)]
    size = max(1, sampling.batch // each) if sampling else batch
    order = sorted(range(len(rows)), key=lambda i: (len(rows[i]), i))
    for number, start in enumerate(range(0, len(order), size)):
        index = order[start : start + size]
        seed_everything(*seed, number)
        outputs = _generated(student, [rows[i] for i in index], each, sampling, max_new_tokens, throughput)
        for place, i in enumerate(index):
            made[i] = outputs[place * each : (place + 1) * each]
    return made


def _generated(
    student: Student,
    rows: list[np.ndarray],
    each: int,
    sampling: Sampling | None,
    max_new_tokens: int,
    throughput: Throughput | None,
) -> list[str]:
    tokenizer = student.tokenizer
    pad = cast(int, tokenizer.pad_token_id)
    ids = padded(rows, pad).to(student.device)
    drawn: dict[str, Any] = {"do_sample": False, "max_new_tokens": max_new_tokens}
    if sampling:
        drawn = {
            "do_sample": True,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": 0,
            "num_return_sequences": each,
            "max_new_tokens": sampling.max_new_tokens,
            "no_repeat_ngram_size": sampling.no_repeat_ngram,
        }
    config = GenerationConfig(
        **drawn,
        pad_token_id=pad,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=student.model.config.decoder_start_token_id,
        use_cache=True,
    )
    started = time.perf_counter()
    generate: Callable[..., Tensor] = cast(Any, student.model).generate
    out = generate(ids, attention_mask=(ids != pad).long(), generation_config=config).cpu()
    if throughput:
        throughput.seconds += time.perf_counter() - started
        throughput.tokens += int((out[:, 1:] != pad).sum())
    return [" ".join(text.split()) for text in tokenizer.batch_decode(out, skip_special_tokens=True)]
