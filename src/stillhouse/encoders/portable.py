"""A transformers text model as other tools take it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn
from transformers import PreTrainedModel

from stillhouse.core.portable import Call, Network, Portable
from stillhouse.core.result import Metric

INPUTS = 64
NAMES = ("input_ids", "attention_mask", "token_type_ids")
Quality = Callable[[Callable[[Sequence[str], Sequence[str] | None], list[np.ndarray]]], Mapping[str, float]]
"""Metrics of a function of texts (and second texts of pairs) to the network's outputs."""


class Traced(nn.Module):
    """The model as a plain function of ids, mask and types."""

    def __init__(self, model: PreTrainedModel, outputs: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.outputs = model, outputs
        self.types = getattr(model.config, "type_vocab_size", 0) > 1

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Any:
        """The outputs by their names in transformers ("logits", "last_hidden_state", ...), in order."""
        types = {"token_type_ids": token_type_ids} if self.types else {}
        made = self.model(input_ids=input_ids, attention_mask=attention_mask, **types)
        found = tuple(getattr(made, name) for name in self.outputs)
        return found if len(found) > 1 else found[0]


def portable_encoder(
    model: PreTrainedModel,
    tokenizer: Any,
    train: tuple[Sequence[str], Sequence[str] | None],
    report: tuple[Sequence[str], Sequence[str] | None],
    *,
    max_tokens: int,
    reopen: Callable[[Path], PreTrainedModel],
    outputs: tuple[str, ...] = ("logits",),
    metrics: tuple[Metric, ...] = (),
    quality: Quality | None = None,
    usage: str = "",
    place: str = "",
) -> Portable:
    """Ids, mask and types to the model's outputs; the tokenizer goes beside the ONNX file.

    Args:
        train: texts (and second texts of pairs) that static int8 takes its ranges from.
        report: texts that nothing was fitted on.
        max_tokens: longer texts are cut.
        reopen: opens a folder by transformers' own class.
        quality: of a function of texts, on the report split.
        place: the model's folder below the run's model folder, where it is not that itself.
    """
    traced = Traced(model.cpu().eval(), outputs)
    names = NAMES if traced.types else NAMES[:2]

    def ids(first: Sequence[str], second: Sequence[str] | None) -> dict[str, Tensor]:
        pair = () if second is None else (list(second),)
        rows = tokenizer(
            list(first),
            *pair,
            padding=True,
            truncation=True,
            max_length=max_tokens,
            return_token_type_ids=True,
            return_tensors="pt",
        )
        return {name: rows[name] for name in names}

    def told(calls: Mapping[str, Call]) -> Mapping[str, float]:
        assert quality

        def outputs_of(first: Sequence[str], second: Sequence[str] | None) -> list[np.ndarray]:
            parts = [
                calls["model"](
                    {k: v.numpy() for k, v in ids(first[i : i + INPUTS], second and second[i : i + INPUTS]).items()}
                )
                for i in range(0, len(first), INPUTS)
            ]
            return [np.concatenate(column) for column in zip(*parts, strict=True)]

        return quality(outputs_of)

    inputs, calibration = (ids(texts[0][:INPUTS], texts[1] and texts[1][:INPUTS]) for texts in (report, train))
    varying = {name: {1: "tokens"} for name in names}
    return Portable(
        (Network("model", traced, inputs, outputs, calibration, varying),),
        dict.fromkeys(("transformers", "safetensors"), lambda folder: [Traced(reopen(folder), outputs)]),
        f"{len(inputs['input_ids'])} texts of the report split",
        metrics,
        told if quality else None,
        {"transformers": usage} if usage else {},
        tuple(f"{place}/{name}" if place else name for name in TOKENIZER_FILES),
    )


TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
