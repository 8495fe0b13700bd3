"""The teacher: a causal language model, from a folder or pre-trained here, and batched sampling from it with a KV cache."""

from __future__ import annotations

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
    AutoModelForCausalLM,
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    StoppingCriteria,
    StoppingCriteriaList,
)

from stillhouse.core.errors import UserError, first_line, require
from stillhouse.core.run import Run
from stillhouse.core.seeding import seed_everything
from stillhouse.core.training import Fitted, Stateful, fit
from stillhouse.corpus.sentences import first_sentence
from stillhouse.encoders.models import load_config, to_best_device
from stillhouse.encoders.tokens import load_tokenizer
from stillhouse.encoders.training import Recipe, descend, make_optimizer
from stillhouse.methods.impossible.config import Size


@dataclass(frozen=True)
class LanguageModel:
    """A frozen causal language model and its tokenizer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    folder: Path


@dataclass(frozen=True)
class Sampling:
    """How text is drawn."""

    temperature: float
    top_p: float
    max_new_tokens: int
    batch: int
    no_repeat_ngram: int = 0


@dataclass
class Throughput:
    """New tokens and the seconds they took."""

    tokens: int = 0
    seconds: float = 0.0

    @property
    def tokens_per_second(self) -> float:
        """New tokens a second, prompts not counted."""
        return self.tokens / self.seconds if self.seconds else 0.0


def new_language_model(size: Size, tokenizer: PreTrainedTokenizerFast, max_tokens: int) -> PreTrainedModel:
    """A GPT-2 of this size with random weights."""
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=max_tokens,
        n_embd=size.width,
        n_layer=size.layers,
        n_head=size.heads,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        initializer_range=size.width
        ** -0.5,  # at 0.02 a narrow model needs thousands of updates to look back at its context
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return GPT2LMHeadModel(config)


def token_rows(tokenizer: PreTrainedTokenizerFast, documents: Sequence[Sequence[str]], tokens: int) -> np.ndarray:
    """[rows, tokens] documents cut between sentences into rows that begin with the start token, padded on the right.

    A row holds one document's sentences only: what it shows is what a context says about its own continuation.
    """
    begin, end, pad = tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
    rows: list[list[int]] = []
    for sentences in documents:
        parts = tokenizer(list(sentences), add_special_tokens=False, verbose=False)["input_ids"]
        row = [begin]
        for part in parts:
            if len(row) > 1 and len(row) + len(part) > tokens - 1:
                rows.append(row)
                row = [begin]
            row += part[: tokens - 1 - len(row)]
        rows.append([*row, end])
    made = np.full((len(rows), tokens), pad, np.int64)
    for place, row in zip(made, rows, strict=True):
        place[: len(row)] = row
    return made


def pretrain_language_model(model: PreTrainedModel, rows: np.ndarray, recipe: Recipe, run: Run) -> Fitted:
    """Train on rows of text drawn at random: -1/N sum log p(w_t | w_<t)."""
    optimizer = make_optimizer(model, recipe.rate, recipe.weight_decay)
    pad = model.config.pad_token_id
    lengths = (rows != pad).sum(1)

    def step(update: int) -> dict[str, Tensor]:
        model.train()
        index = np.random.randint(0, len(rows), recipe.batch)  # noqa: NPY002 (seeded by `fit`)
        ids = torch.from_numpy(rows[index, : lengths[index].max()]).to(model.device)
        real = ids != pad
        loss = model(input_ids=ids, attention_mask=real.long(), labels=ids.masked_fill(~real, -100)).loss
        descend(loss, model, optimizer, recipe.rate * recipe.factor(update))
        return {"language model": loss.detach()}

    state: dict[str, Stateful] = {"model": model, "optimizer": optimizer}
    return fit(step, state, recipe.updates, run, stage="language model", seed=0)


def load_language_model(folder: Path) -> LanguageModel:
    """A causal language model that transformers saved.

    Raises:
        UserError: no such folder, another kind of model, or without safetensors weights.
    """
    load_config(folder)
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise UserError(
            f"the language model in {folder} cannot be loaded ({first_line(error)})",
            "give a causal model (GPT-2 type) saved with model.save_pretrained(folder)",
        ) from error
    tokenizer = _with_padding(folder)
    to_best_device(model)
    model.requires_grad_(False).eval()
    return LanguageModel(model, tokenizer, folder)


def _with_padding(folder: Path) -> PreTrainedTokenizerFast:
    """The folder's tokenizer; GPT-2's has no padding token, and its end token serves."""
    from transformers import AutoTokenizer

    try:
        tokenizer = cast(
            PreTrainedTokenizerFast,
            AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder} has no tokenizer that can be read ({first_line(error)})", "save it beside the model"
        ) from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token_id is None:
        return load_tokenizer(folder)  # says what is wrong
    tokenizer.padding_side = "left"
    return tokenizer


class _SentenceEnds(StoppingCriteria):
    """A row is done when what it added holds a finished sentence; its text is looked at only after a full stop."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, prompt_tokens: int, device: torch.device) -> None:
        self.tokenizer, self.prompt_tokens = tokenizer, prompt_tokens
        pieces = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
        ends = [bool(piece) and piece.rstrip("\"'”)Ċ")[-1:] in (".", "?", "!") for piece in pieces]
        self.ends = torch.tensor(ends, device=device)
        self.done: Tensor | None = None

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        if self.done is None:
            self.done = torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
        last = self.ends[input_ids[:, -1]] & ~self.done
        for row in last.nonzero().flatten().tolist():
            text: Any = self.tokenizer.decode(input_ids[row, self.prompt_tokens :], skip_special_tokens=True)
            # "3." may go on as "3.5"
            self.done[row] = first_sentence(text) is not None and not text.rstrip(".")[-1:].isdigit()
        return self.done.clone()


