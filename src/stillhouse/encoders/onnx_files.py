"""Encoders as ONNX files: exported, compared with the original, and with 8-bit weights where asked for."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from stillhouse.core.errors import UserError, first_line, require
from stillhouse.encoders.models import Batch

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
TOLERANCE = 1e-3
"""Largest difference of states that an exported file may have: states are of size 1."""


class _LastStates(nn.Module):
    """Only the states: what is behind them in transformers' outputs would be exported too."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        made = self.model(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)
        return made.last_hidden_state


def _modules() -> tuple[Any, Any]:
    try:
        import onnxruntime
        from onnxruntime import quantization
    except ImportError as error:
        raise UserError(
            "ONNX files need onnx, onnxruntime and onnxscript", "pip install 'stillhouse[export]'"
        ) from error
    return onnxruntime, quantization


def export_onnx(model: PreTrainedModel, file: Path, example: Batch) -> float:
    """Write the encoder (input_ids, attention_mask, token_type_ids -> last_hidden_state), of any batch and length.

    Returns:
        The largest difference from the original's states over the example's real tokens.

    Raises:
        UserError: onnx is not installed, the export fails, or the states differ by more than `TOLERANCE`.
    """
    _modules()
    model.eval()
    given = tuple(_arrays(example).values())
    sizes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                _LastStates(model),
                tuple(torch.from_numpy(a) for a in given),
                str(file),
                input_names=list(INPUTS),
                output_names=["last_hidden_state"],
                dynamic_shapes=dict.fromkeys(INPUTS, sizes),
                external_data=False,
                dynamo=True,
                verbose=False,
            )
    except (ImportError, RuntimeError, ValueError) as error:
        raise UserError(
            f"the model cannot be written as ONNX ({first_line(error)})", "use --format transformers"
        ) from error
    gap = float(np.abs((onnx_states(file, example) - torch_states(model, example))[example.mask.numpy()]).max())
    require(gap <= TOLERANCE, f"the ONNX file's states differ by {gap:.2g}", "use --format transformers")
    return gap


def quantize_onnx(file: Path, into: Path) -> None:
    """The same file with 8-bit weights; activations are quantised as they come."""
    _, quantization = _modules()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantization.quantize_dynamic(str(file), str(into), weight_type=quantization.QuantType.QInt8)


def onnx_states(file: Path, batch: Batch) -> np.ndarray:
    """[batch, tokens, width] by onnxruntime."""
    runtime, _ = _modules()
    settings = runtime.SessionOptions()
    settings.log_severity_level = 3
    session = runtime.InferenceSession(str(file), settings, providers=["CPUExecutionProvider"])
    return session.run(None, _arrays(batch))[0]


@torch.no_grad()
def torch_states(model: PreTrainedModel, batch: Batch) -> np.ndarray:
    """The same by transformers."""
    arrays = {name: torch.from_numpy(value) for name, value in _arrays(batch).items()}
    return model(**arrays).last_hidden_state.numpy()


def _arrays(batch: Batch) -> dict[str, np.ndarray]:
    values = (batch.first, batch.mask.long(), batch.types)
    return {name: value.numpy() for name, value in zip(INPUTS, values, strict=True)}


def likeness(ours: np.ndarray, theirs: np.ndarray, mask: np.ndarray) -> float:
    """Mean cosine of the states of real tokens."""
    a, b = ours[mask], theirs[mask]
    return float(((a * b).sum(-1) / (np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1))).mean())
