"""An exit as a model of its own: a folder that sentence-transformers, transformers and stillhouse open, and an ONNX file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors.torch import save_file
from torch import Tensor, nn

from stillhouse.core.errors import require
from stillhouse.core.files import write_json
from stillhouse.core.onnx_files import write_checked
from stillhouse.core.portable import Network
from stillhouse.encoders.batches import padded
from stillhouse.encoders.multi_exit import MultiExitEncoder, cut_at
from stillhouse.methods.modular_encoder.model import CodeEncoder, save_model

SAMPLES = ("parse a date from a string", "def add(a, b):\n    return a + b", "x")
MODULES = ("Transformer", "Pooling", "Dense", "Normalize")


def cut_model(model: CodeEncoder, at: int) -> CodeEncoder:
    """The stand-alone model of an exit.

    Raises:
        UserError: no such exit.
    """
    table = tuple(row for row in model.settings.table if row.exit == at)
    return CodeEncoder(cut_at(model.encoder, at), model.tokenizer, replace(model.settings, table=table))


def export_exit(model: CodeEncoder, at: int, folder: Path) -> CodeEncoder:
    """Write the stand-alone model of an exit; its embeddings are those of the whole model.

    Raises:
        UserError: no such exit, or the folder holds something.
    """
    require(
        not folder.exists() or not any(folder.iterdir()),
        f"{folder} is not an empty folder",
        "choose another with --out",
    )
    cut = cut_model(model, at)
    save_model(cut, folder)
    _write_sentence_transformers(cut, at, folder)
    return cut


def _write_sentence_transformers(cut: CodeEncoder, at: int, folder: Path) -> None:
    """The files by which sentence-transformers finds pooling, projection and prompts."""
    settings, width = cut.settings, cut.encoder.trunk.config.hidden_size
    paths = ("", *(f"{i}_{name}" for i, name in enumerate(MODULES) if i))
    write_json(
        folder / "modules.json",
        [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{MODULES[i]}"}
            for i, path in enumerate(paths)
        ],
    )
    longest = max(settings.max_code_tokens, settings.max_text_tokens)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": longest, "do_lower_case": False})
    prompts = {"query": f"{settings.text_instruction} ".lstrip(), "document": f"{settings.code_instruction} ".lstrip()}
    write_json(
        folder / "config_sentence_transformers.json",
        {"prompts": prompts, "default_prompt_name": None, "similarity_fn_name": "cosine"},
    )
    write_json(
        folder / paths[1] / "config.json",
        {"word_embedding_dimension": width, "pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False},
    )
    dense = {
        "in_features": width,
        "out_features": cut.encoder.dimensions,
        "bias": False,
        "activation_function": "torch.nn.modules.linear.Identity",
    }
    write_json(folder / paths[2] / "config.json", dense)
    weight = cut.encoder.state_dict()[f"projections.{at}.weight"].contiguous()
    save_file({"linear.weight": weight}, folder / paths[2] / "model.safetensors")
    (folder / paths[3]).mkdir(exist_ok=True)


class _Plain(nn.Module):
    """Ids and attention mask to embeddings."""

    def __init__(self, encoder: MultiExitEncoder) -> None:
        super().__init__()
        self.encoder, self.at = encoder, encoder.exits[0]

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.encoder(input_ids, attention_mask.bool(), (self.at,))[self.at]


def network_of(cut: CodeEncoder) -> Network:
    """A stand-alone model as other tools take it, with texts of several lengths to compare them on."""
    encoded = cut.tokenized(SAMPLES, "code")
    ids, mask = padded(encoded, np.arange(len(SAMPLES)), int(cut.tokenizer.pad_token_id))
    cut.encoder.trunk.config._attn_implementation = "eager"  # the others' kernels cannot be written
    inputs = {"input_ids": ids, "attention_mask": mask.long()}
    varying = {name: {1: "tokens"} for name in inputs}
    return Network("model", _Plain(cut.encoder.cpu()).eval(), inputs, ("sentence_embedding",), varying=varying)


def export_onnx(cut: CodeEncoder, path: Path) -> float:
    """Write the stand-alone model as ONNX; the largest difference to the network.

    Raises:
        UserError: onnx or onnxruntime is missing, or the file says something else than the network.
    """
    return write_checked(network_of(cut), path)