@torch.no_grad()
def continuations(
    teacher: LanguageModel,
    prompts: Sequence[str],
    each: int,
    sampling: Sampling,
    seed: Sequence[int | str],
    throughput: Throughput | None = None,
    *,
    one_sentence: bool = True,
) -> list[list[str]]:
    """`each` sampled continuations of every prompt, in batches, with a KV cache.

    Args:
        teacher: the model.
        prompts: an empty one is the start of a text.
        each: continuations of a prompt.
        sampling: temperature, nucleus, length.
        seed: parts of the seed; the same parts draw the same text.
        throughput: added to.
        one_sentence: stop a row at its first finished sentence.
    """
    made: list[list[str]] = [[] for _ in prompts]
    rows = [i for i in range(len(prompts)) for _ in range(each)]
    order = sorted(rows, key=lambda i: (len(prompts[i]), i))  # like lengths together: less padding
    for number, start in enumerate(range(0, len(order), sampling.batch)):
        batch = order[start : start + sampling.batch]
        seed_everything(*seed, number)
        for row, text in zip(
            batch, _sampled(teacher, [prompts[i] for i in batch], sampling, throughput, one_sentence), strict=True
        ):
            made[row].append(text)
    return made


def _sampled(
    teacher: LanguageModel, prompts: list[str], sampling: Sampling, throughput: Throughput | None, one_sentence: bool
) -> list[str]:
    model, tokenizer = teacher.model, teacher.tokenizer
    ids, mask = _padded_prompts(teacher, prompts, sampling.max_new_tokens)
    config = GenerationConfig(
        do_sample=True,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=0,
        max_new_tokens=sampling.max_new_tokens,
        no_repeat_ngram_size=sampling.no_repeat_ngram,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        use_cache=True,
    )
    stop = [_SentenceEnds(tokenizer, ids.shape[1], model.device)] if one_sentence else []
    started = time.perf_counter()
    generate: Callable[..., Tensor] = cast(Any, model).generate
    out = generate(ids, attention_mask=mask, generation_config=config, stopping_criteria=StoppingCriteriaList(stop))
    new = out[:, ids.shape[1] :].cpu()
    if throughput:
        throughput.seconds += time.perf_counter() - started
        throughput.tokens += int((new != tokenizer.pad_token_id).sum())
    return [text.strip() for text in tokenizer.batch_decode(new, skip_special_tokens=True)]


def _padded_prompts(teacher: LanguageModel, prompts: list[str], new_tokens: int) -> tuple[Tensor, Tensor]:
    """[batch, tokens] ids padded on the left, and which are real; prompts that leave no room are cut on the left."""
    tokenizer = teacher.tokenizer
    room = most_positions(teacher.model) - new_tokens - 1
    require(room > 0, f"max_new_tokens is {new_tokens}, the teacher has {room + new_tokens + 1} positions", "use fewer")
    begin = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    rows = [[begin, *row][-room:] for row in tokenizer(prompts, add_special_tokens=False, verbose=False)["input_ids"]]
    length = max(map(len, rows))
    ids = torch.full((len(rows), length), cast(int, tokenizer.pad_token_id), dtype=torch.int64)
    mask = torch.zeros(ids.shape, dtype=torch.int64)
    for place, row in enumerate(rows):
        ids[place, length - len(row) :] = torch.tensor(row)
        mask[place, length - len(row) :] = 1
    return ids.to(teacher.model.device), mask.to(teacher.model.device)


def most_positions(model: PreTrainedModel) -> int:
    """Tokens that a causal model can look at."""
    config: Any = model.config
    most: Any = getattr(config, "n_positions", None) or getattr(config, "max_position_embeddings", 1024)
    return int(most)
