"""`stillhouse export`: a finished run's model in another tool's format, beside the numbers that show it is the same model."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stillhouse.catalog import CATALOG, load_method
from stillhouse.core.errors import UserError, require
from stillhouse.core.files import folder_bytes, make_folder_atomically, write_atomically, write_json
from stillhouse.core.onnx_files import (
    TOLERANCE,
    Int8,
    Ran,
    numpy_of,
    onnx_call,
    require_onnx,
    run_without_torch,
    torch_call,
    write_int8,
    write_onnx,
)
from stillhouse.core.portable import Call, Format, Portable
from stillhouse.exporting.card import CARD, with_export
from stillhouse.reporting.finished import FinishedRun, read_finished
from stillhouse.reporting.model_card import model_card
from stillhouse.reporting.numbers import BYTES, SECONDS, in_unit, significant

NUMBERS = "export.json"
"""The checks' numbers, in the exported folder."""


@dataclass(frozen=True)
class Check:
    """One form of the model beside the original, on the same real inputs."""

    name: str
    """ "original", "onnx" or "onnx int8 dynamic", ..."""
    size_bytes: int
    difference: float
    """Largest |output - original's output|."""
    scale: float
    """Largest |original's output|."""
    item_seconds: float
    """Median of one item, all networks together."""
    metrics: dict[str, float]

    @property
    def share(self) -> float:
        """The difference as a share of the largest output."""
        return self.difference / max(self.scale, 1e-12)


@dataclass(frozen=True)
class Exported:
    """What `export` wrote."""

    folder: Path
    format: Format
    checks: tuple[Check, ...]
    portable: Portable


def export(run: Path, format: Format, out: Path | None = None, int8: Int8 | None = None) -> Exported:
    """Write a finished run's model in a format, check it on real inputs, and put the numbers into its card.

    Args:
        run: the run folder.
        format: "diffusers", "transformers" or "safetensors" where the model is of that kind, or "onnx".
        out: the folder to write; RUN/export/FORMAT by default. An earlier export there is replaced.
        int8: for onnx, a second file with 8-bit weights: "dynamic" or "static".

    Raises:
        UserError: not finished, no model, a format that it does not have, a package is missing, or a form of the model
            differs from the original by more than `TOLERANCE`.
    """
    finished = read_finished(run)
    require(int8 is None or format == "onnx", f"--int8 with --format {format}", "int8 is for --format onnx")
    folder = out or run / "export" / format
    known = not folder.exists() or (folder / NUMBERS).is_file() or (folder.is_dir() and not any(folder.iterdir()))
    require(known, f"{folder} exists and is not an export", "name another folder with --out")
    if format == "onnx":
        require_onnx()
    portable = portable_of(finished)
    require(
        format == "onnx" or format in portable.opens,
        f"the model of {run} has no {format} form",
        f"choose one of {', '.join([*portable.opens, 'onnx'])}",
    )
    checks: list[Check] = []

    def fill(place: Path) -> None:
        if format == "onnx":
            checks.extend(_write_onnx(finished, portable, place, int8))
        else:
            checks.extend(_copy(finished, portable, format, place))
        _describe(finished, portable, format, checks, place)

    make_folder_atomically(folder, fill)
    return Exported(folder, format, tuple(checks), portable)


def portable_of(run: FinishedRun) -> Portable:
    """What the run's method says of its model.

    Raises:
        UserError: the method's result is not a network.
    """
    offered = getattr(load_method(run.method), "portable", None)
    if offered is None:
        title = CATALOG[run.method].title
        raise UserError(
            f"what {title} makes is not a network to export",
            f"its result lies in {run.folder / 'model'}; see its README.md",
        )
    portable: Portable = offered(run.folder)
    return portable


def _copy(run: FinishedRun, portable: Portable, format: Format, place: Path) -> list[Check]:
    """The model folder, opened again by the format's own library."""
    shutil.copytree(run.folder / "model", place, dirs_exist_ok=True)
    original = _original(portable, folder_bytes(run.folder / "model"))
    opened = [module.cpu().eval() for module in portable.opens[format](place)]
    calls = [torch_call(network, module) for network, module in zip(portable.networks, opened, strict=True)]
    check = _compared(portable, format, calls, folder_bytes(place))
    _require_parity(check)
    return [original, check]


def _original(portable: Portable, size: int) -> Check:
    return _compared(portable, "original", [torch_call(network) for network in portable.networks], size)


