"""The exits as other tools take them: a network each, from ids to unit embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from stillhouse.core.options import read_options
from stillhouse.core.portable import Call, Network, Portable
from stillhouse.core.result import Metric
from stillhouse.corpus.code_retrieval import SearchTask, metrics
from stillhouse.corpus.code_sets import load_code
from stillhouse.encoders.batches import padded
from stillhouse.encoders.tokens import Encoded
from stillhouse.methods.modular_encoder.config import Config
from stillhouse.methods.modular_encoder.exporting import cut_model, network_of
from stillhouse.methods.modular_encoder.model import CodeEncoder, load_model
from stillhouse.methods.modular_encoder.search import report_tasks

CHECKED, JUDGED, BATCH = 32, 200, 64


def portable(run: Path) -> Portable:
    """A network an exit, and how well its exported forms find a function by its documentation."""
    config = replace(read_options(run, "modular_encoder", Config), judged=JUDGED, tasks=("docs",))
    model = load_model(run / "model")
    code = load_code(config.data, config.functions, config.seed, quiet=True)
    (task,) = report_tasks(code, (), config)
    learned = [f.code for f in code.train[:CHECKED]]

    def quality(calls: Mapping[str, Call]) -> dict[str, float]:
        return {f"mrr_{i}": found_by(calls[_name(i)], model, task) for i in model.exits}

    def reopened(folder: Path) -> Sequence[nn.Module]:
        copy = load_model(folder)
        return [network_of(cut_model(copy, i)).module for i in model.exits]

    inputs = ids_of(model, model.tokenized(task.codes[:CHECKED], "code", task.code_languages[:CHECKED]))
    ranges = ids_of(model, model.tokenized(learned, "code"))
    networks = tuple(_network(model, i, inputs, ranges) for i in model.exits)
    return Portable(
        networks,
        {"safetensors": reopened},
        f"{CHECKED} functions of the report split",
        tuple(Metric(f"mrr_{i}", f"MRR, exit {i}", "higher", f"Over {len(task)} descriptions.") for i in model.exits),
        quality,
        files=("tokenizer.json", "tokenizer_config.json", "exits.json"),
    )


def _name(at: int) -> str:
    return f"exit-{at}"


def _network(model: CodeEncoder, at: int, inputs: Mapping[str, Tensor], ranges: Mapping[str, Tensor]) -> Network:
    return replace(network_of(cut_model(model, at)), name=_name(at), inputs=inputs, calibration=ranges)


def ids_of(model: CodeEncoder, encoded: Encoded) -> dict[str, Tensor]:
    """Ids and mask [texts, tokens] as the networks take them."""
    ids, mask = padded(encoded, np.arange(len(encoded)), int(model.tokenizer.pad_token_id))
    return {"input_ids": ids, "attention_mask": mask.long()}


def found_by(call: Call, model: CodeEncoder, task: SearchTask) -> float:
    """MRR of a task, embeddings made by a call."""

    def embedded(encoded: Encoded) -> np.ndarray:
        parts = [encoded.take(np.arange(i, min(i + BATCH, len(encoded)))) for i in range(0, len(encoded), BATCH)]
        return np.concatenate([call({k: v.numpy() for k, v in ids_of(model, part).items()})[0] for part in parts])

    queries = embedded(model.tokenized(task.queries, task.kind, task.query_languages))
    codes = embedded(model.tokenized(task.codes, "code", task.code_languages))
    return metrics(task, queries @ codes.T)["mrr"]
