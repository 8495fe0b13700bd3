"""Checkpoints: nested state dicts in one safetensors file, no pickles, whole or absent.

A state is any tree of dicts, lists, tuples, tensors, numpy arrays and plain values, as `state_dict()` returns
them. Tensors are stored as safetensors, the tree around them as JSON in the file's metadata together with a
digest of the tensors, so a truncated or altered file is refused by name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as safetensors_bytes

from stillhouse.core.errors import UserError, first_line
from stillhouse.core.files import parse_json, write_atomically


def save_checkpoint(state: Mapping[str, Any], path: Path) -> None:
    """Write `state` to `path` atomically."""
    tensors: dict[str, torch.Tensor] = {}
    tree = json.dumps(_take_apart(dict(state), "", tensors))
    metadata = {"tree": tree, "digest": _digest(tree, tensors)}
    write_atomically(path, safetensors_bytes(tensors, metadata=metadata))


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote, onto the CPU.

    Raises:
        UserError: the file is missing, truncated, altered, or not a checkpoint.
    """
    mend = "remove that file to go on from the checkpoint before it"
    if not path.is_file():
        raise UserError(f"no checkpoint {path}", "start the run again")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError) as error:
        raise UserError(f"checkpoint {path} is damaged ({error})", mend) from error
    if "tree" not in metadata or metadata.get("digest") != _digest(metadata["tree"], tensors):
        raise UserError(f"checkpoint {path} is damaged (its digest does not match)", mend)
    try:
        state = _put_together(parse_json(metadata["tree"]), tensors)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"checkpoint {path} is no checkpoint of this version ({first_line(error)})", mend) from error
    if not isinstance(state, dict):
        raise UserError(f"checkpoint {path} is no checkpoint of this version (it holds no state)", mend)
    return state


def _take_apart(value: Any, name: str, tensors: dict[str, torch.Tensor]) -> Any:
    """The JSON tree of `value`; its tensors go into `tensors` under their path."""
    if isinstance(value, torch.Tensor):
        # cloned: safetensors refuses tensors that share memory, as tied weights do
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {"tensor": name}
    if isinstance(value, Mapping):
        items = [[key, _take_apart(item, f"{name}/{key}", tensors)] for key, item in value.items()]
        return {"dict": items}
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [_take_apart(item, f"{name}/{i}", tensors) for i, item in enumerate(value)]}
    if value is None or isinstance(value, bool | int | float | str):
        return {"value": value}
    raise TypeError(f"a checkpoint cannot hold {type(value).__name__} at {name}")


def _put_together(tree: dict[str, Any], tensors: Mapping[str, torch.Tensor]) -> Any:
    (kind, content), *_ = tree.items()
    match kind:
        case "tensor":
            return tensors[content]
        case "dict":
            return {key: _put_together(item, tensors) for key, item in content}
        case "list":
            return [_put_together(item, tensors) for item in content]
        case "tuple":
            return tuple(_put_together(item, tensors) for item in content)
        case _:
            return content


def _digest(tree: str, tensors: Mapping[str, torch.Tensor]) -> str:
    digest = hashlib.blake2b(tree.encode(), digest_size=16)
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data if tensor.numel() else b"")
    return digest.hexdigest()


def nan_in(state: Any, name: str = "") -> str | None:
    """Name of the first tensor in `state` that holds a NaN, None where all are numbers."""
    if isinstance(state, torch.Tensor):
        return name if state.is_floating_point() and bool(state.isnan().any()) else None
    items = state.items() if isinstance(state, Mapping) else enumerate(state) if isinstance(state, list | tuple) else ()
    found = (nan_in(item, f"{name}/{key}" if name else str(key)) for key, item in items)
    return next((one for one in found if one is not None), None)


class TrainedWeights:
    """Of a network, what is trained: all of it, or the adapters on a frozen one."""

    def __init__(self, network: torch.nn.Module) -> None:
        self.network = network

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {name: p.detach() for name, p in self.network.named_parameters() if p.requires_grad}

    @torch.no_grad()
    def load_state_dict(self, state_dict: Mapping[str, torch.Tensor]) -> None:
        for name, weight in self.state_dict().items():
            weight.copy_(state_dict[name])