def _compared(portable: Portable, name: str, calls: Sequence[Call], size: int) -> Check:
    inputs = [numpy_of(network.inputs) for network in portable.networks]
    made = [call(given) for call, given in zip(calls, inputs, strict=True)]
    ones = [{key: values[:1] for key, values in given.items()} for given in inputs]
    seconds = sum(_median_seconds(call, one) for call, one in zip(calls, ones, strict=True))
    return _check(portable, name, made, calls, size, seconds)


def _median_seconds(call: Call, one: dict[str, np.ndarray]) -> float:
    times = []
    for _ in range(6):
        started = time.perf_counter()
        call(one)
        times.append(time.perf_counter() - started)
    return sorted(times[1:])[2]


def _check(
    portable: Portable, name: str, made: Sequence[list[np.ndarray]], calls: Sequence[Call], size: int, seconds: float
) -> Check:
    difference, scale = 0.0, 0.0
    for network, outputs in zip(portable.networks, made, strict=True):
        for ours, theirs in zip(outputs, torch_call(network)(numpy_of(network.inputs)), strict=True):
            difference = float(np.maximum(difference, np.abs(ours - theirs).max()))  # keeps what is not a number
            scale = max(scale, float(np.abs(theirs).max()))
    metrics: dict[str, float] = {}
    if portable.quality:
        named = {network.name: call for network, call in zip(portable.networks, calls, strict=True)}
        found = portable.quality(named)
        metrics = {metric.key: found[metric.key] for metric in portable.metrics}
    return Check(name, size, difference, scale, seconds, metrics)


def _require_parity(check: Check) -> None:
    if not check.share <= TOLERANCE:  # also where it is not a number
        raise UserError(
            f"as {check.name} the model's outputs differ by {check.share:.2g} of their largest value",
            f"nothing was written, for more than {TOLERANCE:g} is not the same model; export another format",
        )


def _write_onnx(run: FinishedRun, portable: Portable, place: Path, int8: Int8 | None) -> list[Check]:
    """A file a network, run by onnxruntime in a process without torch, and perhaps int8 ones beside them."""
    for name in portable.files:
        source = run.folder / "model" / name
        shutil.copytree(source, place / source.name) if source.is_dir() else shutil.copy2(source, place / source.name)
    full = [place / f"{network.name}.onnx" for network in portable.networks]
    for network, path in zip(portable.networks, full, strict=True):
        write_onnx(network, path)
    checks = [_original(portable, folder_bytes(run.folder / "model")), _checked_files(portable, "onnx", full)]
    _require_parity(checks[1])
    if int8:
        small = [path.with_name(f"{path.stem}.int8-{int8}.onnx") for path in full]
        for network, path, made in zip(portable.networks, full, small, strict=True):
            write_int8(network, path, made, int8)
        checks.append(_checked_files(portable, f"onnx int8 {int8}", small))
    return checks


def _checked_files(portable: Portable, name: str, files: Sequence[Path]) -> Check:
    ran: list[Ran] = [
        run_without_torch(path, numpy_of(network.inputs))
        for path, network in zip(files, portable.networks, strict=True)
    ]
    made = [[one.outputs[key] for key in network.outputs] for one, network in zip(ran, portable.networks, strict=True)]
    size, seconds = sum(path.stat().st_size for path in files), sum(one.seconds for one in ran)
    return _check(portable, name, made, [onnx_call(path) for path in files], size, seconds)


def _describe(run: FinishedRun, portable: Portable, format: Format, checks: Sequence[Check], place: Path) -> None:
    numbers = [{**vars(check), "share": check.share} for check in checks]
    write_json(place / NUMBERS, {"format": format, "inputs": portable.about_inputs, "checks": numbers})
    card = model_card(run, CATALOG[run.method].paper)
    write_atomically(place / CARD, with_export(card, portable, format, checks))


def print_export(made: Exported, *, as_json: bool) -> None:
    """Where it lies and how it compares, a line a form."""
    if as_json:
        print((made.folder / NUMBERS).read_text(encoding="utf-8"), end="")
        return
    print(f"{made.folder}: checked on {made.portable.about_inputs}")
    for check in made.checks:
        told = [f"{m.title} {significant(check.metrics[m.key], 4)}" for m in made.portable.metrics]
        if check.name != "original":
            told.insert(0, f"differs by {significant(check.share)} of the largest output")
        size, seconds = in_unit(check.size_bytes, BYTES), in_unit(check.item_seconds, SECONDS)
        print(f"  {check.name}: {', '.join([*told, size, f'{seconds} an item'])}")
