"""What a method's model is to other tools: its networks with real inputs, how their formats are opened, how quality is told.

A method whose result is a model offers `portable(run_folder) -> Portable` in its module, and `stillhouse export` does the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from stillhouse.core.result import Metric

Format = Literal["diffusers", "transformers", "safetensors", "onnx"]
Arrays = Mapping[str, "np.ndarray"]
Call = Callable[[Arrays], list["np.ndarray"]]
"""One of the networks, whatever runs it: named inputs, item by item along the first axis, to its outputs in order."""


@dataclass(frozen=True, eq=False)
class Network:
    """One network of a model; it becomes one ONNX file."""

    name: str
    """Of its file: "model" becomes model.onnx."""
    module: nn.Module
    """On the CPU, in evaluation mode; takes the inputs in their order and gives the outputs in theirs."""
    inputs: Mapping[str, Tensor]
    """Real ones that nothing was fitted on, item by item along the first axis."""
    outputs: tuple[str, ...]
    calibration: Mapping[str, Tensor] = field(default_factory=dict)
    """Real ones of the training split, from which static int8 takes its ranges; without them there is no static int8."""
    varying: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    """Axes beside the first whose length is free, with a name each: {"input_ids": {1: "tokens"}}."""


@dataclass(frozen=True, eq=False)
class Portable:
    """A run's model as other tools take it."""

    networks: tuple[Network, ...]
    opens: Mapping[Format, Callable[[Path], Sequence[nn.Module]]]
    """For each format that the model folder is already in: how that format's own library opens a copy of the folder,
    as modules in the order of `networks`."""
    about_inputs: str
    """What the real inputs are, in words: "256 images of the report split"."""
    metrics: tuple[Metric, ...] = ()
    quality: Callable[[Mapping[str, Call]], Mapping[str, float]] | None = None
    """Metrics by key when the networks are run by these calls, on data that nothing was fitted on."""
    usage: Mapping[Format, str] = field(default_factory=dict)
    """Python lines that open an exported folder called FOLDER, for its card."""
    files: tuple[str, ...] = ()
    """Files or folders of the model folder that an ONNX file's user needs beside it: a tokenizer, a router."""
