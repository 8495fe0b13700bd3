"""Networks as ONNX files: written, checked, turned into int8, and run."""

from __future__ import annotations

import contextlib
import io
import logging
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from stillhouse.core.errors import UserError, first_line, require
from stillhouse.core.portable import Arrays, Call, Network

Int8 = Literal["dynamic", "static"]
CALIBRATION_BATCH = 32
TOLERANCE = 1e-4
"""The largest difference from the original's outputs, as a share of their largest value, that float32 may have."""
FIRST_ITEMS = 4
"""Items that the exporter sees; the first axis is free."""


@dataclass(frozen=True, eq=False)
class Ran:
    """What a file gave in a process of its own, without torch."""

    outputs: dict[str, np.ndarray]
    seconds: float
    """Median of one item."""


def require_onnx() -> None:
    """Refuse where the packages are missing.

    Raises:
        UserError: names the first one.
    """
    for name in ("onnx", "onnxruntime", "onnxscript"):
        try:
            __import__(name)
        except ModuleNotFoundError:
            raise UserError(f"ONNX files need the package {name!r}", "pip install 'stillhouse[export]'") from None


def write_onnx(network: Network, path: Path) -> None:
    """Write the network as one ONNX file whose first axis, and those in `varying`, have a free length.

    Raises:
        UserError: an operation of the network has no counterpart in ONNX.
    """
    items = tuple(values[:FIRST_ITEMS] for values in network.inputs.values())
    shapes = tuple(
        {0: torch.export.Dim.DYNAMIC, **dict.fromkeys(network.varying.get(name, ()), torch.export.Dim.DYNAMIC)}
        for name in network.inputs
    )
    try:
        with _quiet_exporter():
            program = torch.onnx.export(
                network.module,
                items,
                input_names=list(network.inputs),
                output_names=list(network.outputs),
                dynamic_shapes=shapes,
                dynamo=True,
                verbose=False,
            )
            assert program is not None
            program.save(str(path), include_initializers=True, external_data=False)
    except Exception as error:  # the exporter wraps whatever went wrong in errors of its own
        raise UserError(
            f"{network.name} cannot be written as ONNX ({first_line(error)})", "export another format"
        ) from error
    tidy(path, {name: {0: "items", **network.varying.get(name, {})} for name in network.inputs})


def write_checked(network: Network, path: Path) -> float:
    """Write the network as ONNX and run the file on the network's inputs.

    Returns:
        The largest difference from the network's outputs.

    Raises:
        UserError: a package is missing, an operation has no counterpart in ONNX, or the file says something else: more than
            `TOLERANCE` of the largest output.
    """
    require_onnx()
    write_onnx(network, path)
    inputs = numpy_of(network.inputs)
    pairs = list(zip(onnx_call(path)(inputs), torch_call(network)(inputs), strict=True))
    difference, scale = (
        max(float(np.abs(a).max()) for a in arrays) for arrays in ([x - y for x, y in pairs], [y for _, y in pairs])
    )
    if not difference <= TOLERANCE * scale:  # also where it is not a number
        raise UserError(f"{path.name} differs from the network by {difference:.2g}", "use --format transformers")
    return difference


def tidy(path: Path, axes: Mapping[str, Mapping[int, str]]) -> None:
    """Call the free axes of the inputs by name, and take out the source lines and paths that the exporter notes."""
    import onnx

    model = onnx.load(path)
    for given in model.graph.input:
        for axis, name in axes[given.name].items():
            given.type.tensor_type.shape.dim[axis].dim_param = name
    for noted in (model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.initializer):
        del noted.metadata_props[:]
    for node in model.graph.node:
        node.doc_string = ""
    onnx.save(model, path)


@contextlib.contextmanager
def _quiet_exporter() -> Iterator[None]:
    """The exporter tells of every operator set it looks at."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def write_int8(network: Network, full: Path, path: Path, how: Int8) -> None:
    """Write the file `full` with 8-bit weights: ranges of activations taken when it runs, or from calibration inputs.

    Raises:
        UserError: static without inputs to calibrate on, or onnxruntime cannot quantise the network.
    """
    from onnxruntime import quantization

    with tempfile.TemporaryDirectory() as scratch, _quiet_exporter():
        clean = Path(scratch) / "clean.onnx"
        try:
            quantization.quant_pre_process(full, clean, skip_symbolic_shape=True)
            if how == "dynamic":
                quantization.quantize_dynamic(clean, path)
                return
            require(bool(network.calibration), f"{network.name} has no inputs to calibrate on", "use --int8 dynamic")
            quantization.quantize_static(
                clean, path, Batches(network.calibration), calibrate_method=quantization.CalibrationMethod.MinMax
            )
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"{network.name} cannot be made int8 ({first_line(error)})", "leave out --int8, or use the other kind"
            ) from error


class Batches:
    """Calibration inputs a batch at a time, as onnxruntime's CalibrationDataReader gives them."""

    def __init__(self, inputs: Mapping[str, torch.Tensor]) -> None:
        arrays = numpy_of(inputs)
        starts = range(0, len(next(iter(arrays.values()))), CALIBRATION_BATCH)
        self.left = iter([{name: v[s : s + CALIBRATION_BATCH] for name, v in arrays.items()} for s in starts])

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next batch; None after the last."""
        return next(self.left, None)


def numpy_of(tensors: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Tensors as arrays."""
    return {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}


def run_without_torch(path: Path, inputs: Arrays) -> Ran:
    """Run an ONNX file in a new process that never loads torch.

    Raises:
        UserError: onnxruntime cannot load or run it.
    """
    with tempfile.TemporaryDirectory() as scratch:
        given, made = Path(scratch) / "inputs.npz", Path(scratch) / "outputs.npz"
        np.savez(given, **inputs)  # type: ignore[arg-type]
        script = Path(__file__).with_name("run_onnx.py")
        done = subprocess.run(
            [sys.executable, str(script), str(path), str(given), str(made)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["no message"]
            raise UserError(f"onnxruntime cannot run {path.name} ({lines[-1][:160]})", "export another format")
        arrays = dict(np.load(made))
    return Ran({name: array for name, array in arrays.items() if name != "seconds"}, float(arrays["seconds"]))


def onnx_call(path: Path) -> Call:
    """An ONNX file as a function of arrays."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    return lambda inputs: list(session.run(None, dict(inputs)))


def torch_call(network: Network, module: torch.nn.Module | None = None) -> Call:
    """A network as a function of arrays, run by torch."""

    @torch.no_grad()
    def call(inputs: Arrays) -> list[np.ndarray]:
        made = (module or network.module)(
            *(torch.from_numpy(np.ascontiguousarray(inputs[name])) for name in network.inputs)
        )
        return [part.numpy() for part in (made if isinstance(made, tuple) else (made,))]

    return call
